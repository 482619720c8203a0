"""What hour rows and day rows must be: every ALL row the sum of its parts, distinct counts counted, days the sum of their hours."""

from __future__ import annotations

from engagement.model.model import Model
from quality.constraints import Constraint, Suite
from quality.suites.words import holds, present, unique

REBUILD = "rebuild the day with `engagement backfill`"


def suites(model: Model) -> tuple[Suite, ...]:
    """The suites of `hourly_engagement` and of `daily_engagement`."""
    rows, sums = _rows(model), (_adding_up(),)
    hours = Suite("hour_rows", "hourly_engagement", "hour_rows", "one row an hour and subset of the dimensions", rows)
    days = Suite("day_rows", "daily_engagement", "day_rows", "one row a day and subset of the dimensions", rows, "day")
    grain = "one row a subset of the dimensions: whether it is the sum of its parts"
    hour_sums = Suite("hour_row_sums", "hourly_engagement", _added(model, "hour_rows"), grain, sums)
    day_sums = Suite("day_row_sums", "daily_engagement", _added(model, "day_rows"), grain, sums, "day")
    return hours, hour_sums, _hour_totals(model), days, day_sums, _day_totals(model), _hours_of_day(model)


def _adding_up() -> Constraint:
    description = "Additive metrics of every ALL row equal the sum of their parts (R8)."
    return holds("all_rows_add_up", "adds_up", description, REBUILD, gate=True)


def _rows(model: Model) -> tuple[Constraint, ...]:
    """Of rows of either kind."""
    keys = " ".join(("hour", *model.dimensions))
    counts = [metric.name for metric in model.shown if metric.kind in ("additive", "distinct")]
    ratios = [metric for metric in model.shown if metric.kind == "ratio" and {metric.numerator, metric.denominator} <= set(counts)]
    exact = " AND ".join(
        f"coalesce({item.name} = CAST({item.numerator} AS DOUBLE) / {item.denominator} / {item.scale}, {item.denominator} = 0)"
        for item in ratios
    )
    return (
        unique("no_repeated_rows", keys, "No subset of the dimensions stands twice.", REBUILD, gate=True),
        holds("counts_present", f"{present(' '.join(counts))} AND {present(' '.join(model.dimensions))}",
              "Counts and dimensions are never null (interface §3).", REBUILD, gate=True),
        holds("counts_not_negative", " AND ".join(f"{name} >= 0" for name in counts if _counts_rows(model, name)),
              "No count is negative.", REBUILD),
        holds("distinct_within_events", "active_users <= total_events AND new_users <= active_users AND new_users <= total_installs",
              "There are no more users than events, and no more new ones than installs.", REBUILD),
        holds("rates_in_range", "coalesce(bounce_rate BETWEEN 0 AND 1, total_sessions = 0) AND coalesce(avg_session_seconds >= 0, true)"
              " AND (total_sessions = 0) = (median_session_seconds IS NULL)", "Rates lie in their range, null without sessions.", REBUILD),
        holds("ratios_exact", exact, "Ratios are one division of the columns beside them (R10).", REBUILD),
    )  # fmt: skip


def _counts_rows(model: Model, name: str) -> bool:
    """Whether a metric cannot be negative: a count. A declared sum of a property may be."""
    return model.metrics[name].built_in


def _added(model: Model, rows: str) -> str:
    """Each row beside the sum of the leaves below it. Rows of an older model (not `strict`) are not cut by a newer dimension."""
    words = model.all_words
    additive = model.additive
    uncut = "(NOT (SELECT strict FROM rule) AND NOT EXISTS (SELECT 1 FROM {rows} WHERE {name} <> '{word}'))"
    leaf = " AND ".join(f"({name} <> '{word}' OR {uncut.format(rows=rows, name=name, word=word)})" for name, word in words.items())
    levels = ", ".join(f"coalesce({name}, '{word}') AS {name}" for name, word in words.items())
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in additive)
    same = " AND ".join(f"r.{name} = a.{name}" for name in additive)
    on = " AND ".join(("a.hour IS NOT DISTINCT FROM r.hour", *(f"a.{name} = r.{name}" for name in words)))
    shown = ", ".join(f"coalesce(r.{name}, a.{name}) AS {name}" for name in ("hour", *words))
    return (
        f"(SELECT {shown}, coalesce({same}, false) AS adds_up FROM {rows} AS r FULL JOIN ("
        f"SELECT DISTINCT hour, {levels}, {sums} FROM (SELECT * FROM {rows} WHERE {leaf}) AS leaves"
        f" GROUP BY hour, CUBE ({', '.join(words)}) HAVING count(*) > 0) AS a ON {on})"
    )


