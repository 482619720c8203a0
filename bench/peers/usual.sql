-- Sessions as one usually writes them: QUALIFY for the copies, LAG and a running SUM over all events for the sessions.
-- Input: known (events with copies).
WITH
-- one row per event
events AS (
    SELECT * FROM known
    QUALIFY row_number() OVER (
        PARTITION BY event_id, event_time
        ORDER BY received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    ) = 1
),

-- one row per event, with the one before
followed AS (
    SELECT
        *,
        date_trunc('day', event_time) AS day,
        lag(event_time) OVER user_time AS before,
        row_number() OVER user_time AS place
    FROM events
    WINDOW user_time AS (PARTITION BY user_id ORDER BY event_time, event_id)
),

-- one row per automated user and day
automated AS (
    SELECT user_id, day
    FROM followed
    GROUP BY user_id, day
    HAVING min(event_time) - day <= INTERVAL 30 MINUTE
        AND day + INTERVAL 1 DAY - max(event_time) <= INTERVAL 30 MINUTE
        AND coalesce(max(event_time - before) FILTER (before >= day), INTERVAL 0 MINUTE) <= INTERVAL 30 MINUTE
),

-- one row per event, marked where a session starts
marked AS (
    SELECT
        f.*,
        a.user_id IS NOT NULL AS is_automated,
        f.before IS NULL
        OR f.event_time - f.before > INTERVAL 30 MINUTE
        OR (f.before < f.day AND (a.user_id IS NOT NULL OR b.user_id IS NOT NULL)) AS starts
    FROM followed AS f
    LEFT JOIN automated AS a ON a.user_id = f.user_id AND a.day = f.day
    LEFT JOIN automated AS b ON b.user_id = f.user_id AND b.day = date_trunc('day', f.before)
),

-- one row per event, with the number of its session
numbered AS (
    SELECT *, sum(CAST(starts AS INTEGER)) OVER (PARTITION BY user_id ORDER BY place) AS session
    FROM marked
),

-- one row per session
client_ids AS (
    SELECT user_id, session, list(session_id ORDER BY first_place)[1:50] AS client_session_ids
    FROM (
        SELECT user_id, session, session_id, min(place) AS first_place
        FROM numbered WHERE session_id IS NOT NULL GROUP BY user_id, session, session_id
    )
    GROUP BY user_id, session
),

-- one row per session
sessions AS (
    SELECT
        user_id,
        session,
        min(event_time) AS started_at,
        max(event_time) AS ended_at,
        count(*) AS event_count,
        count(*) FILTER (event_type = 'screen_view') AS screen_views,
        count(*) FILTER (event_type = 'view_notification') AS notification_views,
        count(*) FILTER (event_type = 'click_notification') AS notification_clicks,
        count(*) FILTER (event_type = 'install') AS installs,
        list(screen ORDER BY place) FILTER (event_type = 'screen_view' AND screen IS NOT NULL) AS screens,
        arg_min(device_type, place) AS device_type,
        arg_min(app_version, place) AS app_version,
        arg_min(country, place) AS country,
        bool_or(is_automated) AS is_automated
    FROM numbered
    GROUP BY user_id, session
)

SELECT
    md5(s.user_id || chr(31) || epoch_us(s.started_at)) AS session_key,
    s.user_id AS user_id,
    s.started_at AS started_at,
    s.ended_at AS ended_at,
    (epoch_us(s.ended_at) - epoch_us(s.started_at)) / 1000000 AS duration_seconds,
    s.event_count AS event_count,
    s.screen_views AS screen_views,
    s.notification_views AS notification_views,
    s.notification_clicks AS notification_clicks,
    s.installs AS installs,
    coalesce(s.screens, [])[1:50] AS screen_path,
    s.screens[1] AS entry_screen,
    s.screens[-1] AS exit_screen,
    coalesce(c.client_session_ids, []) AS client_session_ids,
    s.device_type AS device_type,
    s.app_version AS app_version,
    s.country AS country,
    s.ended_at - s.started_at > INTERVAL 10 SECOND OR s.screen_views >= 2 AS is_engaged,
    NOT (s.ended_at - s.started_at > INTERVAL 10 SECOND OR s.screen_views >= 2) AS is_bounce,
    s.is_automated AS is_automated,
    s.ended_at + INTERVAL 30 MINUTE AS open_until
FROM sessions AS s
LEFT JOIN client_ids AS c ON c.user_id = s.user_id AND c.session = s.session
