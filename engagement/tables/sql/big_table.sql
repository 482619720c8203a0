-- Rows of the big table of one period (an hour or a day) or of many, all subsets of the dimensions (R8).
-- Inputs: period_activity, period_sessions, with `period`: the hour 0-23, or -1 for day rows. Periods are kept apart by this key.
-- Where a dimension has too many values, `other.sql` made these inputs.
WITH
-- one row per period, cell of the cube and user
users AS (
    SELECT
        period,
        CASE WHEN all_{dimension.name}.is_over THEN {dimension.all} ELSE {dimension.name} END AS {dimension.name},
        sum({count.name}) AS {count.name},
        bool_or({flag.name}) AS {flag.name},
        user_id
    FROM period_activity
    CROSS JOIN (VALUES (false), (true)) AS all_{dimension.name}(is_over)
    GROUP BY ALL
),

-- one row per period and cell of the cube, from user facts: distinct users are counted, never added
user_cube AS (
    SELECT
        {dimension.name},
        sum({count.name}) AS {count.name},
        count(*){distinct.only} AS {distinct.name},
        period
    FROM users
    GROUP BY ALL
),

-- one row per period, cell of the cube and session that started in the period, by its first event's dimensions
started AS (
    SELECT
        s.* EXCLUDE ({{dimensions}}),
        CASE WHEN all_{dimension.name}.is_over THEN {dimension.all} ELSE {dimension.name} END AS {dimension.name},
        epoch_us(ended_at) - epoch_us(started_at) AS duration_us
    FROM period_sessions AS s
    CROSS JOIN (VALUES (false), (true)) AS all_{dimension.name}(is_over)
),

-- one row per period and cell of the cube that has sessions
session_cube AS (
    SELECT
        {dimension.name},
        {session_sum.sql} AS {session_sum.name},
        median({median.sql}) AS {median.name},
        period
    FROM started
    GROUP BY ALL
)

-- one row per period and cell; averages are integer sums divided once (R10)
SELECT
    CAST(nullif(u.period, -1) AS INTEGER) AS hour,
    {metric.sql} AS {metric.name},
    {{dimensions}}
FROM user_cube AS u
LEFT JOIN session_cube AS s USING (period, {{dimensions}})
ORDER BY period, {{dimensions}}
