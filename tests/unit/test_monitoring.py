"""What wakes whom: each alert is complete, knows its series, has its runbook, and silences only what its cause raises too."""

from __future__ import annotations

import os
import re
from pathlib import Path

import lake_helpers
import pytest
import yaml

from engagement import cli
from engagement.exporter.series import SERIES
from monitoring import alerts, dashboards, described, routes, rules, written
from monitoring.alerts import ALERTS, NAMES

PAGE = Path(described.__file__).parents[1] / "docs" / "monitoring.md"
REWRITE = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_monitoring.py"
PROGRAMS = {"engagement", "curl", "df", "ls", "date", "timedatectl", "dagster", "dagster-daemon", "kill"}
KNOWN = {*SERIES, *described.consumer_series(), "engagement_flush_rows_sum", "up", "ALERTS"}


def named(expr):
    """Names of series in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\'[^\']*\'|\{[^}]*\}|\[[^]]*\]|(by|on|without) \([^)]*\)', " ", expr)
    return {
        name
        for name in re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?![a-zA-Z0-9_:]*\s*\()", bare)
        if name.startswith(("engagement_", "up", "ALERTS"))
    }


def test_the_page_shows_what_is_declared():
    page = PAGE.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(described.with_markdown(page))
    assert PAGE.read_text() == described.with_markdown(page), f"alerts, SLAs or series changed; rewrite the page: {REWRITE}"


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_an_alert_says_all_that_a_person_needs(alert):
    assert NAMES.count(alert.name) == 1
    assert alert.meaning.endswith(".")
    assert alert.impact.endswith(".")
    assert not alert.summary.endswith(".")
    assert alert.causes
    for command in alert.first:
        program, *arguments = command.split()
        assert program in PROGRAMS
        assert program != "engagement" or arguments[0] in cli.COMMANDS


@pytest.mark.parametrize("expr", [alert.expr for alert in ALERTS] + dashboards.expressions())
def test_an_expression_names_series_that_are_served(expr):
    assert named(expr)
    assert named(expr) <= KNOWN


def test_names_are_found_in_expressions():
    assert named('max by (a) (rate(engagement_x_total{b="engagement_no"}[5m])) > on () engagement_y or absent(up)') == {
        "engagement_x_total", "engagement_y", "up"
    }  # fmt: skip


def test_silencing_runs_one_way():
    order = {name: place for place, name in enumerate(NAMES)}
    below = {alert.name: set(alert.silences) for alert in ALERTS}
    assert all(name in order for names in below.values() for name in names)

    def reached(name, seen):
        for found in below[name]:
            assert found not in seen, f"{found} silences what silences it"
            reached(found, seen | {found})

    for name in NAMES:
        reached(name, {name})


def test_every_page_but_those_of_wrong_data_silences_stale_numbers_or_is_it():
    causes = {"DiskFull", "StoreAway", "BrokerDown", "OfflinePartitions", "InstanceAway", "ConsumerDown", "DaemonDown", "SensorStuck",
              "PartitionStopped", "UnitHeld"}  # fmt: skip
    assert causes == {alert.name for alert in ALERTS if "NumbersStale" in alert.silences}


def test_an_alerts_link_is_a_heading_of_the_page():
    headings = {line[4:].strip().lower() for line in PAGE.read_text().splitlines() if line.startswith("### ")}
    for rule in rules.rules()["groups"][0]["rules"]:
        if rule["alert"] != rules.WATCHDOG:
            path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert (path, anchor in headings) == ("docs/monitoring.md", True)


def test_the_files_are_for_the_settings(tmp_path):
    settings = lake_helpers.settings_of(tmp_path, metrics_port=1234, exporter_port=4321, host="10.0.0.1")
    paths = {path.relative_to(tmp_path / "out").as_posix() for path in written.write(settings, tmp_path / "out", page="http://pager")}
    assert {"prometheus.yml", "rules.yml", "alertmanager.yml", "grafana/dashboards/on-call.json"} <= paths
    prometheus = yaml.safe_load((tmp_path / "out" / "prometheus.yml").read_text())
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert targets == {alerts.CONSUMER: ["10.0.0.1:1234"], alerts.EXPORTER: ["10.0.0.1:4321"]}
    receivers = {item["name"]: item for item in routes.alertmanager(page="http://pager")["receivers"]}
    assert receivers["page"]["webhook_configs"][0]["url"] == "http://pager"
    assert receivers["ticket"] == {"name": "ticket"}


@pytest.mark.parametrize("name", dashboards.DASHBOARDS)
def test_a_dashboard_is_what_grafana_reads(name):
    board = dashboards.parsed(name)
    assert board["uid"] == f"engagement-{name}"
    assert len(board["panels"]) == len(dashboards.DASHBOARDS[name][1])
    assert all(panel["targets"] and panel["gridPos"]["w"] <= 24 for panel in board["panels"])
