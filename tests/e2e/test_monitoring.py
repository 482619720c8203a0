"""Real Prometheus and Alertmanager over the running demo: a consumer that hangs is one page, and its end is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from helpers import demo_environment, eventually

from engagement import settings as settings_module
from engagement.stack import jars
from engagement.stack.broker import Broker
from monitoring import dashboards, local
from monitoring.alerts import ALERTS
from monitoring.rules import Pace

ENGAGEMENT = str(Path(sys.executable).with_name("engagement"))
PATIENCE = 120
FAST = Pace(scrape=2, evaluate=2, group=2, interval=4, hold="4s")
RARE = {
    "engagement_noticed_total", "engagement_fences_total", "engagement_buffers_dropped_total", "engagement_gap_offsets_total",
    "engagement_partition_stopped", "engagement_rejects_total", "engagement_raw_rejects", "engagement_checks", "ALERTS",
    "engagement_recent_late_rows", "engagement_raw_rows",
}  # fmt: skip
"""Series that are there only once what they tell of has happened, or the audit has looked at a lake that is not empty."""


@pytest.fixture
def environment(tmp_path):
    """A demo of its own: folders, ports, broker."""
    assert jars.main([]) == 0
    with Broker(tmp_path / "kafka") as broker:
        yield demo_environment(tmp_path, ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=broker.bootstrap)


@pytest.fixture
def demo(environment, tmp_path):
    """The running demo once it has shown its first number."""
    with (tmp_path / "demo.log").open("w") as log:
        child = subprocess.Popen([ENGAGEMENT, "demo"], cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            eventually(lambda: "first number of the current hour" in (tmp_path / "demo.log").read_text(), PATIENCE, 0.5)
            yield child
        finally:
            child.terminate()
            child.wait(PATIENCE)


def consumer_of(demo):
    (found,) = (child for child in psutil.Process(demo.pid).children(recursive=True) if child.cmdline()[-2:] == ["engagement", "ingest"])
    return found


def test_a_consumer_that_hangs_is_one_page_and_its_end_is_told(demo, environment, tmp_path):
    ours = {name: value for name, value in environment.items() if name.startswith("ENGAGEMENT_")}
    settings = settings_module.load(ours, tmp_path)
    (tmp_path / "monitoring").mkdir()
    with local.running(settings, tmp_path / "monitoring", FAST) as watch:
        eventually(lambda: watch.query("engagement_data_age_seconds{asset='hourly_engagement', lane='live'}"), PATIENCE)
        eventually(lambda: watch.query("engagement_heartbeat_seconds"), PATIENCE)
        for expr in [alert.expr for alert in ALERTS] + dashboards.expressions():
            watch.query(expr)  # Prometheus refuses what it cannot read
        assert watch.firing() == set()
        eventually(lambda: served(dashboards.expressions()) <= watch.names() | RARE, PATIENCE)  # some, when the first run has ended

        consumer = consumer_of(demo)
        consumer.suspend()
        try:
            eventually(watch.pager.names, PATIENCE, 0.5)
        finally:
            consumer.resume()
        eventually(lambda: watch.pager.names(status="resolved"), PATIENCE, 0.5)
        assert watch.pager.names() == watch.pager.names(status="resolved") == ["ConsumerDown"]
        assert watch.firing() == set()


def served(expressions):
    """Names of our series in these expressions."""
    return {name for expr in expressions for name in re.findall(r"\bengagement_[a-z0-9_]+", expr)}
