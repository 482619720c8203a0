"""The whole product on one machine: which parts there are, what they need, and what is measured of them."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.settings import Settings
from engagement.stack import processes
from engagement.stack.latency import LakeWatch, Latency
from engagement.stack.supervisor import Part, Supervisor

BROKER_HOST = "127.0.0.1"
"""The broker stays on loopback whatever ENGAGEMENT_HOST says: it has no authentication."""

ROOT = Path(__file__).parent.parent.parent
HISTORY = "6h"
HISTORY_RATE = 20.0
"""Events a second of the past at most: six hours of it are then sent in half a minute."""

USERS = "20000"
"""Enough people that 20 events a second are short visits, as in a real app."""

WORKSPACE = """load_from:
  - grpc_server: {{host: {host}, port: {port}, location_name: engagement}}
"""
DEMO_FLUSH_SECONDS = 10
DEMO_INSTANCE = "demo"
"""The demo's one consumer keeps its place in the group: after a kill it reads on at once, not when its session has timed out."""
DEMO_LATE_MINUTES, DEMO_LATE_ROWS = 1, 2000
"""History arrives while its hours are shown already: what came after them would wait for a quarter of an hour."""
POLL_SECONDS = 0.5
LOOK_FAILED = (TransientError, OSError, sqlite3.OperationalError)
ANSWER_SECONDS = 1.0


class PortTaken(PermanentError):
    """A port the demo needs is in use; the text names the setting that changes it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What `demo --seconds` reports; latencies in seconds from log-append to readable hour row."""

    events_produced: int
    rows_raw: int
    rows_rejected: int
    duplicates_dropped: int
    first_number_seconds: float | None
    latency_p50_seconds: float | None
    latency_p95_seconds: float | None


def for_demo(settings: Settings) -> Settings:
    """The settings with what a demo sets where the user did not."""
    own: dict[str, Any] = {"flush_seconds": DEMO_FLUSH_SECONDS, "consumer_instance": DEMO_INSTANCE}
    own |= {"late_minutes": DEMO_LATE_MINUTES, "late_rows": DEMO_LATE_ROWS}
    unset = {name: value for name, value in own.items() if name not in settings.sources}
    return replace(settings, **unset, sources={**settings.sources, **dict.fromkeys(unset, "demo")})


def brings_broker(settings: Settings) -> bool:
    """Whether the demo starts a broker of its own: only where no bootstrap servers are set."""
    return "kafka_bootstrap_servers" not in settings.sources


def check_ports(settings: Settings) -> None:
    """Raises PortTaken where a server could not listen."""
    wanted = [
        (settings.dagster_port, "ENGAGEMENT_DAGSTER_PORT"),
        (settings.dashboard_port, "ENGAGEMENT_DASHBOARD_PORT"),
        (settings.metrics_port, "ENGAGEMENT_METRICS_PORT"),
        (settings.exporter_port, "ENGAGEMENT_EXPORTER_PORT"),
    ]
    if brings_broker(settings):
        wanted.append((_broker_port(settings), "ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS (the demo then uses that broker)"))
    for port, name in wanted:
        if not processes.port_is_free(settings.host, port):
            raise PortTaken(f"port {port} on {settings.host} is taken: stop what listens there, or set {name}")