def _total(model: Model) -> str:
    return " AND ".join(f"{name} = '{word}'" for name, word in model.all_words.items())


def _hour_totals(model: Model) -> Suite:
    return Suite(
        "hour_totals", "hourly_engagement",
        "(SELECT a.total_events AS events, r.total_events AS events_shown, a.users AS users, r.active_users AS users_shown,"
        " s.sessions AS sessions, r.total_sessions AS sessions_shown, s.seconds AS seconds,"
        " r.avg_session_seconds * r.total_sessions AS seconds_shown"
        f" FROM (SELECT * FROM hour_rows WHERE {_total(model)}) AS r"
        " FULL JOIN (SELECT CAST(sum(total_events) AS BIGINT) AS total_events, count(DISTINCT user_id) AS users FROM user_activity"
        " HAVING count(*) > 0) AS a ON true"
        " LEFT JOIN (SELECT count(*) AS sessions, coalesce(sum(duration_seconds), 0) AS seconds FROM sessions) AS s ON true)",
        "one row: the hour's totals as the page shows them, beside the tables they were made from",
        (
            holds("events_counted", "events = events_shown", "The hour shows every event of its user facts (R8).", REBUILD),
            holds("users_counted", "users = users_shown", "active_users is the number of distinct users (R8).", REBUILD),
            holds("sessions_counted", "sessions = sessions_shown", "total_sessions is the number of sessions that start in the hour.",
                  REBUILD),
            holds("durations_add_up", "abs(seconds - coalesce(seconds_shown, 0)) <= 0.001 + seconds * 1e-9",
                  "The mean session length is that of the sessions.", REBUILD),
        ),
    )  # fmt: skip


def _day_totals(model: Model) -> Suite:
    return Suite(
        "day_totals", "daily_engagement",
        "(SELECT a.total_events AS events, r.total_events AS events_shown, a.users AS users, r.active_users AS users_shown"
        f" FROM (SELECT * FROM day_rows WHERE {_total(model)}) AS r"
        " FULL JOIN (SELECT CAST(sum(total_events) AS BIGINT) AS total_events, count(DISTINCT user_id) AS users FROM user_activity"
        " HAVING count(*) > 0) AS a ON true)",
        "one row: the day's totals as the page shows them, beside the user facts they were made from",
        (
            holds("day_events_counted", "events = events_shown", "The day shows every event of its user facts (R8).", REBUILD),
            holds("day_users_counted", "users = users_shown", "DAU is the number of distinct users of the day (R8).", REBUILD),
        ),
        "day",
    )  # fmt: skip


def _hours_of_day(model: Model) -> Suite:
    """Rows of subsets with a rare value as OTHER are left out: an hour and its day decide each for themselves (interface §3)."""
    words = model.all_words
    sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in model.additive)
    same = " AND ".join(f"d.{name} = h.{name}" for name in model.additive)
    on = " AND ".join(f"h.{name} = d.{name}" for name in words)
    shown = ", ".join(f"coalesce(d.{name}, h.{name}) AS {name}" for name in words)
    rare = " OR ".join(f"{name} = 'OTHER'" for name in words)
    none_rare = f"NOT EXISTS (SELECT 1 FROM day_rows WHERE {rare}) AND NOT EXISTS (SELECT 1 FROM hour_rows WHERE {rare})"
    whole = " AND ".join(f"{name} = '{word}'" for name, word in words.items())
    return Suite(
        "hours_of_day", "daily_engagement",
        f"(SELECT * FROM (SELECT {shown}, coalesce({same}, false) AS adds_up,"
        " coalesce(d.active_users BETWEEN h.most AND h.together, false) AS users_between"
        f" FROM day_rows AS d FULL JOIN (SELECT {', '.join(words)}, {sums}, max(active_users) AS most,"
        f" sum(active_users) AS together FROM hour_rows GROUP BY ALL) AS h ON {on}) WHERE ({whole}) OR ({none_rare}))",
        "one row a subset of the dimensions: the day beside its hours",
        (
            holds("day_is_sum_of_hours", "adds_up", "Additive metrics of a day are the sum of its hours, below the OTHER limit.", REBUILD),
            holds("users_between_hours_and_sum", "users_between",
                  "DAU is at least the busiest hour's users and at most the sum of all hours' (R8).", REBUILD),
        ),
        "day",
    )  # fmt: skip
