-- Rows of the big table of one period (an hour or a day) or of many, all eight subsets of the dimensions (R8).
-- Inputs: period_activity, period_sessions, with `period`: the hour 0-23, or -1 for day rows. Periods are kept apart by this key.
-- Parameter: $max_values.
WITH
-- one row per period and value that keeps its name; ties by byte order
top_devices AS (
    SELECT period, device_type FROM period_activity GROUP BY period, device_type
    QUALIFY row_number() OVER (PARTITION BY period ORDER BY sum(total_events) DESC, device_type) <= $max_values
),

top_versions AS (
    SELECT period, app_version FROM period_activity GROUP BY period, app_version
    QUALIFY row_number() OVER (PARTITION BY period ORDER BY sum(total_events) DESC, app_version) <= $max_values
),

top_countries AS (
    SELECT period, country FROM period_activity GROUP BY period, country
    QUALIFY row_number() OVER (PARTITION BY period ORDER BY sum(total_events) DESC, country) <= $max_values
),

-- one row per period, user and dimensions, rare values as OTHER
users AS (
    SELECT
        a.period AS period,
        a.user_id AS user_id,
        coalesce(d.device_type, 'OTHER') AS device_type,
        coalesce(v.app_version, 'OTHER') AS app_version,
        coalesce(c.country, 'OTHER') AS country,
        sum(a.total_events) AS total_events,
        sum(a.total_installs) AS total_installs,
        sum(a.total_views) AS total_views,
        sum(a.notification_views) AS notification_views,
        sum(a.notification_clicks) AS notification_clicks
    FROM period_activity AS a
    LEFT JOIN top_devices AS d ON d.period = a.period AND d.device_type = a.device_type
    LEFT JOIN top_versions AS v ON v.period = a.period AND v.app_version = a.app_version
    LEFT JOIN top_countries AS c ON c.period = a.period AND c.country = a.country
    GROUP BY ALL
),

-- one row per period and cell of the cube, from user facts: distinct users are counted, never added
user_cube AS (
    SELECT
        period,
        CASE WHEN grouping(device_type) = 1 THEN 'ALL_DEVICES' ELSE device_type END AS device_type,
        CASE WHEN grouping(app_version) = 1 THEN 'ALL_VERSIONS' ELSE app_version END AS app_version,
        CASE WHEN grouping(country) = 1 THEN 'ALL_COUNTRIES' ELSE country END AS country,
        sum(total_events) AS total_events,
        sum(total_installs) AS total_installs,
        sum(total_views) AS total_views,
        sum(notification_views) AS notification_views,
        sum(notification_clicks) AS notification_clicks,
        count(DISTINCT user_id) AS active_users,
        count(DISTINCT user_id) FILTER (total_installs > 0) AS new_users
    FROM users
    GROUP BY period, CUBE (device_type, app_version, country)
),

-- one row per session, in the period in which it started, by its first event's dimensions
started AS (
    SELECT
        s.period AS period,
        coalesce(d.device_type, 'OTHER') AS device_type,
        coalesce(v.app_version, 'OTHER') AS app_version,
        coalesce(c.country, 'OTHER') AS country,
        epoch_us(s.ended_at) - epoch_us(s.started_at) AS duration_us,
        s.event_count AS event_count,
        s.is_bounce AS is_bounce
    FROM period_sessions AS s
    LEFT JOIN top_devices AS d ON d.period = s.period AND d.device_type = s.device_type
    LEFT JOIN top_versions AS v ON v.period = s.period AND v.app_version = s.app_version
    LEFT JOIN top_countries AS c ON c.period = s.period AND c.country = s.country
),

-- one row per period and cell of the cube that has sessions
session_cube AS (
    SELECT
        period,
        CASE WHEN grouping(device_type) = 1 THEN 'ALL_DEVICES' ELSE device_type END AS device_type,
        CASE WHEN grouping(app_version) = 1 THEN 'ALL_VERSIONS' ELSE app_version END AS app_version,
        CASE WHEN grouping(country) = 1 THEN 'ALL_COUNTRIES' ELSE country END AS country,
        count(*) AS total_sessions,
        sum(duration_us) AS duration_us,
        median(duration_us) AS median_us,
        sum(event_count) AS event_count,
        count(*) FILTER (is_bounce) AS bounces
    FROM started
    GROUP BY period, CUBE (device_type, app_version, country)
)

-- one row per period and cell; averages are integer sums divided once (R10)
SELECT
    CAST(nullif(u.period, -1) AS INTEGER) AS hour,
    u.device_type AS device_type,
    u.app_version AS app_version,
    u.country AS country,
    u.total_events AS total_events,
    u.total_installs AS total_installs,
    coalesce(s.total_sessions, 0) AS total_sessions,
    u.total_views AS total_views,
    u.notification_views AS notification_views,
    u.notification_clicks AS notification_clicks,
    CAST(u.notification_clicks AS DOUBLE) / nullif(u.notification_views, 0) AS notification_ctr,
    u.active_users AS active_users,
    u.new_users AS new_users,
    CAST(s.duration_us AS DOUBLE) / (s.total_sessions * 1000000) AS avg_session_seconds,
    s.median_us / 1000000 AS median_session_seconds,
    CAST(s.bounces AS DOUBLE) / s.total_sessions AS bounce_rate,
    CAST(s.event_count AS DOUBLE) / s.total_sessions AS avg_events_per_session
FROM user_cube AS u
LEFT JOIN session_cube AS s
    ON s.period = u.period AND s.device_type = u.device_type AND s.app_version = u.app_version AND s.country = u.country
ORDER BY u.period, u.device_type, u.app_version, u.country
