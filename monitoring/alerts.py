"""Every alert, in the order in which causes silence their symptoms: what is wrong, what it affects, what to do.

A page wakes somebody: numbers are wrong, stale or lost, or will be within hours. A ticket waits for the morning. An alert
`silences` those that its cause raises too, so that one cause is one page. Rules, routes and the runbooks of
docs/monitoring.md are made from this list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CONSUMER, EXPORTER = "engagement-consumer", "engagement-exporter"
"""Prometheus jobs."""
HOLD = "2m"
"""A cause fires on so long after it is gone, so that what it left behind does not page while it recovers."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `expr` is PromQL; `wait` how long it must hold. `causes` and `first` are the runbook's."""

    name: str
    severity: Literal["page", "ticket"]
    expr: str
    summary: str
    """One line: what is wrong, with `{{ $value }}` or labels."""
    impact: str
    meaning: str
    ideal: str
    """The range that is well."""
    first: tuple[str, str, str]
    """The first three commands."""
    causes: tuple[str, ...]
    wait: str = "0s"
    hold: str = "0s"
    silences: tuple[str, ...] = ()


_STATUS = "engagement status"
_EXPORTED = "engagement exporter --once"
_AFTER = ("NumbersStale", "LagGrowing", "VolumeOutOfLine")
_RECOVERING = "delta(max(engagement_data_age_seconds{lane='live'})[1m:10s])"

