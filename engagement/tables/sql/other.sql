-- Rows of a period with the rare values of each dimension as OTHER (interface, OTHER): its user activity, or its sessions.
-- Inputs: all_activity, which decides which values are rare, and all_rows; both with `period`. Parameter: $max_values.
WITH
-- {{each dimension}}
-- one row per period and value of {dimension.name} that keeps its name; ties by byte order
top_{dimension.name} AS (
    SELECT period, {dimension.name} AS value FROM all_activity GROUP BY period, {dimension.name}
    QUALIFY row_number() OVER (PARTITION BY period ORDER BY sum(total_events) DESC, {dimension.name}) <= $max_values
),

-- {{end}}
-- one row per row, rare values as OTHER
named AS (
    SELECT
        coalesce(top_{dimension.name}.value, 'OTHER') AS {dimension.name},
        r.* EXCLUDE ({{dimensions}})
    FROM all_rows AS r
    LEFT JOIN top_{dimension.name} ON top_{dimension.name}.period = r.period AND top_{dimension.name}.value = r.{dimension.name}
)

SELECT * FROM named
