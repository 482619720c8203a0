"""Game day: each failure on purpose in a running demo, with real Prometheus and Alertmanager: who is told, when, and what it cost.

    .venv/bin/python bench/game_day.py [--only consumer_hangs broker_hangs …] [--rate 100]

Wanted: a page within 120 s, one a cause, recovery without hands, nothing lost, nothing twice. Everything runs in a temporary
folder on loopback; only processes of this demo are signalled, by pid. A failure is mended when its alert has come, or after 240 s
(a ticket: 600 s). Alert: from the failure to the alert. Recover: from the mend until the alert is over and hour rows lack nothing
older than a minute. `disk_full` needs root (it fills a disk of its own), else it is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import failures
import measure
from failures import CASES, ENGAGEMENT, Demo
from s3_proxy import Proxy  # a tool of the tests; failures knows where

from engagement import settings as settings_module
from engagement.stack import processes, s3
from engagement.stack.broker import Broker
from monitoring import local
from monitoring.alerts import ALERTS

ALERT_SECONDS = {"page": 240.0, "ticket": 600.0}
QUIET_SECONDS = 30.0
"""So long nothing may be told of a failure that nobody has to know."""
RECOVER_SECONDS, START_SECONDS = 600.0, 400.0
WANTED_SECONDS = {"page": 120.0, "ticket": 600.0}
PAGES = {alert.name for alert in ALERTS if alert.severity == "page"}
PORTS = ("dagster_port", "dashboard_port", "metrics_port", "exporter_port")


@dataclass
class Told:
    """What one failure led to; seconds."""

    name: str
    alert: float | None = None
    recover: float | None = None
    pages: list[str] = field(default_factory=list)
    tickets: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """The right alert, no other page, in time, and recovery."""
        case = CASES[self.name]
        wanted = [case.alert] if case.alert and case.receiver == "page" else []
        in_time = self.alert is None if not case.alert else self.alert is not None and self.alert <= WANTED_SECONDS[case.receiver]
        return in_time and self.recover is not None and self.pages == wanted


def main() -> int:
    """Run the failures one after another; 1 where one was not told as wanted, or a row was lost or doubled."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    options.add_argument("--rate", type=float, default=100.0)
    asked = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ended from outside it unmounts and stops what it started all the same
    print(f"{measure.machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", flush=True)
    for name, why in ((name, failures.why_not(name)) for name in asked.only):
        if why:
            print(f"{name} is left out: {why}", flush=True)
    names = [name for name in asked.only if failures.why_not(name) is None]
    found: list[Told] = []
    whole = True
    for lake in ("folder", "bucket"):
        if chosen := [name for name in names if CASES[name].lake == lake]:
            told, said, kept = day(chosen, asked.rate, in_bucket=lake == "bucket")
            found += told
            whole = whole and kept
            print(f"lake in a {lake}: {said}", flush=True)
    print(measure.table([row(item) for item in found]))
    return 0 if whole and all(item.ok for item in found) else 1


def day(names: Sequence[str], rate: float, *, in_bucket: bool) -> tuple[list[Told], str, bool]:
    """These failures in one demo; what they led to, one line of totals, and whether no row was lost or doubled."""
    with tempfile.TemporaryDirectory(prefix="game-day-") as name, demo(Path(name), rate, in_bucket=in_bucket) as running:
        (Path(name) / "monitoring").mkdir()
        with local.running(running.settings, Path(name) / "monitoring") as watch:
            sent = running.settings.state_dir / "history-sent"
            if not wait(lambda: sent.exists() and calm(watch), START_SECONDS):
                print(f"it did not become fresh and quiet: {watch.firing()}", file=sys.stderr)
            meter = Meter(running)
            found = []
            for case in names:
                found.append(played(running, watch, case))
                meter.look()
        lost, doubled = counted(running)
    return found, f"rows lost {lost}, rows doubled {doubled}; exporter {meter.share:.2%} of a core (wanted 2 %)", (lost, doubled) == (0, 0)


@contextmanager
def demo(folder: Path, rate: float, *, in_bucket: bool) -> Iterator[Demo]:
    """A demo on a small disk, and beside it a broker, so that its supervisor does not mend what stands still."""
    ports = processes.free_ports("127.0.0.1", len(PORTS))
    disk = folder / "disk"
    own = {f"ENGAGEMENT_{name.upper()}": str(port) for name, port in zip(PORTS, ports, strict=True)}
    own |= {"ENGAGEMENT_STATE_DIR": str(disk / "state"), "ENGAGEMENT_LAKE_URL": str(disk / "lake")}
    with ExitStack() as stack:
        stack.enter_context(failures.small_disk(disk))
        store = stack.enter_context(bucket(folder / "s3", own)) if in_bucket else None
        kafka = stack.enter_context(Broker(folder / "kafka"))
        environment = measure.clean_environment(**own, ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=kafka.bootstrap)
        settings = settings_module.load({name: text for name, text in environment.items() if name.startswith("ENGAGEMENT_")}, folder)
        log = stack.enter_context((folder / "demo.log").open("wb"))
        child = processes.start([*ENGAGEMENT, "demo", "--rate", str(rate)], log, environment)
        try:
            yield Demo(settings, child, environment, store)
        finally:
            processes.stop(child, 60)


