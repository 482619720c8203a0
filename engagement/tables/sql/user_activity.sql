-- `user_activity` of one slot or of many: the user-level facts that distinct counts are made from (R8).
-- Input: slot_events. Slots are kept apart by the key `slot`. Parameter: $slot_us (microseconds).
-- one row per slot, user and dimensions
SELECT
    epoch_us(event_time) // CAST($slot_us AS BIGINT) AS slot,
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
GROUP BY slot, user_id, device_type, app_version, country
ORDER BY slot, user_id, device_type, app_version, country
