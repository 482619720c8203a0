"""Every series of the exporter: name, labels, meaning. The modules of the sources fill them, the monitoring guide lists them.

All are gauges: what an exporter saw at its last look. Counters of records live in the consumer (`ingest.metrics`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Series:
    """One series. Seconds are seconds, `timestamp` is Unix time."""

    name: str
    labels: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a series, with its labels' values in order."""

    series: Series
    labels: tuple[str, ...]
    value: float


def sample(series: Series, value: float | None, *labels: object) -> Iterable[Sample]:
    """The value as a sample; nothing for None, for what is unknown has no number."""
    if value is not None:
        yield Sample(series, tuple(str(label) for label in labels), float(value))


SERIES: dict[str, Series] = {}


def _series(name: str, labels: str, meaning: str) -> Series:
    found = Series(f"engagement_{name}", tuple(labels.split()), meaning)
    SERIES[found.name] = found
    return found


# the exporter itself
LOOKED = _series("exporter_look_timestamp_seconds", "source", "Unix time of the last look that succeeded")
LOOK_SECONDS = _series("exporter_look_seconds", "source", "Time the last look took")
SOURCE_UP = _series("exporter_source_up", "source", "1 where the last look succeeded: lake, log, dagster, audit")

# freshness, by asset and lane
AGE = _series("data_age_seconds", "asset lane", "Age of the oldest record of the log that the asset lacks; 0 where it lacks none")
SLA = _series("sla_seconds", "asset lane level", "The SLA's bound of data_age_seconds; level warn or fail")
STATE = _series("sla_state", "asset lane", "0 ok, 1 unknown, 2 warn, 3 fail")
NEWEST = _series("newest_record_timestamp_seconds", "", "Log-append time of the newest record of the log that is in the lake")
NEWEST_EVENT = _series("newest_event_timestamp_seconds", "", "Greatest event time of the live hours' events")
WAITING = _series("waiting_units", "kind lane", "Hours and days that wait")
WAITING_ROWS = _series("waiting_rows", "lane", "Good raw rows that the hour rows lack")
TOO_LATE = _series("rows_too_late_hours", "", "Hours of final days that lack rows which came too late")
OUTDATED = _series("outdated_units", "what", "Units made by other code, reference data or model than the present (what: code, model)")

# quality
HELD = _series("held_units", "asset", "Units that a gate holds: the page shows their last good rows")
SUSPECT = _series("suspect_units", "asset", "Published units of the last three days that a check of severity error says may be wrong")
ANOMALIES = _series("anomalies", "", "Hours of the last day whose volume or mix is out of line and is not accepted")
CHECKS = _series("checks", "asset status severity", "Newest results of checks of the last three days")

# the log
LOG_UP = _series("broker_up", "", "1 where the broker answered the last look")
BROKERS = _series("brokers", "", "Brokers that the cluster knows")
UNDER_REPLICATED = _series("under_replicated_partitions", "topic", "Partitions with fewer replicas in sync than they have")
OFFLINE = _series("offline_partitions", "topic", "Partitions without a leader")
BEHIND = _series("behind_records", "topic partition", "Records of the log that the lake lacks")
BEHIND_SECONDS = _series("behind_seconds", "topic partition", "Age of the oldest record of the log that the lake lacks")
UNREAD_LOST = _series(
    "unread_lost_records", "topic partition", "Offsets that the log lost before they were read: the consumer records a gap"
)
AHEAD = _series("lake_ahead_records", "topic partition", "Offsets that the lake has and the log no longer: the broker lost records")
RETENTION = _series("log_retention_seconds", "", "How long the topics keep records (ENGAGEMENT_TOPIC_RETENTION_HOURS)")

# the lake, looked at now and then
LAYER_BYTES = _series("layer_bytes", "layer", "Bytes of a layer of the lake")
LAYER_OBJECTS = _series("layer_objects", "layer", "Objects of a layer of the lake")
SMALL_OBJECTS = _series("layer_small_objects", "layer", "Objects of a layer below 1 MiB")
RAW_ROWS = _series("raw_rows", "topic", "Rows of the raw log and the archive, rejects included")
RAW_REJECTS = _series("raw_rejects", "topic reason", "Rejected rows of the raw log and the archive")
DUPLICATES = _series("recent_duplicates", "", "Copies that were dropped from the events of the last two days")
LATE_ROWS = _series("recent_late_rows", "what", "Good rows of raw objects not archived yet that are late or out of place")
AUDIT_FINDINGS = _series("audit_findings", "kind", "What the chain audit finds wrong: holes, overlaps, damage")
GAP_RECORDS = _series("gap_records", "", "Records that the log had lost before they were read, of all recorded gaps")

# Dagster
DAEMON = _series("daemon_heartbeat_timestamp_seconds", "daemon", "Unix time of the last heartbeat of a daemon thread")
TICK = _series("tick_timestamp_seconds", "name kind", "Unix time of the last tick of a sensor or schedule that is on")
TICK_FAILED = _series("tick_failed", "name kind", "1 where the last tick of a sensor or schedule failed")
SWITCHED_OFF = _series("switched_off", "name kind", "1 for a sensor or schedule that somebody stopped")
RUNS = _series("runs", "lane status", "Runs that are queued or running")
RUN_AGE = _series("oldest_run_seconds", "lane status", "Age of the oldest run that is queued or running")
RUN_SECONDS = _series("last_run_seconds", "lane", "Time from start to end of the last run that succeeded")
RUNS_ENDED = _series("recent_runs", "lane status", "Runs that ended within the last hour")
FAILED_IN_A_ROW = _series(
    "failed_runs_in_a_row", "lane", "Runs of a lane that failed since the last that succeeded; backfills are not counted"
)
MATERIALIZED = _series("materialized_timestamp_seconds", "asset", "Unix time of the asset's last materialization, whichever partition")
BADGE = _series("dagster_freshness", "asset", "Dagster's own badge: 0 pass, 1 unknown, 2 warn, 3 fail")
BACKFILLS = _series(
    "backfills",
    "status",
    "Backfills of the last day: running, done, failed (days of the nightly schedule too), canceled",
)
BACKFILL_STILL = _series("backfill_still_seconds", "", "Longest time that a running backfill has ended no run")

# the machine
DISK_FREE = _series("disk_free_bytes", "path", "Free bytes of the disk below a folder: lake (of a local lake) and state")
DISK_SIZE = _series("disk_size_bytes", "path", "Size of that disk")
