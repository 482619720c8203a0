-- `events` of one slot or of many: new raw rows typed and enriched, joined to the rows that stand already, copies dropped (R6).
-- Inputs: arrivals (good raw rows), standing (rows of the present object), device_models. Slots are no key here: copies meet in one.
-- The rows come in no order; the builder sorts them by (event_time, event_id), the total order of every object.
WITH
-- one row per record, no wider than the choice among copies needs
seen AS (
    SELECT lower(event_id) AS event_id, event_time, received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    FROM arrivals
    UNION ALL
    SELECT event_id, event_time, received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
    FROM standing
),

-- one row per hash of an id that occurs more than once: only these few rows are worth ranking
doubtful AS (
    SELECT hash(event_id) AS id_hash
    FROM seen
    GROUP BY hash(event_id)
    HAVING count(*) > 1
),

-- one row per doubtful record, the earliest copy of an event ranked first
ranked AS (
    SELECT
        s.*,
        rank() OVER (
            PARTITION BY event_id, event_time
            ORDER BY received_at, kafka_topic, kafka_topic_id, kafka_partition, kafka_offset
        ) AS copy_number
    FROM seen AS s
    SEMI JOIN doubtful AS d ON d.id_hash = hash(s.event_id)
),

-- one row per record that an earlier copy beats
beaten AS (
    SELECT kafka_offset, kafka_partition, kafka_topic_id, kafka_topic
    FROM ranked
    WHERE copy_number > 1
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
SELECT k.*
FROM known AS k
ANTI JOIN beaten AS b
    ON b.kafka_offset = k.kafka_offset AND b.kafka_partition = k.kafka_partition
    AND b.kafka_topic_id = k.kafka_topic_id AND b.kafka_topic = k.kafka_topic