ALERTS: Sequence[Alert] = (
    # ------------------------------------------------------------------------------------- what everything else stands on
    Alert(
        "DiskFull", "page",
        "min by (path) (engagement_disk_free_bytes / engagement_disk_size_bytes) < 0.03"
        " or (min by (path) (predict_linear(engagement_disk_free_bytes[30m], 4 * 3600)) < 0"
        " and min by (path) (engagement_disk_free_bytes / engagement_disk_size_bytes) < 0.25)",
        "the disk of {{ $labels.path }} is full or will be within 4 hours",
        "Nothing can be written: the consumer stops taking records (none is lost, they stay in Kafka), runs fail.",
        "Free space below the lake or the state folder is under 3 %, or goes there within 4 hours at the pace of the last half hour.",
        "over 25 % free",
        ("df -h", "engagement maintain --dry-run", "engagement status"),
        ("retention is not declared, or too long", "the archive is behind: raw objects are kept twice", "somebody else's files"),
        hold=HOLD,
        silences=("BrokerDown", "ConsumerDown", "StoreAway", "InstanceAway", "DaemonDown", "SensorStuck", "PartitionStopped", "RunsFail",
                  "SlowStore", "QueueStuck", "DiskFilling", *_AFTER),
    ),
    Alert(
        "ExporterDown", "page",
        'absent(engagement_exporter_look_timestamp_seconds{source="machine"})',
        "the exporter does not answer: nobody watches the pipeline",
        "No number is stale because of it, but nothing would tell.",
        "No series of the exporter has come for 45 s: it is dead, hangs, or Prometheus cannot reach it.",
        "always there",
        ("curl -s 127.0.0.1:9109/metrics | head", "engagement exporter --once | head -20", "engagement settings | grep PORT"),
        ("the process died: its log's last line says why", "another address or port than Prometheus scrapes"),
        wait="45s",
        silences=("AuditAway",),
    ),
    Alert(
        "StoreAway", "page",
        'engagement_exporter_source_up{source="lake"} == 0',
        "the lake cannot be read",
        "The page shows its last numbers at best; the consumer holds what it can and then stops reading. Nothing is lost.",
        "The exporter could not list or read the lake at its last looks.",
        "1",
        ("engagement status", "engagement settings | grep -E 'LAKE|AWS'", "engagement exporter --once 2>&1 >/dev/null"),
        ("the store or the network is down", "credentials expired", "the lake's folder was moved or its rights changed"),
        wait="30s", hold=HOLD,
        silences=("ConsumerDown", "PartitionStopped", "RunsFail", "SlowStore", "SensorStuck", "QueueStuck", "AuditAway", *_AFTER),
    ),
    Alert(
        "BrokerDown", "page",
        "engagement_broker_up == 0",
        "Kafka does not answer",
        "New events wait in the phones' backends or are refused; the numbers stand still. What is in the lake is safe.",
        "The exporter asked the bootstrap servers and got no answer within 5 s.",
        "1",
        ("engagement status", "engagement topics", "engagement settings | grep KAFKA"),
        ("all brokers are down, or unreachable from here", "credentials or certificates expired", "another address than is set"),
        wait="30s", hold=HOLD,
        silences=("ConsumerDown", "OfflinePartitions", "UnderReplicated", *_AFTER),
    ),
    Alert(
        "OfflinePartitions", "page",
        "sum(engagement_offline_partitions) > 0",
        "{{ $value }} partitions have no leader",
        "Events of these partitions can neither be sent nor read.",
        "The cluster answers, but partitions of our topics have no broker that leads them.",
        "0",
        ("engagement topics", "engagement status", "engagement exporter --once | grep -E 'brokers|partitions'"),
        ("a broker with the only replica is down: see topic_replication in `engagement topics`", "a broker's disk is full"),
        wait="30s", hold=HOLD,
        silences=("UnderReplicated", *_AFTER),
    ),
    Alert(
        "InstanceAway", "page",
        'engagement_exporter_source_up{source="dagster"} == 0',
        "the Dagster instance's storage cannot be read",
        "No run is started: numbers go stale within minutes.",
        "The exporter could not read the instance below the state folder, or its PostgreSQL.",
        "1",
        ("engagement status", "engagement exporter --once 2>&1 >/dev/null", "ls -l $ENGAGEMENT_STATE_DIR/dagster"),
        ("PostgreSQL is down", "the state folder was moved", "SQLite files are damaged: restore them (docs/operations.md)"),
        wait="30s", hold=HOLD,
        silences=("DaemonDown", "SensorStuck", "NumbersStale", "QueueStuck"),
    ),
    # ------------------------------------------------------------------------------------------------- processes of ours
    Alert(
        "ConsumerDown", "page",
        f'absent(engagement_heartbeat_seconds{{job="{CONSUMER}"}})',
        "no consumer answers, or its loop stands still",
        "New events stay in Kafka and the numbers stand still; nothing is lost while the topics keep records.",
        "No consumer has served its heartbeat for 45 s. A loop that has not turned for a minute serves none.",
        "always there",
        ("engagement status", "curl -s 127.0.0.1:9108/metrics | grep heartbeat", "engagement ingest"),
        ("the process died or was not started after a deployment: its log's last line says why", "it waits for a store that hangs",
         "Prometheus scrapes another address"),
        wait="45s", hold=HOLD,
        silences=("PartitionStopped", *_AFTER),
    ),
    Alert(
        "ConsumerMissing", "ticket",
        f'sum(up{{job="{CONSUMER}"}} == bool 0) > 0 and sum(up{{job="{CONSUMER}"}}) > 0',
        "{{ $value }} of several consumers do not answer",
        "The others read its partitions; there is less room for a peak.",
        "Prometheus cannot scrape some of the consumers it knows.",
        "0",
        ("engagement status", "curl -s 127.0.0.1:9108/metrics | grep lag_records", "engagement ingest"),
        ("a machine is gone", "a deployment left one out"),
        wait="5m",
    ),
    Alert(
        "DaemonDown", "page",
        "time() - min(engagement_daemon_heartbeat_timestamp_seconds) > 75 or"
        ' absent(engagement_daemon_heartbeat_timestamp_seconds) and on () engagement_exporter_source_up{source="dagster"} == 1',
        "the Dagster daemon gives no sign of life",
        "No run is started: numbers go stale. Raw records are written as ever.",
        "A thread of the daemon has not written its heartbeat for 75 s (it does every 30 s). Dagster's badges stay as they were.",
        "under 60 s",
        ("engagement status", "dagster-daemon liveness-check", "engagement refresh"),
        ("the process died: its log's last line says why", "the instance's database is locked or away", "the machine swaps"),
        wait="10s", hold=HOLD,
        silences=("SensorStuck", "NumbersStale", "QueueStuck", "RunHangs", "BackfillStands"),
    ),
    Alert(
        "SensorStuck", "page",
        'time() - max(engagement_tick_timestamp_seconds{name="arrivals"}) > 75 or max(engagement_switched_off{name="arrivals"}) == 1',
        "the sensor `arrivals` does not tick",
        "Nobody asks for runs: numbers go stale.",
        "The sensor that turns what waits into runs has been switched off, or its last tick is over 75 s old (it ticks every 5 s).",
        "under 30 s, on",
        ("engagement status", "dagster sensor list -m engagement_assets.definitions", "engagement refresh"),
        ("somebody switched it off in the UI", "the code server is down or does not load: the daemon's log says why", "a tick hangs"),
        hold=HOLD,
        silences=("NumbersStale",),
    ),
    # ------------------------------------------------------------------------------------------------- lost or wrong data
    Alert(
        "PartitionStopped", "page",
        "sum(engagement_partition_stopped) > 0",
        "the consumer has stopped {{ $value }} partitions",
        "Their events stay in Kafka until somebody decides; the other partitions go on.",
        "A partition cannot go on without a decision: its resume offset lies above the log's end, a claim is damaged, a topic changed.",
        "0",
        ("engagement status", 'engagement query "SELECT max(received_at) FROM events"', "engagement topics"),
        ("a broker was restored from an older state", "a topic was deleted and made anew", "a raw object is damaged"),
        wait="30s",
        silences=("NumbersStale", "LagGrowing"),
    ),
    Alert(
        "RecordsLost", "page",
        "increase(engagement_gap_records[30m]) > 0 or sum(engagement_unread_lost_records) > 0"
        " or sum(increase(engagement_gap_offsets_total[30m])) > 0",
        "{{ $value }} records expired in Kafka before they were read",
        "These events are in no number, and never will be, unless their sender repeats them.",
        "The log no longer holds offsets that the lake lacks. The consumer records them as a gap and goes on.",
        "0",
        ("engagement status", "engagement topics", "engagement exporter --once | grep -E 'gap|lost|retention'"),
        ("the consumer stood longer than the topics keep records", "retention by size is shorter than that by time"),
    ),
    Alert(
        "BrokerLostRecords", "page",
        "sum(engagement_lake_ahead_records) > 0",
        "the log ends {{ $value }} records before the lake",
        "New events get offsets that the lake has already: their partitions stop.",
        "The lake holds records that the broker has no more: it lost them, or it is another one.",
        "0",
        ("engagement status", "engagement settings | grep KAFKA", "engagement topics"),
        ("an unclean leader election", "a broker restored from a snapshot", "the wrong cluster"),
        wait="1m",
        silences=("PartitionStopped",),
    ),
    Alert(
        "RawLogDamaged", "page",
        "sum(engagement_audit_findings) > 0",
        "the chain audit finds {{ $value }} holes, overlaps or damaged objects in the raw log",
        "Hours made from these objects may lack events; nothing else can be made from raw until it is mended.",
        "Claims of a chain do not join, or an object cannot be read.",
        "0",
        ("engagement status", "engagement status --json", "engagement restore --help"),
        ("somebody deleted or replaced objects by hand", "a disk or a copy is damaged"),
    ),
    Alert(
        "RejectsFlood", "page",
        "sum by (topic) (rate(engagement_rejects_total[2m])) / sum by (topic) (rate(engagement_flush_rows_sum[2m])) > 0.05"
        " and sum by (topic) (rate(engagement_rejects_total[2m])) > 0.1",
        "{{ $value | humanizePercentage }} of the records of {{ $labels.topic }} are rejected",
        "These events are in no number. They are kept with their reason and can be replayed once it is mended.",
        "More than one record in twenty is no event, over two minutes.",
        "under 1 %",
        ("engagement dead-letters list", "engagement status", "engagement dead-letters show --help"),
        ("an app release sends what the contract does not know", "another producer writes to the topic", "phones' clocks are off"),
        wait="20s", hold=HOLD,
        silences=("VolumeOutOfLine", "ChecksFail"),
    ),
    Alert(
        "ClockOff", "page",
        "max(engagement_newest_record_timestamp_seconds) - time() > 60",
        "the log's newest record is {{ $value | humanizeDuration }} in the future",
        "Ages and lanes are judged by the wrong time; events may be rejected as in_future.",
        "The broker's clock is ahead of this machine's by over a minute.",
        "under 5 s",
        ("date -u", "timedatectl", "engagement status"),
        ("time synchronisation has stopped, here or on a broker",),
        wait="30s",
        silences=("RejectsFlood", "VolumeOutOfLine"),
    ),
    Alert(
        "UnitHeld", "page",
        "sum(engagement_held_units) > 0",
        "gates hold {{ $value }} units: the page shows their last good rows",
        "The held hours or days stand still; all others go on.",
        "A candidate broke a constraint that must hold of every published row.",
        "0",
        ("engagement status", "engagement check --help", "engagement query \"SELECT * FROM quality_results WHERE status = 'failed'\""),
        ("a release of the app sends impossible values", "a release of ours makes wrong rows"),
        silences=("NumbersStale", "RunsFail", "ChecksFail", "StragglersStale"),
    ),
    Alert(
        "VolumeOutOfLine", "page",
        "engagement_anomalies > 0",
        "volume or mix of {{ $value }} hours is out of line with earlier weeks",
        "Either the world changed or events are missing, doubled or mislabelled.",
        "Events, users or their mix in a settled hour differ from earlier weeks by more than chance. No events at all is one.",
        "0",
        ("engagement anomalies list", "engagement status", "engagement check --help"),
        ("an outage of the app or its backend", "a campaign, a holiday: accept it", "a release that sends less, or twice"),
    ),
    # ------------------------------------------------------------------------------------------------------------ symptoms
    Alert(
        "NumbersStale", "page",
        "max(engagement_sla_state{lane='live', asset=~'hourly_engagement|daily_engagement'}) == 3"
        f" and on () ({_RECOVERING} > -30 or absent({_RECOVERING}))",
        "the page lacks records that are older than its SLA allows",
        "Dashboards show old numbers and say so.",
        "The oldest record of the log that the big table lacks is older than the SLA, and it gets no better.",
        "hourly_engagement under 180 s, daily_engagement under 300 s",
        ("engagement status", "engagement exporter --once | grep -E 'sla_state|waiting|runs'", "engagement refresh"),
        ("runs fail or are slow: the Dagster UI shows them", "more records come than one consumer reads", "a unit waits for its retry"),
        wait="10s",
        silences=("LagGrowing", "RunsFail", "QueueStuck", "RunHangs", "StragglersStale", "SlowStore"),
    ),
    Alert(
        "RecordsExpireSoon", "page",
        "max(engagement_behind_seconds) > 0.5 * scalar(max(engagement_log_retention_seconds)) or"
        " (max(engagement_behind_seconds) > 600 and"
        " (scalar(max(engagement_log_retention_seconds)) - max(engagement_behind_seconds))"
        " / clamp_min(max(deriv(engagement_behind_seconds[15m])), 0.001) < 6 * 3600)",
        "records expire in Kafka before they are read, within hours",
        "What expires unread is lost.",
        "The oldest unread record is older than half of what the topics keep, or gets there within 6 hours at the present pace.",
        "under 60 s behind",
        ("engagement status", "engagement topics", "engagement ingest"),
        ("the consumer stands or is too slow: start more", "the topics keep records too short: raise their retention now"),
        wait="1m",
        silences=("LagGrowing",),
    ),
    Alert(
        "LagGrowing", "ticket",
        "max(engagement_behind_seconds) > 120 and max(deriv(engagement_behind_seconds[5m])) > 0.2",
        "the lake falls behind the log: {{ $value | humanizeDuration }} so far",
        "Numbers get older; at this pace they breach their SLA.",
        "The oldest unread record gets older from minute to minute. Time to breach: (SLA - value) / growth, both on the dashboard.",
        "under 60 s, steady",
        ("engagement status", "curl -s 127.0.0.1:9108/metrics | grep -E 'lag|buffered'", "engagement ingest"),
        ("a peak: start more consumers", "a slow store: see SlowStore"),
        wait="2m",
    ),
    Alert(
        "StragglersStale", "ticket",
        "max(engagement_sla_state{lane='late'}) == 3",
        "late events of old hours have waited for over an hour",
        "Past hours lack their stragglers; the live page is right.",
        "Events of hours before the previous one are gathered and should be on the page within an hour.",
        "under 30 min",
        ("engagement status", "engagement refresh", "engagement exporter --once | grep late"),
        ("runs of the lane `late` fail", "a large import is being worked off"),
        wait="5m",
    ),
    # ------------------------------------------------------------------------------------------------------ Dagster's runs
    Alert(
        "RunsFail", "ticket",
        "max by (lane) (engagement_failed_runs_in_a_row) >= 3",
        "{{ $value }} runs of lane {{ $labels.lane }} failed in a row",
        "What they should have made waits and is tried again with growing delay.",
        "At least three runs of a lane failed since the last that succeeded. Backfills are not counted.",
        "0",
        ("engagement status", "dagster run list --limit 10", "engagement refresh"),
        ("the run's log in the UI names the unit and the reason",),
        wait="1m",
    ),
    Alert(
        "QueueStuck", "ticket",
        'max by (lane) (engagement_oldest_run_seconds{status="queued", lane=~"live|day|late"}) > 900',
        "a run of lane {{ $labels.lane }} has been queued for {{ $value | humanizeDuration }}",
        "What it should make waits.",
        "Runs are queued and none is started.",
        "under 60 s",
        ("dagster run list --limit 10", "engagement status", "dagster-daemon liveness-check"),
        ("a run of the lane hangs: see RunHangs", "a concurrency limit of 0"),
        wait="1m",
    ),
    Alert(
        "RunHangs", "ticket",
        'max by (lane) (engagement_oldest_run_seconds{status="running", lane=~"live|day"}) > 900',
        "a run of lane {{ $labels.lane }} has been running for {{ $value | humanizeDuration }}",
        "Its lane starts no other.",
        "Runs of the lanes live and day take seconds; one without an event for 10 minutes is failed by the sensor.",
        "under 60 s",
        ("dagster run list --limit 10", "engagement status", "engagement refresh"),
        ("an import of history landed in the live hour", "the machine is overloaded"),
        wait="1m",
    ),
    Alert(
        "SwitchedOff", "ticket",
        'max by (name, kind) (engagement_switched_off{name!="arrivals"}) == 1',
        "the {{ $labels.kind }} {{ $labels.name }} is switched off",
        "What it asks for is not done.",
        "Somebody stopped a sensor or a schedule that the code declares as running.",
        "on",
        ("dagster sensor list -m engagement_assets.definitions", "dagster schedule list -m engagement_assets.definitions",
         "engagement status"),
        ("it was stopped for maintenance and forgotten",),
        wait="10m",
    ),
    Alert(
        "BackfillFailed", "ticket",
        'engagement_backfills{status="failed"} > 0',
        "{{ $value }} backfills of the last day ended failed",
        "The days they should have rebuilt stand as they were.",
        "A backfill started from the UI or by the schedule ended with failed partitions. Its single runs raise nothing.",
        "0",
        ("dagster run list --limit 20", "engagement status", "engagement backfill --help"),
        ("the failed run's log names the unit and the reason",),
    ),
    Alert(
        "BackfillStands", "ticket",
        "engagement_backfill_still_seconds > 1800",
        "a backfill has ended no run for {{ $value | humanizeDuration }}",
        "The rest of its days is not rebuilt.",
        "A running backfill makes no progress for half an hour.",
        "under 600 s",
        ("dagster run list --limit 20", "engagement status", "dagster-daemon liveness-check"),
        ("its runs wait behind other runs of the lane", "a run hangs"),
    ),
    # ------------------------------------------------------------------------------------------------------- for the morning
    Alert(
        "ChecksFail", "ticket",
        "sum(engagement_suspect_units) > 0",
        "checks of severity error say that {{ $value }} published units may be wrong",
        "The page marks them.",
        "Deequ or the engine's twin judged settled hours or days, and rows broke a constraint.",
        "0",
        ("engagement check --help", "engagement status", "engagement query \"SELECT * FROM quality_results WHERE status = 'failed'\""),
        ("see docs/quality.md: each constraint says what to do",),
    ),
    Alert(
        "UnderReplicated", "ticket",
        "sum(engagement_under_replicated_partitions) > 0",
        "{{ $value }} partitions have fewer replicas than they should",
        "One more broker down may lose records or stop partitions.",
        "Brokers are missing or behind.",
        "0",
        ("engagement topics", "engagement exporter --once | grep -E 'brokers|replicated'", "engagement status"),
        ("a broker is down or restarting", "a broker's disk is slow or full"),
        wait="5m",
    ),
    Alert(
        "DiskFilling", "ticket",
        "min by (path) (predict_linear(engagement_disk_free_bytes[6h], 72 * 3600)) < 0"
        " and min by (path) (engagement_disk_free_bytes / engagement_disk_size_bytes) < 0.5",
        "the disk of {{ $labels.path }} will be full within three days",
        "None yet.",
        "At the pace of the last six hours free space ends within three days.",
        "over 50 % free",
        ("df -h", "engagement maintain --dry-run", "engagement status"),
        ("retention is not declared, or too long",),
        wait="1h",
    ),
    Alert(
        "SlowStore", "ticket",
        "histogram_quantile(0.95, sum by (le) (rate(engagement_flush_duration_seconds_bucket[5m]))) > 5",
        "writing a raw object takes {{ $value | humanizeDuration }}",
        "Numbers are that much older.",
        "One raw object in twenty takes over 5 s to encode and publish.",
        "under 1 s",
        ("curl -s 127.0.0.1:9108/metrics | grep flush_duration", "engagement status", "df -h"),
        ("the disk or the network is overloaded", "the store throttles"),
        wait="2m",
    ),
    Alert(
        "RawNotArchived", "ticket",
        'engagement_layer_objects{layer="raw"} > 100000',
        "{{ $value }} raw objects are not expired yet",
        "Listings get slower and disks fuller.",
        "The maintenance run archives closed ingest hours and expires raw objects a day later; it does not keep up, or does not run.",
        "under 50,000",
        ("engagement maintain --dry-run", "engagement status", "engagement maintain"),
        ("the schedule maintain_every_hour is off or fails", "raw_grace_minutes is very long"),
        wait="1h",
    ),
    Alert(
        "AuditAway", "ticket",
        'engagement_exporter_source_up{source="audit"} == 0',
        "the exporter cannot audit the lake",
        "Damage, sizes and results of checks are not told.",
        "The look at the whole lake, every 5 minutes, fails.",
        "1",
        ("engagement exporter --once 2>&1 >/dev/null", "engagement status", "engagement maintain --dry-run"),
        ("a footer that cannot be read: the exporter's log names it",),
        wait="15m",
    ),
)  # fmt: skip
NAMES = tuple(alert.name for alert in ALERTS)