def parts(settings: Settings, rate: float, code_port: int, history_when: Callable[[], bool] | None) -> list[Part]:
    """All parts, in the order in which they are stopped backwards; no history where `history_when` is None.

    Daemon and webserver share one code server: each would start its own otherwise, at 4 CPU-seconds and 250 MB.
    """
    engagement = [sys.executable, "-m", "engagement"]
    home = settings.state_dir / "dagster"
    dagster_home = {"DAGSTER_HOME": str(home)}
    found: list[Part] = []
    if brings_broker(settings):
        broker = [*engagement, "broker", "--port", str(_broker_port(settings)), "--data-dir", str(settings.state_dir / "kafka")]
        found.append(Part("broker", broker, ready=_listens(BROKER_HOST, _broker_port(settings))))
    found += [
        Part("topics", [*engagement, "topics"], needs=["broker"] if brings_broker(settings) else [], once=True),
        Part("ingest", [*engagement, "ingest"], needs=["topics"], ready=_answers(settings.host, settings.metrics_port, "/metrics")),
        Part("simulate", [*engagement, "simulate", "--rate", str(rate), "--users", USERS], needs=["topics"]),
        Part(
            "dagster-code",
            [sys.executable, "-m", "engagement_assets.code_server", settings.host, str(code_port)],
            ready=_listens(settings.host, code_port),
        ),
        Part(
            "dagster-daemon",
            [_tool("dagster-daemon"), "run", "-w", str(home / "workspace.yaml")],
            needs=["dagster-code"],
            environment=dagster_home,
        ),
        Part(
            "dagster-webserver",
            [_tool("dagster-webserver"), "-h", settings.host, "-p", str(settings.dagster_port), "-w", str(home / "workspace.yaml")],
            needs=["dagster-code"],
            ready=_answers(settings.host, settings.dagster_port, "/server_info"),
            environment=dagster_home,
        ),
        Part(
            "dashboard",
            [
                sys.executable, "-m", "streamlit", "run", str(ROOT / "engagement" / "dashboard" / "app.py"), "--server.headless", "true",
                "--server.address", settings.host, "--server.port", str(settings.dashboard_port), "--browser.gatherUsageStats", "false",
                "--server.fileWatcherType", "none",
            ],
            ready=_answers(settings.host, settings.dashboard_port, "/_stcore/health"),
        ),
    ]  # fmt: skip
    exporter = [*engagement, "exporter"]
    found.append(Part("exporter", exporter, needs=["dagster-code"], ready=_answers(settings.host, settings.exporter_port, "/metrics")))
    if history_when is not None:
        argv = [*engagement, "simulate", "--history", HISTORY, "--history-only", "--rate", str(min(rate, HISTORY_RATE)), "--users", USERS]
        found.append(Part("history", argv, needs=["topics"], when=history_when, once=True, deadline_seconds=600))
    return found


def addresses(settings: Settings) -> dict[str, str]:
    """Part -> what a person opens."""
    host = settings.host
    return {
        "dashboard": f"page          http://{host}:{settings.dashboard_port}",
        "dagster-webserver": f"Dagster UI    http://{host}:{settings.dagster_port}",
        "ingest": f"metrics       http://{host}:{settings.metrics_port}/metrics",
        "exporter": f"exporter      http://{host}:{settings.exporter_port}/metrics",
    } | ({"broker": f"broker        {BROKER_HOST}:{_broker_port(settings)}"} if brings_broker(settings) else {})


