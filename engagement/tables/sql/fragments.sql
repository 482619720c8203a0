-- One slot of `session_fragments`: what the slot's events alone say about each owner's sessions (R7).
-- Input: slot_events. Parameters: $gap_us (microseconds), $by_client (true in client mode).
WITH
-- one row per event: its owner, its place in the slot's total order, and a bucket no wider than the gap
placed AS (
    SELECT
        user_id,
        CASE WHEN $by_client THEN nullif(session_id, '') END AS client_id,
        nullif(session_id, '') AS session_id,
        epoch_us(event_time) AS at_us,
        epoch_us(event_time) // CAST($gap_us AS BIGINT) AS bucket,
        row_number() OVER (ORDER BY event_time, event_id) AS place,
        event_type,
        CASE WHEN event_type = 'screen_view' THEN screen END AS viewed_screen,
        device_type,
        app_version,
        country
    FROM slot_events
),

-- one row per owner and bucket: events of one bucket are at most one gap apart, so they share a session
buckets AS (
    SELECT
        user_id,
        client_id,
        bucket,
        min(at_us) AS first_us,
        max(at_us) AS last_us,
        count(*) AS event_count,
        count(*) FILTER (event_type = 'screen_view') AS screen_views,
        count(*) FILTER (event_type = 'view_notification') AS notification_views,
        count(*) FILTER (event_type = 'click_notification') AS notification_clicks,
        count(*) FILTER (event_type = 'install') AS installs,
        list(viewed_screen ORDER BY place) FILTER (viewed_screen IS NOT NULL) AS screens,
        arg_min(device_type, place) AS device_type,
        arg_min(app_version, place) AS app_version,
        arg_min(country, place) AS country
    FROM placed
    GROUP BY user_id, client_id, bucket
),

-- one row per owner and bucket, marked where the gap before it starts a new fragment
marked AS (
    SELECT
        *,
        CASE WHEN first_us - lag(last_us) OVER owner_time <= CAST($gap_us AS BIGINT) THEN 0 ELSE 1 END AS starts
    FROM buckets
    WINDOW owner_time AS (PARTITION BY user_id, client_id ORDER BY bucket)
),

-- one row per owner and bucket, with the number of its fragment
numbered AS (
    SELECT *, sum(starts) OVER (PARTITION BY user_id, client_id ORDER BY bucket) AS fragment
    FROM marked
),

-- one row per fragment and client session id, at its first appearance
client_ids AS (
    SELECT n.user_id AS user_id, n.client_id AS client_id, n.fragment AS fragment, p.session_id AS session_id, min(p.place) AS place
    FROM placed AS p
    JOIN numbered AS n
        ON n.user_id = p.user_id AND n.client_id IS NOT DISTINCT FROM p.client_id AND n.bucket = p.bucket
    WHERE p.session_id IS NOT NULL
    GROUP BY n.user_id, n.client_id, n.fragment, p.session_id
),

-- one row per fragment that has client session ids
client_id_lists AS (
    SELECT user_id, client_id, fragment, list(session_id ORDER BY place)[1:50] AS client_session_ids
    FROM client_ids
    GROUP BY user_id, client_id, fragment
),

-- one row per fragment
fragments AS (
    SELECT
        user_id,
        client_id,
        fragment,
        make_timestamptz(min(first_us)) AS started_at,
        make_timestamptz(max(last_us)) AS ended_at,
        sum(event_count) AS event_count,
        sum(screen_views) AS screen_views,
        sum(notification_views) AS notification_views,
        sum(notification_clicks) AS notification_clicks,
        sum(installs) AS installs,
        coalesce(flatten(list(screens ORDER BY bucket) FILTER (screens IS NOT NULL)), []) AS screens,
        arg_min(device_type, bucket) AS device_type,
        arg_min(app_version, bucket) AS app_version,
        arg_min(country, bucket) AS country
    FROM numbered
    GROUP BY user_id, client_id, fragment
)

-- one row per fragment, paths bounded, in total order
SELECT
    f.user_id AS user_id,
    f.client_id AS client_id,
    f.started_at AS started_at,
    f.ended_at AS ended_at,
    f.event_count AS event_count,
    f.screen_views AS screen_views,
    f.notification_views AS notification_views,
    f.notification_clicks AS notification_clicks,
    f.installs AS installs,
    f.screens[1:50] AS screen_path,
    f.screens[1] AS entry_screen,
    f.screens[-1] AS exit_screen,
    coalesce(c.client_session_ids, []) AS client_session_ids,
    f.device_type AS device_type,
    f.app_version AS app_version,
    f.country AS country
FROM fragments AS f
LEFT JOIN client_id_lists AS c
    ON c.user_id = f.user_id AND c.client_id IS NOT DISTINCT FROM f.client_id AND c.fragment = f.fragment
ORDER BY f.user_id, f.client_id NULLS FIRST, f.started_at
