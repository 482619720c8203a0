-- Sessions of the owners in `reach_fragments`: their fragments stitched wherever the gap allows (R7).
-- Input: reach_fragments, all fragments of these owners in one UTC day and both its neighbours.
-- Parameters: $gap_us (microseconds), $by_client (true in client mode). Exact for sessions that start in the middle day.
WITH
-- one row per fragment, with its neighbours
followed AS (
    SELECT
        *,
        epoch_us(started_at) AS first_us,
        epoch_us(ended_at) AS last_us,
        epoch_us(started_at) // 86400000000 AS day_number,
        epoch_us(started_at) - lag(epoch_us(ended_at)) OVER owner_time AS gap_before_us,
        lead(epoch_us(started_at)) OVER owner_time - epoch_us(ended_at) AS gap_after_us
    FROM reach_fragments
    WINDOW owner_time AS (PARTITION BY user_id, client_id ORDER BY started_at)
),

-- one row per fragment within a gap of another. All others are sessions by themselves, and of no automated day: such a day
-- has no gap, and more than one slot. A fragment lies within one day, so the end of the one before says that one's day
chained AS (
    SELECT *, (first_us - gap_before_us) // 86400000000 AS day_before
    FROM followed
    WHERE gap_before_us <= CAST($gap_us AS BIGINT) OR gap_after_us <= CAST($gap_us AS BIGINT)
),

-- one row per owner and UTC day: automated where no gap shows from midnight to midnight (interface, whole-day rule)
days AS (
    SELECT
        user_id,
        client_id,
        day_number,
        min(first_us) - day_number * 86400000000 <= CAST($gap_us AS BIGINT)
        AND (day_number + 1) * 86400000000 - max(last_us) <= CAST($gap_us AS BIGINT)
        AND coalesce(max(gap_before_us) FILTER (day_before = day_number), 0) <= CAST($gap_us AS BIGINT) AS is_automated
    FROM chained
    GROUP BY user_id, client_id, day_number
),

-- one row per chained fragment, marked where a session starts: after a gap, or at the midnights of an automated day
marked AS (
    SELECT
        o.*,
        d.is_automated AS is_automated,
        CASE
            WHEN o.gap_before_us IS NULL OR o.gap_before_us > CAST($gap_us AS BIGINT) THEN 1
            WHEN o.day_before <> o.day_number AND (d.is_automated OR b.is_automated) THEN 1
            ELSE 0
        END AS starts
    FROM chained AS o
    JOIN days AS d
        ON d.user_id = o.user_id AND d.client_id IS NOT DISTINCT FROM o.client_id AND d.day_number = o.day_number
    LEFT JOIN days AS b
        ON b.user_id = o.user_id AND b.client_id IS NOT DISTINCT FROM o.client_id AND b.day_number = o.day_before
),

-- one row per chained fragment, with the number of its session
numbered AS (
    SELECT *, sum(starts) OVER (PARTITION BY user_id, client_id ORDER BY first_us) AS session
    FROM marked
),

-- one row per session of chained fragments and client session id, at its first appearance
client_ids AS (
    SELECT user_id, client_id, session, client_session_id, min(place) AS place
    FROM (
        SELECT
            user_id,
            client_id,
            session,
            unnest(client_session_ids) AS client_session_id,
            first_us * 64 + generate_subscripts(client_session_ids, 1) AS place
        FROM numbered
    )
    GROUP BY user_id, client_id, session, client_session_id
),

-- one row per such session that has client session ids
client_id_lists AS (
    SELECT user_id, client_id, session, list_sort(list({'place': place, 'id': client_session_id}))[1:50] AS appeared
    FROM client_ids
    GROUP BY user_id, client_id, session
),

-- one row per such session
stitched AS (
    SELECT
        user_id,
        client_id,
        session,
        min(first_us) AS first_us,
        max(last_us) AS last_us,
        sum({fact.name}) AS {fact.name},
        flatten(list_transform(list_sort(list({'first_us': first_us, 'path': screen_path})), lambda f: f.path))[1:50] AS screen_path,
        arg_min(entry_screen, first_us) FILTER (entry_screen IS NOT NULL) AS entry_screen,
        arg_max(exit_screen, first_us) FILTER (exit_screen IS NOT NULL) AS exit_screen,
        arg_min({dimension.name}, first_us) AS {dimension.name},
        bool_or(is_automated) AS is_automated
    FROM numbered
    GROUP BY user_id, client_id, session
),

-- one row per session: most are one fragment, and nothing is to be stitched
sessions AS (
    SELECT s.* EXCLUDE (session), coalesce(list_transform(c.appeared, lambda a: a.id), []) AS client_session_ids
    FROM stitched AS s
    LEFT JOIN client_id_lists AS c
        ON c.user_id = s.user_id AND c.client_id IS NOT DISTINCT FROM s.client_id AND c.session = s.session
    UNION ALL BY NAME
    SELECT
        user_id,
        client_id,
        first_us,
        last_us,
        {fact.name},
        screen_path,
        entry_screen,
        exit_screen,
        {dimension.name},
        false AS is_automated,
        client_session_ids
    FROM followed
    WHERE (gap_before_us <= CAST($gap_us AS BIGINT) OR gap_after_us <= CAST($gap_us AS BIGINT)) IS NOT TRUE
)

-- one row per session
SELECT
    md5(s.user_id || chr(31) || CASE WHEN $by_client THEN coalesce(s.client_id, '') || chr(31) ELSE '' END || CAST(s.first_us AS VARCHAR)) AS session_key,
    s.user_id AS user_id,
    make_timestamptz(s.first_us) AS started_at,
    make_timestamptz(s.last_us) AS ended_at,
    (s.last_us - s.first_us) / 1000000.0 AS duration_seconds,
    s.{fact.name} AS {fact.name},
    s.screen_path AS screen_path,
    s.entry_screen AS entry_screen,
    s.exit_screen AS exit_screen,
    s.client_session_ids AS client_session_ids,
    s.{dimension.name} AS {dimension.name},
    s.last_us - s.first_us > 10000000 OR s.screen_views >= 2 AS is_engaged,
    NOT (s.last_us - s.first_us > 10000000 OR s.screen_views >= 2) AS is_bounce,
    s.is_automated AS is_automated,
    make_timestamptz(s.last_us + CAST($gap_us AS BIGINT)) AS open_until
FROM sessions AS s