@contextmanager
def bucket(folder: Path, environment: dict[str, str]) -> Iterator[Proxy]:
    """A bucket, and what can be done to requests on their way to it; the environment is told where."""
    if s3.main([]) != 0:
        raise SystemExit(1)
    with s3.S3Server(folder) as server, Proxy(server.endpoint) as proxy:
        server.bucket("lake")
        environment |= {"ENGAGEMENT_LAKE_URL": "s3://lake/demo", **server.environment, "ENGAGEMENT_AWS_ENDPOINT_URL": proxy.endpoint}
        yield proxy


def played(running: Demo, watch: local.Local, name: str) -> Told:
    """One failure, mended when its alert has come."""
    case = CASES[name]
    told = Told(name)
    began = time.time()
    happening = case.failure(running)
    next(happening)
    if wait(lambda: watch.pager.names(case.receiver, since=began), ALERT_SECONDS[case.receiver] if case.alert else QUIET_SECONDS):
        told.alert = next(note.at for note in watch.pager.notes if note.at >= began and note.receiver == case.receiver) - began
    mended = time.time()
    for _ in happening:
        pass
    if wait(lambda: calm(watch, case.alert), RECOVER_SECONDS):
        told.recover = time.time() - mended
    told.pages, told.tickets = watch.pager.names("page", since=began), watch.pager.names("ticket", since=began)
    print(f"{name}: {told}", file=sys.stderr, flush=True)
    return told


def fresh(watch: local.Local) -> bool:
    """Whether hour rows lack nothing older than a minute."""
    found = watch.query('max(engagement_data_age_seconds{asset="hourly_engagement", lane="live"}) < 60')
    return bool(found)


def calm(watch: local.Local, *also: str) -> bool:
    """Whether no page fires, nor the alerts `also`, and hour rows are fresh."""
    return fresh(watch) and not watch.firing() & {*PAGES, *also}


def counted(running: Demo) -> tuple[int, int]:
    """Records of the log that the lake lacks once the senders stand still, and event ids that a table has twice."""
    running.part("engagement", "simulate").send_signal(signal.SIGSTOP)
    lost = -1

    def whole() -> bool:
        nonlocal lost
        found = json.loads(running.command("status", "--json"))
        lost = sum(item["lag"] + item["lost"] for item in found["partitions"])
        return bool(lost == 0 and not found["audit"]["findings"] and not found["audit"]["gaps"])

    wait(whole, 120, pause=2)
    sql = "SELECT count(*) - count(DISTINCT (event_id, year, month, day, hour)) AS twice FROM events"
    (row,) = json.loads(running.command("query", sql, "--format", "json"))
    return lost, row["twice"]


def wait(met: Callable[[], object], seconds: float, pause: float = 1.0) -> bool:
    """Whether it was met in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if met():
            return True
        time.sleep(pause)
    return False


class Meter:
    """What the exporter costs, over the times in which it was one process."""

    def __init__(self, running: Demo) -> None:
        self._running, self._last = running, self._now(running)
        self._cpu = self._seconds = 0.0

    def look(self) -> None:
        """To be called now and then."""
        now = self._now(self._running)
        if now[0] == self._last[0]:
            self._cpu, self._seconds = self._cpu + now[2] - self._last[2], self._seconds + now[1] - self._last[1]
        self._last = now

    @property
    def share(self) -> float:
        """Of a core."""
        return self._cpu / self._seconds if self._seconds else 0.0

    @staticmethod
    def _now(running: Demo) -> tuple[int, float, float]:
        exporter = running.part("engagement", "exporter")
        times = exporter.cpu_times()
        return exporter.pid, time.monotonic(), float(times.user + times.system)


def row(told: Told) -> dict[str, str]:
    """One line of the table."""
    return {
        "failure": told.name,
        "alert after s": "-" if told.alert is None else f"{told.alert:.0f}",
        "pages": ", ".join(told.pages) or "none",
        "tickets": ", ".join(sorted(set(told.tickets))) or "none",
        "recovered after s": "never" if told.recover is None else f"{told.recover:.0f}",
        "": "met" if told.ok else "MISSED",
    }


if __name__ == "__main__":
    sys.exit(main())
