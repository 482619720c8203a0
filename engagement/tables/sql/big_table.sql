-- Rows of the big table of one period (an hour or a day) or of many, all subsets of the dimensions (R8).
-- Inputs: period_activity, period_sessions, with `period`: the hour 0-23, or -1 for day rows. Periods are kept apart by this key.
-- Parameter: $max_values.
WITH
-- {{each dimension}}
-- one row per period and value of {dimension.name} that keeps its name; ties by byte order
top_{dimension.name} AS (
    SELECT period, {dimension.name} AS value FROM period_activity GROUP BY period, {dimension.name}
    QUALIFY row_number() OVER (PARTITION BY period ORDER BY sum(total_events) DESC, {dimension.name}) <= $max_values
),

-- {{end}}
-- one row per period, user and dimensions, rare values as OTHER
users AS (
    SELECT
        a.period AS period,
        coalesce(top_{dimension.name}.value, 'OTHER') AS {dimension.name},
        sum(a.{count.name}) AS {count.name},
        bool_or(a.{flag.name}) AS {flag.name},
        a.user_id AS user_id
    FROM period_activity AS a
    LEFT JOIN top_{dimension.name} ON top_{dimension.name}.period = a.period AND top_{dimension.name}.value = a.{dimension.name}
    GROUP BY ALL
),

-- one row per period and cell of the cube, from user facts: distinct users are counted, never added
user_cube AS (
    SELECT
        CASE WHEN grouping({dimension.name}) = 1 THEN {dimension.all} ELSE {dimension.name} END AS {dimension.name},
        sum({count.name}) AS {count.name},
        count(DISTINCT user_id){distinct.only} AS {distinct.name},
        period
    FROM users
    GROUP BY period, CUBE ({{dimensions}})
),

-- one row per session, in the period in which it started, by its first event's dimensions
started AS (
    SELECT
        s.* EXCLUDE ({{dimensions}}),
        coalesce(top_{dimension.name}.value, 'OTHER') AS {dimension.name},
        epoch_us(s.ended_at) - epoch_us(s.started_at) AS duration_us
    FROM period_sessions AS s
    LEFT JOIN top_{dimension.name} ON top_{dimension.name}.period = s.period AND top_{dimension.name}.value = s.{dimension.name}
),

-- one row per period and cell of the cube that has sessions
session_cube AS (
    SELECT
        CASE WHEN grouping({dimension.name}) = 1 THEN {dimension.all} ELSE {dimension.name} END AS {dimension.name},
        {session_sum.sql} AS {session_sum.name},
        median({median.sql}) AS {median.name},
        period
    FROM started
    GROUP BY period, CUBE ({{dimensions}})
)

-- one row per period and cell; averages are integer sums divided once (R10)
SELECT
    CAST(nullif(u.period, -1) AS INTEGER) AS hour,
    {metric.sql} AS {metric.name},
    {{dimensions}}
FROM user_cube AS u
LEFT JOIN session_cube AS s USING (period, {{dimensions}})
ORDER BY period, {{dimensions}}
