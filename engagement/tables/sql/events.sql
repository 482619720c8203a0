-- `events` of one slot or of many: new raw rows typed and enriched, joined to the rows that stand already, copies dropped (R6).
-- Inputs: arrivals (good raw rows), standing (rows of the present object), device_models. Slots are no key here: copies meet in one.
-- The rows come in no order, with their `turn`: (event_time, turn) sorts them as (event_time, event_id), the total order of
-- every object, without comparing texts.
WITH
-- one row per time that more than one record has: all copies are among their records, and on a fine clock few others
shared AS (
    SELECT event_time
    FROM (SELECT event_time FROM arrivals UNION ALL SELECT event_time FROM standing)
    GROUP BY event_time
    HAVING count(*) > 1
),

-- one row per record, no wider than its rank among those of its time needs
seen AS (
    SELECT lower(event_id) AS event_id, event_time, received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    FROM arrivals
    UNION ALL
    SELECT event_id, event_time, received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    FROM standing
),

-- one row per record that is not the first of its time: by event, and the earliest copy of an event first
followers AS (
    SELECT
        kafka_offset,
        kafka_partition,
        kafka_topic_id,
        kafka_topic,
        row_number() OVER time_order AS turn,
        event_id = lag(event_id) OVER time_order AS is_copy
    FROM seen
    SEMI JOIN shared USING (event_time)
    WINDOW time_order AS (
        PARTITION BY event_time
        ORDER BY event_id, received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    )
    QUALIFY row_number() OVER time_order > 1
),

-- one row per arrival, with the columns promoted from its properties
typed AS (
    SELECT
        lower(a.event_id) AS event_id,
        a.user_id AS user_id,
        a.session_id AS session_id,
        a.event_type AS event_type,
        a.event_time AS event_time,
        a.received_at AS received_at,
        CASE
            WHEN a.device_type <> '' THEN a.device_type
            WHEN a.device_model LIKE 'iPhone%' THEN 'iPhone'
            WHEN a.device_model LIKE 'iPad%' THEN 'iPad'
            WHEN a.device_model LIKE 'iPod%' THEN 'iPod'
        END AS device_type,
        a.device_model AS device_model,
        m.device_name AS device_name,
        a.os_version AS os_version,
        a.locale AS locale,
        a.app_version AS app_version,
        a.country AS country,
        CASE WHEN a.region <> '' THEN a.region ELSE 'UNKNOWN' END AS region,
        a.city AS city,
        {column.sql} AS {column.name},
        a.properties AS properties,
        a.kafka_topic AS kafka_topic,
        a.kafka_topic_id AS kafka_topic_id,
        a.kafka_partition AS kafka_partition,
        a.kafka_offset AS kafka_offset
    FROM arrivals AS a
    LEFT JOIN device_models AS m ON m.model = a.device_model
),

-- one row per arrival, dimensions cleaned: missing, empty and reserved texts are UNKNOWN
cleaned AS (
    SELECT
        CASE WHEN nullif({dimension.column}, '') NOT IN ({{reserved}}) THEN {dimension.column} ELSE 'UNKNOWN' END AS {dimension.column},
        * EXCLUDE ({{dimension_columns}})
    FROM typed
),

-- one row per known record of the slot, copies included
known AS (
    SELECT * FROM standing
    UNION ALL BY NAME
    SELECT * FROM cleaned
)

-- one row per event
SELECT k.*, coalesce(f.turn, 1) AS turn
FROM known AS k
LEFT JOIN followers AS f
    ON f.kafka_offset = k.kafka_offset AND f.kafka_partition = k.kafka_partition
    AND f.kafka_topic_id = k.kafka_topic_id AND f.kafka_topic = k.kafka_topic
WHERE f.is_copy IS NOT TRUE