class Demo:
    """Runs the parts and measures them; `run` returns when stopped or after `seconds` (0: never).

    `logs` also tells the parts' output, line by line.
    """

    def __init__(self, settings: Settings, rate: float, say: Callable[[str], None], began: datetime, *, logs: bool = False) -> None:
        self.settings = for_demo(settings)
        self._rate = rate
        self._logs = logs
        self._say = say
        self._began = began
        self._history_mark = self.settings.state_dir / "history-sent"
        self.supervisor = Supervisor(self.settings.state_dir, _environment(self.settings), say)

    def run(self, seconds: int, prepare: Callable[[Settings], object]) -> Result:
        """Everything from sweep to shut-down; `prepare` makes the Dagster home. Raises PortTaken, PartFailed."""
        left = self.supervisor.sweep()
        if left:
            self._say(f"ended {left} processes that an earlier demo had left")
        check_ports(self.settings)
        prepare(self.settings)
        watch = LakeWatch(self.settings)
        before = watch.totals()
        latency = Latency(datetime.now(UTC), watch.times_of)
        (code_port,) = processes.free_ports(self.settings.host, 1)
        workspace = WORKSPACE.format(host=self.settings.host, port=code_port)
        (self.settings.state_dir / "dagster" / "workspace.yaml").write_text(workspace)
        # The live hour first: history would take the two cores that the first number needs.
        history_when = None if self._history_mark.exists() else lambda: latency.first_current is not None
        self.supervisor.start(parts(self.settings, self._rate, code_port, history_when))
        self._say(f"starting; logs in {self.supervisor.log_of('*')}")
        try:
            self._watch(seconds, watch, latency)
        finally:
            self._say("stopping")
            self.supervisor.shut_down()
        result = self._result(watch, latency, before)
        watch.close()
        return result

    def _watch(self, seconds: int, watch: LakeWatch, latency: Latency) -> None:
        known: dict[str, int] = {}
        shown: set[str] = set()
        trouble = ""
        watch.new_files(known)  # of an earlier demo: they are not measured
        while not self.supervisor.stop.wait(POLL_SECONDS):
            self.supervisor.turn()
            now = datetime.now(UTC)
            for line in self.supervisor.new_output() if self._logs else ():
                self._say(line)
            before, trouble = trouble, ""
            try:
                latency.poll(now, watch.new_files(known), watch.coverage(now), watch.newest(now))
                self._announce(shown, now, watch, latency)
            except LOOK_FAILED as error:  # the store is away, the disk is full: the parts go on, and so does whoever watches them
                trouble = " ".join(str(error).split())
            if bool(trouble) != bool(before):
                self._say(f"the lake cannot be looked at: {trouble}" if trouble else "the lake can be looked at again")
            if seconds and (now - self._began).total_seconds() >= seconds:
                return

    def _announce(self, shown: set[str], now: datetime, watch: LakeWatch, latency: Latency) -> None:
        for name, text in addresses(self.settings).items():
            if name not in shown and self.supervisor.is_ready(name):
                shown.add(name)
                self._say(text)
        if "history" not in shown and (self._history_mark.exists() or self.supervisor.is_ready("history")):
            shown.add("history")
            self._history_mark.touch()
        if latency.first_current and "first" not in shown:
            shown.add("first")
            self._say(f"first number of the current hour after {(latency.first_current - self._began).total_seconds():.0f} s")
        newest = watch.newest(now)
        minute = f"age-{int((now - self._began).total_seconds()) // 15}"
        if newest and "first" in shown and minute not in shown:
            shown.add(minute)
            p95 = latency.percentile(0.95)
            so_far = "" if p95 is None else f"; 95 % of records were readable within {p95:.0f} s"
            self._say(f"newest number is {(now - newest).total_seconds():.0f} s old{so_far}")

    def _result(self, watch: LakeWatch, latency: Latency, before: Mapping[str, int]) -> Result:
        """What this run added to the lake; what an earlier one had produced and not yet read counts as read now."""
        after = watch.totals()
        first = latency.first_current
        return Result(
            events_produced=sum(
                _acknowledged(self.supervisor.log_of(name)) for name in self.supervisor.names if name in ("simulate", "history")
            ),
            first_number_seconds=None if first is None else round((first - self._began).total_seconds(), 1),
            latency_p50_seconds=latency.percentile(0.50),
            latency_p95_seconds=latency.percentile(0.95),
            **{name: after[name] - before[name] for name in after},
        )


def _acknowledged(log: Path) -> int:
    """Records that the simulators of this log report as acknowledged, one JSON line each."""
    total = 0
    for line in log.read_text(errors="replace").splitlines() if log.exists() else []:
        if line.startswith("{"):
            try:
                report: Mapping[str, Any] = json.loads(line)
            except ValueError:
                continue
            total += int(report.get("events", 0))
    return total


def _environment(settings: Settings) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    return {**inherited, **settings.environment(), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"}


def _broker_port(settings: Settings) -> int:
    return int(settings.kafka_bootstrap_servers.rsplit(":", 1)[1])


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _listens(host: str, port: int) -> Callable[[], bool]:
    def check() -> bool:
        with socket.socket() as probe:
            probe.settimeout(ANSWER_SECONDS)
            return probe.connect_ex((host, port)) == 0

    return check


def _answers(host: str, port: int, path: str) -> Callable[[], bool]:
    def check() -> bool:
        if not _listens(host, port)():
            return False
        try:
            with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=ANSWER_SECONDS) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return check
