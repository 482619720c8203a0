"""Every alert under Prometheus's own rule tests: it fires for its cause, nothing fires where all is well; routes under amtool."""

from __future__ import annotations

import subprocess

import lake_helpers
import pytest
import yaml

from monitoring import written
from monitoring.alerts import ALERTS, NAMES

MINUTES = 150
AT = "130m"
TOPIC = 'topic="session"'
LIVE = 'asset="hourly_engagement",lane="live"'
NOW = f"0+60x{MINUTES}"
"""A Unix time that is always the present."""
STUCK = f"0+60x110 6600x{MINUTES - 110}"


def always(value):
    return f"{value}x{MINUTES}"


def bucket(le, values):
    return {f'engagement_flush_duration_seconds_bucket{{{TOPIC},le="{le}"}}': values}


WELL = {
    **{f'engagement_exporter_source_up{{source="{source}"}}': always(1) for source in ("machine", "log", "lake", "dagster", "audit")},
    'engagement_exporter_look_timestamp_seconds{source="machine"}': NOW,
    'up{job="engagement-exporter",instance="a"}': always(1),
    'up{job="engagement-consumer",instance="a"}': always(1),
    'engagement_heartbeat_seconds{job="engagement-consumer"}': NOW,
    'engagement_daemon_heartbeat_timestamp_seconds{daemon="SENSOR"}': NOW,
    'engagement_tick_timestamp_seconds{name="arrivals",kind="sensor"}': NOW,
    'engagement_switched_off{name="arrivals",kind="sensor"}': always(0),
    'engagement_switched_off{name="settled",kind="sensor"}': always(0),
    "engagement_broker_up": always(1),
    f"engagement_offline_partitions{{{TOPIC}}}": always(0),
    f"engagement_under_replicated_partitions{{{TOPIC}}}": always(0),
    f'engagement_partition_stopped{{{TOPIC},partition="0"}}': always(0),
    "engagement_gap_records": always(0),
    f'engagement_unread_lost_records{{{TOPIC},partition="0"}}': always(0),
    f"engagement_gap_offsets_total{{{TOPIC}}}": always(0),
    f'engagement_lake_ahead_records{{{TOPIC},partition="0"}}': always(0),
    'engagement_audit_findings{kind="hole"}': always(0),
    f'engagement_rejects_total{{{TOPIC},reason="bad_json"}}': f"0+1x{MINUTES}",
    f"engagement_flush_rows_sum{{{TOPIC}}}": f"0+600x{MINUTES}",
    "engagement_newest_record_timestamp_seconds": NOW,
    'engagement_held_units{asset="events"}': always(0),
    'engagement_suspect_units{asset="events"}': always(0),
    "engagement_anomalies": always(0),
    f"engagement_sla_state{{{LIVE}}}": always(0),
    'engagement_sla_state{asset="hourly_engagement",lane="late"}': always(0),
    f"engagement_data_age_seconds{{{LIVE}}}": always(30),
    f'engagement_behind_seconds{{{TOPIC},partition="0"}}': always(10),
    "engagement_log_retention_seconds": always(604800),
    'engagement_failed_runs_in_a_row{lane="live"}': always(0),
    'engagement_oldest_run_seconds{lane="live",status="queued"}': always(1),
    'engagement_oldest_run_seconds{lane="live",status="running"}': always(2),
    'engagement_backfills{status="failed"}': always(0),
    "engagement_backfill_still_seconds": always(0),
    'engagement_disk_free_bytes{path="lake"}': always(6e11),
    'engagement_disk_size_bytes{path="lake"}': always(1e12),
    'engagement_layer_objects{layer="raw"}': always(1000),
    **bucket("1", f"0+10x{MINUTES}"),
    **bucket("10", f"0+10x{MINUTES}"),
    **bucket("+Inf", f"0+10x{MINUTES}"),
}


def one(name):
    """The series of this name, or with this in its labels, that is well."""
    (found,) = (series for series in WELL if name in series)
    return found


