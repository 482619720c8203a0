-- `user_activity` of one slot or of many: the user-level facts that distinct counts are made from (R8).
-- Input: slot_events. Slots are kept apart by the key `slot`. Parameter: $slot_us (microseconds).
-- one row per slot, user and dimensions: the additive metrics of events, and whether the user counts as each distinct one
SELECT
    {dimension.column} AS {dimension.name},
    {count.sql} AS {count.name},
    count(*) FILTER ({flag.where}) > 0 AS {flag.name},
    user_id,
    epoch_us(event_time) // CAST($slot_us AS BIGINT) AS slot
FROM slot_events
GROUP BY slot, user_id, {{dimensions}}
ORDER BY slot, user_id, {{dimensions}}
