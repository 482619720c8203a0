"""What `sessions` of an hour must be: each once, none missed, made of all their fragments (R7)."""

from __future__ import annotations

from engagement.model.model import Model
from quality.constraints import Suite
from quality.suites.words import holds, present, unique, usually

REBUILD = "rebuild the day with `engagement backfill`"


def suites(model: Model) -> tuple[Suite, ...]:
    """The suites of `sessions`."""
    least = " AND ".join(f"{name} >= 0" for name in model.facts)
    rows = Suite(
        "sessions", "sessions", "sessions", "one row a session that starts in the hour",
        (
            unique("no_repeated_sessions", "session_key", "No session stands twice (R7).", REBUILD, gate=True),
            holds("session_keys_present", present("session_key user_id started_at ended_at open_until is_bounce is_engaged is_automated"),
                  "Every session has its key, its user and its times.", REBUILD, gate=True),
            holds("sessions_in_order", "ended_at >= started_at AND open_until > ended_at AND duration_seconds >= 0",
                  "No session ends before it starts.", REBUILD, gate=True),
            holds("sessions_have_events", f"event_count >= 1 AND {least}", "Every session has an event, no count is negative.", REBUILD,
                  gate=True),
            holds("engaged_or_bounced", "is_bounce <> is_engaged AND is_engaged = (duration_seconds > 10 OR screen_views >= 2)",
                  "A session is engaged or bounced, by its length and screens (interface §3).", REBUILD),
            holds("start_in_their_hour", "year(started_at) = year AND month(started_at) = month AND day(started_at) = day"
                  " AND hour(started_at) = hour", "A session stands in the hour in which it starts (R7).", REBUILD),
            holds("screens_agree", "(entry_screen IS NULL) = (exit_screen IS NULL) AND (screen_views > 0 OR entry_screen IS NULL)",
                  "Entry and exit screens come from screen views.", REBUILD),
            usually("sessions_end", "duration_seconds <= 43200", 0.99, "At most 1 % of the sessions last more than 12 hours.",
                    "look for automated users; in client mode for a session id that is never renewed"),
        ),
    )  # fmt: skip
    whole = Suite(
        "session_fragments_of_sessions", "sessions",
        "(SELECT s.session_key AS session_key, any_value(s.user_id) AS user_id, any_value(s.event_count) AS event_count,"
        " CAST(coalesce(sum(f.event_count), 0) AS BIGINT) AS in_fragments,"
        " min(f.started_at) = any_value(s.started_at) AND max(f.ended_at) = any_value(s.ended_at) AS spans"
        " FROM (SELECT s.*, n.owner AS owner FROM sessions AS s JOIN near_sessions AS n"
        " ON n.user_id = s.user_id AND n.started_at = s.started_at AND n.ended_at = s.ended_at) AS s"
        " LEFT JOIN near_fragments AS f ON f.owner = s.owner AND f.started_at BETWEEN s.started_at AND s.ended_at"
        " GROUP BY s.session_key)",
        "one row a session that starts in the hour: its events, and those of the fragments within it",
        (
            holds("sessions_are_whole", "event_count = in_fragments", "A session counts every event of its fragments (R7).", REBUILD),
            holds("sessions_span_fragments", "spans", "A session begins with its first fragment and ends with its last (R7).", REBUILD),
        ),
    )  # fmt: skip
    once = Suite(
        "sessions_of_fragments", "sessions",
        "(SELECT f.user_id AS user_id, f.started_at AS started_at, count(s.owner) AS sessions"
        " FROM (SELECT f.*, n.owner AS owner FROM session_fragments AS f JOIN near_fragments AS n"
        " ON n.user_id = f.user_id AND n.started_at = f.started_at AND n.ended_at = f.ended_at) AS f"
        " LEFT JOIN near_sessions AS s ON s.owner = f.owner AND f.started_at BETWEEN s.started_at AND s.ended_at"
        " GROUP BY f.owner, f.user_id, f.started_at)",
        "one row a fragment of the hour: how many sessions it is part of",
        (
            holds("fragments_in_one_session", "sessions = 1",
                  "Every fragment, and so every event, is in exactly one session, none missed and none doubled (R7).", REBUILD),
        ),
    )  # fmt: skip
    return rows, whole, once
