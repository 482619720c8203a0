"""What the raw log must be: each record once, typed or rejected with a reason, in time (R1, R9, R11).

By ingest hour, imports and archived records included. That chains are whole is the audit's matter (`chains_whole`).
"""

from __future__ import annotations

from quality.constraints import Suite
from quality.suites.words import at_most, holds, matches, present, usually

GOOD = "reject_reason IS NULL"
LIVE = "reject_reason IS NULL AND kafka_topic <> 'import'"
COMPARE = "compare it with the records of the topic at these offsets; a restored or foreign object may lie in raw/"
WRITER = "the object was not written by `engagement ingest` or `import`: find out what wrote it, restore it from a copy"
REASONS = r"^(bad_json|bad_encoding|empty|too_late|in_future|before_history_start|erased|(missing|bad_type|bad_value):[A-Za-z0-9_.]+)$"


def suites(skew_seconds: int, lateness_days: int) -> tuple[Suite, ...]:
    """The suites of `raw_events`; the limits are those of ENGAGEMENT_CLOCK_SKEW_SECONDS and ENGAGEMENT_LATENESS_DAYS."""
    in_time = f"event_time <= received_at + INTERVAL {skew_seconds} SECOND AND event_time >= received_at - INTERVAL {lateness_days} DAY"
    records = Suite(
        "raw_records", "raw_events", "raw", "one row a record that came in the hour, good or bad",
        (
            holds("coordinates_present", present("kafka_topic kafka_topic_id kafka_partition kafka_offset received_at"),
                  "Every record has its place in the log (R1).", WRITER),
            holds("good_records_typed", present("event_id user_id event_type event_time"),
                  "A good record has event_id, user_id, event_type and event_time (design §3).", WRITER, where=GOOD),
            holds("rejects_hold_no_event", "event_id IS NULL AND user_id IS NULL AND event_time IS NULL",
                  "A rejected record has no typed columns (R1).", WRITER, where="reject_reason IS NOT NULL"),
            holds("erased_hold_nothing", "payload IS NULL AND key IS NULL AND user_id IS NULL",
                  "An erased record keeps its place and nothing else (R1).", "run `engagement forget` for the user again",
                  where="reject_reason = 'erased'"),
            matches("reasons_known", "reject_reason", REASONS, "Reject reasons are of the closed list (interface §3).", WRITER,
                    where="reject_reason IS NOT NULL"),
            matches("event_ids_are_uuids", "event_id", "^[0-9a-fA-F-]{36}$",
                    "Every event_id is a UUID of 36 characters.", WRITER, where=GOOD),
            holds("user_ids_bounded", "length(user_id) BETWEEN 1 AND 128", "Every user_id has 1 to 128 characters.", WRITER, where=GOOD),
            usually("events_in_time", in_time, 0.999, "Events lie within clock skew and lateness of their arrival (R9); replays may not.",
                    "look whether somebody replays dead letters; else the consumer's limits were set otherwise", where=LIVE),
            usually("records_accepted", "reject_reason IS NULL OR reject_reason = 'erased'", 0.95,
                    "At most 5 % of the records are rejected.",
                    "`engagement dead-letters list` tells reasons and versions; mend the app, then replay"),
        ),
    )  # fmt: skip
    shares = Suite(
        "raw_oddities", "raw_events",
        "(SELECT sum(other_key) / sum(good) AS other_key, sum(other_family) / sum(good) AS other_family, sum(late) / sum(good) AS late"
        " FROM log HAVING sum(good) > 0)",
        "one row: shares of the hour's good records, from footers",
        (
            at_most("key_is_user_id", "other_key", 0.01, "At most 1 % of the records have a key other than user_id.",
                    "key the producer by user_id: partitions are uneven and the order of one user's events is not kept"),
            at_most("types_on_their_topics", "other_family", 0.01, "At most 1 % of the records lie on another family's topic.",
                    "send install and notification events to their own topics (design §3)"),
            at_most("late_share", "late", 0.2, "At most 20 % of the records are more than an hour late.",
                    "look whether phones were offline, or a producer was down and catches up"),
        ),
    )  # fmt: skip
    chains = Suite(
        "raw_chains", "raw_events",
        "(SELECT kafka_topic, kafka_topic_id, kafka_partition, count(*) AS records, count(DISTINCT kafka_offset) AS offsets"
        " FROM raw GROUP BY ALL)",
        "one row a topic partition or imported file with records of the hour",
        (
            holds("records_once", "records = offsets", "No record of the log stands twice (R1, R5).", COMPARE),
        ),
    )  # fmt: skip
    return records, chains, shares