STALE = {one("sla_state{" + LIVE): always(3)}
CASES = {
    "DiskFull": ({one("disk_free"): always(2e10)}, ()),
    "DiskFull, soon": ({one("disk_free"): f"240000000000-1000000000x{MINUTES}"}, ("DiskFilling",)),
    "ExporterDown": ({one("look_timestamp"): None}, ()),
    "StoreAway": ({one('source="lake"'): always(0), one("sla_state{" + LIVE): None}, ()),
    "BrokerDown": ({"engagement_broker_up": always(0)}, ()),
    "OfflinePartitions": ({one("offline"): always(2)}, ()),
    "InstanceAway": ({one('source="dagster"'): always(0), one("daemon_heartbeat"): None, one("tick_timestamp"): None}, ()),
    "ConsumerDown": ({one("heartbeat_seconds{job"): None, one('up{job="engagement-consumer"'): always(0)}, ()),
    "ConsumerMissing": ({'up{job="engagement-consumer",instance="b"}': always(0)}, ()),
    "DaemonDown": ({one("daemon_heartbeat"): STUCK}, ()),
    "DaemonDown, one thread": ({'engagement_daemon_heartbeat_timestamp_seconds{daemon="QUEUED"}': STUCK}, ()),
    "DaemonDown, never there": ({one("daemon_heartbeat"): None}, ()),
    "SensorStuck": ({one("tick_timestamp"): STUCK}, ()),
    "SensorStuck, switched off": ({one('off{name="arrivals"'): always(1), one("tick_timestamp"): None}, ()),
    "PartitionStopped": ({one("partition_stopped"): always(1)}, ()),
    "RecordsLost": ({"engagement_gap_records": f"0x120 5x{MINUTES - 120}"}, ()),
    "RecordsLost, about to be": ({one("unread_lost"): always(7)}, ()),
    "BrokerLostRecords": ({one("lake_ahead"): always(3)}, ()),
    "RawLogDamaged": ({one("audit_findings"): always(1)}, ()),
    "RejectsFlood": ({one("rejects_total"): f"0+100x{MINUTES}"}, ()),
    "ClockOff": ({"engagement_newest_record_timestamp_seconds": f"120+60x{MINUTES}"}, ()),
    "UnitHeld": ({one("held_units"): always(1)}, ()),
    "VolumeOutOfLine": ({"engagement_anomalies": always(1)}, ()),
    "NumbersStale": (STALE | {one("data_age"): f"0+60x{MINUTES}"}, ()),
    "RecordsExpireSoon": ({one("behind_seconds"): f"590000+60x{MINUTES}"}, ("LagGrowing",)),
    "RecordsExpireSoon, half": ({one("behind_seconds"): always(310000)}, ()),
    "LagGrowing": ({one("behind_seconds"): f"0+60x{MINUTES}"}, ()),
    "StragglersStale": ({one('lane="late"'): always(3)}, ()),
    "RunsFail": ({one("failed_runs"): always(3)}, ()),
    "QueueStuck": ({one('status="queued"'): always(1000)}, ()),
    "RunHangs": ({one('status="running"'): always(1000)}, ()),
    "SwitchedOff": ({one('off{name="settled"'): always(1)}, ()),
    "BackfillFailed": ({one("backfills"): always(1)}, ()),
    "BackfillStands": ({one("backfill_still"): always(2000)}, ()),
    "ChecksFail": ({one("suspect"): always(1)}, ()),
    "UnderReplicated": ({one("under_replicated"): always(1)}, ()),
    "DiskFilling": ({one("disk_free"): f"450000000000-500000000x{MINUTES}"}, ()),
    "SlowStore": (bucket("1", always(0)), ()),
    "RawNotArchived": ({one('layer="raw"'): always(200000)}, ()),
    "AuditAway": ({one('source="audit"'): always(0)}, ()),
}
QUIET = {
    "all is well": {},
    "stale, and getting better": STALE | {one("data_age"): f"20000-120x{MINUTES}"},
    "a silent night": {
        one("rejects_total"): always(5),
        f"engagement_flush_rows_sum{{{TOPIC}}}": always(900),
        "engagement_newest_record_timestamp_seconds": always(1000),
        one("data_age"): always(0),
        one("behind_seconds"): always(0),
    },
    "a few rejects of few records": {one("rejects_total"): f"0+3x{MINUTES}", one("flush_rows"): f"0+10x{MINUTES}"},
    "a lag that does not grow": {one("behind_seconds"): always(500)},
    "a disk that is nearly full and stays so": {one("disk_free"): always(5e10)},
    "a backfill that goes on": {'engagement_backfills{status="running"}': always(1), one("backfill_still"): always(900)},
    "two failed runs": {one("failed_runs"): always(2)},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The configuration as `engagement monitoring` writes it."""
    made = tmp_path_factory.mktemp("monitoring")
    written.write(lake_helpers.settings_of(made), made, page="http://127.0.0.1:1/page", ticket="http://127.0.0.1:1/ticket")
    return made


def ran(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check(folder, name, overlay, firing):
    series = {name: values for name, values in (WELL | overlay).items() if values is not None}
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": str(values)} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": 'max by (alertname) (ALERTS{alertstate="firing", alertname!="Watchdog"})',
                "eval_time": AT,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)],
            }
        ],
    }
    path = folder / f"{name.replace(' ', '-')}.yml"
    path.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": [test]}))
    ran("promtool", "test", "rules", str(path))


def test_there_is_a_case_for_every_alert():
    assert {name.partition(",")[0] for name in CASES} == set(NAMES)


@pytest.mark.parametrize("name", CASES)
def test_a_cause_raises_its_alert_and_no_other(name, folder):
    overlay, also = CASES[name]
    alert = name.partition(",")[0]
    silenced = next(found for found in ALERTS if found.name == alert).silences
    assert set(also) <= set(silenced)
    check(folder, name, overlay, {alert, *also})


@pytest.mark.parametrize("name", QUIET)
def test_nothing_fires(name, folder):
    check(folder, name, QUIET[name], ())


def test_the_files_are_accepted(folder):
    ran("promtool", "check", "config", str(folder / "prometheus.yml"))
    ran("amtool", "check-config", str(folder / "alertmanager.yml"))


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_goes_where_its_severity_says(alert, folder):
    config = f"--config.file={folder / 'alertmanager.yml'}"
    assert (
        ran("amtool", "config", "routes", "test", config, f"alertname={alert.name}", f"severity={alert.severity}").strip() == alert.severity
    )


def test_the_watchdog_goes_to_the_heartbeat_alone(folder):
    config = f"--config.file={folder / 'alertmanager.yml'}"
    assert ran("amtool", "config", "routes", "test", config, "alertname=Watchdog", "severity=none").strip() == "heartbeat"
