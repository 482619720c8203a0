-- One slot of `user_activity`: the user-level facts that distinct counts are made from (R8).
-- Input: slot_events.
-- one row per user and dimensions
SELECT
    user_id,
    device_type,
    app_version,
    country,
    count(*) AS total_events,
    count(*) FILTER (event_type = 'install') AS total_installs,
    count(*) FILTER (event_type = 'screen_view') AS total_views,
    count(*) FILTER (event_type = 'view_notification') AS notification_views,
    count(*) FILTER (event_type = 'click_notification') AS notification_clicks,
    count(*) FILTER (event_type = 'install') > 0 AS new_users
FROM slot_events
GROUP BY user_id, device_type, app_version, country
ORDER BY user_id, device_type, app_version, country
