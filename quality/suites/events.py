"""What `events`, `session_fragments` and `user_activity` of an hour must be: unique, typed, and every event accounted for."""

from __future__ import annotations

from engagement.model.model import Model
from quality.constraints import Suite
from quality.suites.words import at_most, holds, matches, mostly_present, present, unique, usually

REBUILD = "rebuild the hour with `engagement backfill`"
LIES = "a raw object holds other rows than its footer says: compare them before you rebuild"


def suites(model: Model) -> tuple[Suite, ...]:
    """The suites of the three assets that are made from one hour's events."""
    return (*_events(model), _fragments(model), _activity(model))


def _events(model: Model) -> tuple[Suite, ...]:
    reserved = ", ".join(f"'{word}'" for word in model.reserved)
    dimensions = sorted({item.column for item in model.dimensions.values() if item.built_in})
    named = " AND ".join(f"{column} IS NOT NULL AND {column} <> '' AND {column} NOT IN ({reserved})" for column in dimensions)
    rows = Suite(
        "events", "events", "events", "one row an event",
        (
            unique("no_repeated_events", "event_id event_time", "No (event_id, event_time) stands twice (R6).",
                   "look at the copies with the query; " + REBUILD, gate=True),
            holds("keys_present", present("event_id user_id event_type event_time received_at kafka_topic kafka_topic_id kafka_offset"),
                  "Every event has its identity, its user, its times and its place in the log.", REBUILD, gate=True),
            holds("in_their_hour", "year(event_time) = year AND month(event_time) = month AND day(event_time) = day"
                  " AND hour(event_time) = hour", "Every event lies in the hour of its object.", REBUILD),
            holds("ids_in_lower_case", "event_id = lower(event_id)", "event_id is in lower case (R6).", REBUILD),
            holds("dimensions_named", named, "Dimensions are never null or empty and never a reserved word (interface §3).", REBUILD),
            matches("types_in_snake_case", "event_type", "^[a-z][a-z0-9]*(_[a-z0-9]+)*$", "event_type is snake_case (design §3).", REBUILD),
            usually("countries_in_iso", "country = 'UNKNOWN' OR (length(country) = 2 AND country = upper(country))", 0.99,
                    "Countries are ISO 3166-1 alpha-2.", "tell the app's team which versions send something else"),
            usually("versions_known", "app_version <> 'UNKNOWN'", 0.95, "At most 5 % of the events have no app version.",
                    "tell the app's team: releases cannot be told apart without it"),
            usually("devices_known", "device_type <> 'UNKNOWN'", 0.9, "At most 10 % of the events have an unknown device.",
                    "add the new models to engagement/tables/reference/device_models.csv, then backfill"),
            usually("screens_named", "screen IS NOT NULL", 0.95, "At most 5 % of the screen views lack properties.screen.",
                    "tell the app's team: paths and entry screens skip such views", where="event_type = 'screen_view'"),
            mostly_present("client_sessions_sent", "session_id", 0.5, "At least half of the events carry the app's own session id.",
                           "only `client` session mode needs it"),
        ),
    )  # fmt: skip
    accounts = Suite(
        "event_accounts", "events", "facts", "one row an object of events: what its footer and the raw footers count",
        (
            holds("events_accounted_for", "rows_in = rows_held + duplicates",
                  "Good rows that the raw footers count are events or dropped copies, none else (R11).", LIES, gate=True),
            holds("raw_taken_up", "rows_in = good_rows", "Every good record of the hour that raw holds is in the table (R10).",
                  "`engagement status` tells what waits; `engagement refresh` brings it in"),
        ),
    )  # fmt: skip
    copies = Suite(
        "event_copies", "events", "(SELECT sum(duplicates) / sum(rows_in) AS copies FROM facts HAVING sum(rows_in) > 0)",
        "one row: the share of copies among the hour's records",
        (
            at_most("copies_share", "copies", 0.1, "At most 10 % of the records are copies (R6).",
                    "look whether phones or producers send again without end"),
        ),
    )  # fmt: skip
    chains = Suite(
        "event_chains", "events",
        "(SELECT kafka_topic, kafka_topic_id, kafka_partition, count(*) AS events, count(DISTINCT kafka_offset) AS offsets"
        " FROM events GROUP BY ALL)",
        "one row a topic partition or imported file with events of the hour",
        (
            holds("records_become_one_event", "events = offsets", "No record became two events (R11).", REBUILD),
        ),
    )  # fmt: skip
    return rows, accounts, chains, copies


def _fragments(model: Model) -> Suite:
    facts = ", ".join(model.facts)
    return Suite(
        "fragments", "session_fragments",
        "(SELECT coalesce(e.user_id, f.user_id) AS user_id, e.n AS events, f.n AS in_fragments, e.first AS first_event,"
        " f.first AS first_fragment, e.last AS last_event, f.last AS last_fragment, f.least AS least"
        " FROM (SELECT user_id, count(*) AS n, min(event_time) AS first, max(event_time) AS last FROM events GROUP BY user_id) AS e"
        " FULL JOIN (SELECT user_id, CAST(sum(event_count) AS BIGINT) AS n, min(started_at) AS first, max(ended_at) AS last,"
        f" min(least({facts}, date_diff('microsecond', started_at, ended_at))) AS least FROM session_fragments GROUP BY user_id) AS f"
        " ON f.user_id = e.user_id)",
        "one row a user of the hour: their events, and what their fragments say",
        (
            holds("events_in_fragments", "events = in_fragments", "Every event of a user is in one of their fragments (R7).", REBUILD),
            holds("fragments_span_events", "first_event = first_fragment AND last_event = last_fragment",
                  "Fragments begin and end with events (R7).", REBUILD),
            holds("fragments_not_negative", "least >= 0", "No fragment has a negative count or length.", REBUILD),
        ),
    )  # fmt: skip


def _activity(model: Model) -> Suite:
    counts = [item.name for item in model.chosen("additive", "events")]
    least = f"min(least({', '.join(counts)}))" if len(counts) > 1 else f"min({counts[0]})"
    return Suite(
        "activity", "user_activity",
        "(SELECT coalesce(e.user_id, a.user_id) AS user_id, e.n AS events, a.n AS in_activity, a.least AS least"
        " FROM (SELECT user_id, count(*) AS n FROM events GROUP BY user_id) AS e"
        f" FULL JOIN (SELECT user_id, CAST(sum(total_events) AS BIGINT) AS n, {least} AS least FROM user_activity GROUP BY user_id) AS a"
        " ON a.user_id = e.user_id)",
        "one row a user of the hour: their events, and what their activity says",
        (
            holds("events_in_activity", "events = in_activity", "User facts count every event of every user once (R8).", REBUILD),
            holds("activity_not_negative", "least >= 0", "No user fact is negative.", REBUILD),
        ),
    )  # fmt: skip
