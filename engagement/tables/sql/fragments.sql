-- `session_fragments` of one slot or of many: what each slot's events alone say about each owner's sessions (R7).
-- Input: slot_events, with `place`, the row's number in its slot's total order. Slots are kept apart by the key `slot`, so
-- that one text makes a single slot and whole days. Parameters: $slot_us, $gap_us (microseconds), $by_client (true in client mode).
WITH
-- one row per event: its slot, its owner, and a bucket no wider than the gap
placed AS (
    SELECT
        *,
        epoch_us(event_time) // CAST($slot_us AS BIGINT) AS slot,
        nullif(session_id, '') AS own_session_id,
        epoch_us(event_time) AS at_us,
        epoch_us(event_time) // CAST($gap_us AS BIGINT) AS bucket,
        CASE WHEN event_type = 'screen_view' AND screen IS NOT NULL THEN {'place': place, 'screen': screen} END AS viewed
    FROM slot_events
),

-- one row per slot, user, client session id and bucket: the only step that sees every event
visits AS (
    SELECT
        slot,
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
    GROUP BY slot, user_id, own_session_id, bucket
),

-- one row per visit with its owner
owned AS (
    SELECT *, CASE WHEN $by_client THEN session_id END AS client_id
    FROM visits
),

-- one row per slot, owner and bucket: events of one bucket are at most one gap apart, so they share a session
buckets AS (
    SELECT slot, user_id, client_id, bucket, min(first_us) AS first_us, max(last_us) AS last_us
    FROM owned
    GROUP BY slot, user_id, client_id, bucket
),

-- one row per slot, owner and bucket, marked where the gap before it starts a new fragment
marked AS (
    SELECT
        *,
        CASE WHEN first_us - lag(last_us) OVER owner_time <= CAST($gap_us AS BIGINT) THEN 0 ELSE 1 END AS starts
    FROM buckets
    WINDOW owner_time AS (PARTITION BY slot, user_id, client_id ORDER BY bucket)
),

-- one row per slot, owner and bucket, with the number of its fragment
numbered AS (
    SELECT slot, user_id, client_id, bucket, sum(starts) OVER (PARTITION BY slot, user_id, client_id ORDER BY bucket) AS fragment
    FROM marked
),

-- one row per visit, with the number of its fragment
pieces AS (
    SELECT o.*, n.fragment AS fragment
    FROM owned AS o
    JOIN numbered AS n
        ON n.slot = o.slot AND n.user_id = o.user_id AND n.client_id IS NOT DISTINCT FROM o.client_id AND n.bucket = o.bucket
),

-- one row per fragment and client session id, at its first appearance
client_ids AS (
    SELECT slot, user_id, client_id, fragment, session_id, min(place) AS place
    FROM pieces
    WHERE session_id IS NOT NULL
    GROUP BY slot, user_id, client_id, fragment, session_id
),

-- one row per fragment that has client session ids
client_id_lists AS (
    SELECT slot, user_id, client_id, fragment, list_sort(list({'place': place, 'session_id': session_id}))[1:50] AS appeared
    FROM client_ids
    GROUP BY slot, user_id, client_id, fragment
),

-- one row per fragment
fragments AS (
    SELECT
        slot,
        user_id,
        client_id,
        fragment,
        make_timestamptz(min(first_us)) AS started_at,
        make_timestamptz(max(last_us)) AS ended_at,
        sum({fact.name}) AS {fact.name},
        list_sort(flatten(list(viewed) FILTER (viewed IS NOT NULL))) AS viewed,
        arg_min(dimensions, place) AS dimensions
    FROM pieces
    GROUP BY slot, user_id, client_id, fragment
)

-- one row per fragment, paths bounded, slot by slot in total order
SELECT
    f.slot AS slot,
    f.user_id AS user_id,
    f.client_id AS client_id,
    f.started_at AS started_at,
    f.ended_at AS ended_at,
    f.{fact.name} AS {fact.name},
    coalesce(list_transform(f.viewed[1:50], lambda v: v.screen), []) AS screen_path,
    f.viewed[1].screen AS entry_screen,
    f.viewed[-1].screen AS exit_screen,
    f.dimensions.{dimension.name} AS {dimension.name},
    coalesce(list_transform(c.appeared, lambda a: a.session_id), []) AS client_session_ids
FROM fragments AS f
LEFT JOIN client_id_lists AS c
    ON c.slot = f.slot AND c.user_id = f.user_id AND c.client_id IS NOT DISTINCT FROM f.client_id AND c.fragment = f.fragment
ORDER BY f.slot, f.user_id, f.client_id NULLS FIRST, f.started_at
