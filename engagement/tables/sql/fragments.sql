-- `session_fragments` of one slot or of many: what each slot's events alone say about each owner's sessions (R7).
-- Input: slot_events, with `place`, the row's number in its slot's total order. Slots are kept apart by the key `slot`, so
-- that one text makes a single slot and whole days. Parameters: $slot_us, $gap_us (microseconds), $by_client (true in client mode).
-- The rows come in no order; the builder sorts them.
WITH
-- one row per event, with the start of its bucket: a part of the slot that is no wider than the gap
placed AS (
    SELECT
        *,
        nullif(session_id, '') AS own_session_id,
        epoch_us(event_time) AS at_us,
        epoch_us(event_time) - epoch_us(event_time) % CAST($slot_us AS BIGINT) % CAST($gap_us AS BIGINT) AS bucket,
        CASE WHEN event_type = 'screen_view' AND screen IS NOT NULL THEN {'place': place, 'screen': screen} END AS viewed
    FROM slot_events
),

-- one row per user, client session id and bucket, whose events share a session: the only step that sees every event
visits AS (
    SELECT
        user_id,
        own_session_id AS session_id,
        bucket,
        min(place) AS place,
        min(at_us) AS first_us,
        max(at_us) AS last_us,
        {fact.sql} AS {fact.name},
        list(viewed) FILTER (viewed IS NOT NULL) AS viewed,
        arg_min({{dimension_struct}}, place) AS dimensions
    FROM placed
    GROUP BY user_id, own_session_id, bucket
),

-- one row per visit, with its slot and owner, and how far the owner's events reach before it: visits may overlap
followed AS (
    SELECT
        *,
        max(last_us) OVER (owner_time ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before_us,
        lead(first_us) OVER owner_time AS next_us
    FROM (SELECT *, bucket // CAST($slot_us AS BIGINT) AS slot, CASE WHEN $by_client THEN session_id END AS client_id FROM visits)
    WINDOW owner_time AS (PARTITION BY slot, user_id, client_id ORDER BY place)
),

-- one row per visit, marked where it starts a fragment, and where the next one does
marked AS (
    SELECT
        *,
        coalesce(first_us - before_us > CAST($gap_us AS BIGINT), true) AS starts,
        coalesce(next_us - greatest(before_us, last_us) > CAST($gap_us AS BIGINT), true) AS ends
    FROM followed
),

-- one row per visit that shares a fragment with others, with the fragment's number
numbered AS (
    SELECT *, sum(CAST(starts AS INTEGER)) OVER (PARTITION BY slot, user_id, client_id ORDER BY place) AS fragment
    FROM marked
    WHERE NOT (starts AND ends)
),

-- one row per such fragment and client session id, at its first appearance
client_ids AS (
    SELECT slot, user_id, client_id, fragment, session_id, min(place) AS place
    FROM numbered
    WHERE session_id IS NOT NULL
    GROUP BY slot, user_id, client_id, fragment, session_id
),

-- one row per such fragment that has client session ids
client_id_lists AS (
    SELECT slot, user_id, client_id, fragment, list_sort(list({'place': place, 'session_id': session_id}))[1:50] AS appeared
    FROM client_ids
    GROUP BY slot, user_id, client_id, fragment
),

-- one row per such fragment
joined AS (
    SELECT
        slot,
        user_id,
        client_id,
        fragment,
        min(first_us) AS first_us,
        max(last_us) AS last_us,
        sum({fact.name}) AS {fact.name},
        flatten(list(viewed) FILTER (viewed IS NOT NULL)) AS viewed,
        arg_min(dimensions, place) AS dimensions
    FROM numbered
    GROUP BY slot, user_id, client_id, fragment
),

-- one row per fragment: most are one visit, and nothing is to be joined
fragments AS (
    SELECT j.* EXCLUDE (fragment), list_transform(c.appeared, lambda a: a.session_id) AS client_session_ids
    FROM joined AS j
    LEFT JOIN client_id_lists AS c
        ON c.slot = j.slot AND c.user_id = j.user_id AND c.client_id IS NOT DISTINCT FROM j.client_id AND c.fragment = j.fragment
    UNION ALL BY NAME
    SELECT
        slot,
        user_id,
        client_id,
        first_us,
        last_us,
        {fact.name},
        viewed,
        dimensions,
        CASE WHEN session_id IS NOT NULL THEN [session_id] END AS client_session_ids
    FROM marked
    WHERE starts AND ends
),

-- one row per fragment, its screens in order
ordered AS (
    SELECT * EXCLUDE (viewed), list_sort(viewed) AS viewed
    FROM fragments
)

-- one row per fragment, paths bounded
SELECT
    slot AS slot,
    user_id AS user_id,
    client_id AS client_id,
    make_timestamptz(first_us) AS started_at,
    make_timestamptz(last_us) AS ended_at,
    {fact.name} AS {fact.name},
    coalesce(list_transform(viewed[1:50], lambda v: v.screen), []) AS screen_path,
    viewed[1].screen AS entry_screen,
    viewed[-1].screen AS exit_screen,
    dimensions.{dimension.name} AS {dimension.name},
    coalesce(client_session_ids, []) AS client_session_ids
FROM ordered
