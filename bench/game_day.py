"""Game day: each failure on purpose in a running demo, with real Prometheus and Alertmanager: who is told, when, and what it cost.

    .venv/bin/python bench/game_day.py [--only consumer_hangs broker_hangs …] [--rate 100]

Wanted: a page within 120 s, one a cause, recovery without hands, nothing lost, nothing twice. Everything runs in a temporary
folder on loopback; only processes of this demo are signalled, by pid. A failure is mended when its page has come, or after 240 s.
Alert: from the failure to the page. Recover: from the mend until the page is told over and hour rows lack nothing older than a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import measure
import psutil

from engagement import settings as settings_module
from engagement.settings import Settings
from engagement.stack import processes
from engagement.stack.broker import Broker
from monitoring import local

ROOT = Path(__file__).resolve().parent.parent
ENGAGEMENT = [sys.executable, "-m", "engagement"]
ALERT_SECONDS, RECOVER_SECONDS, START_SECONDS = 240.0, 600.0, 180.0
WANTED_SECONDS = 120.0
PORTS = ("dagster_port", "dashboard_port", "metrics_port", "exporter_port")


@dataclass
class Demo:
    """The running demo: its settings, its supervisor's process, its environment."""

    settings: Settings
    child: subprocess.Popen[bytes]
    environment: dict[str, str]

    def part(self, *words: str) -> psutil.Process:
        """The one living process of the demo whose command line has these words."""
        found = [item for item in psutil.Process(self.child.pid).children(recursive=True) if has_words(item, words)]
        return min(found, key=lambda item: item.create_time())

    def command(self, *arguments: str) -> str:
        """Run `engagement …` beside it; its output."""
        done = subprocess.run([*ENGAGEMENT, *arguments], env=self.environment, capture_output=True, text=True, check=True, timeout=300)
        return done.stdout


def has_words(process: psutil.Process, words: Sequence[str]) -> bool:
    """Whether a living process was started with these words."""
    try:
        line = process.cmdline()
    except psutil.Error:  # it ended between two looks, as runs do
        return False
    return all(word in line for word in words)


Failure = Callable[[Demo], Iterator[None]]


def stopped(*words: str) -> Failure:
    """A process that stands still: alive, and deaf."""

    def failure(demo: Demo) -> Iterator[None]:
        process = demo.part(*words)
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    return failure


def killed(*words: str) -> Failure:
    """A process that dies at once; the supervisor starts it again."""

    def failure(demo: Demo) -> Iterator[None]:
        demo.part(*words).kill()
        yield

    return failure


def broker_stopped(_demo: Demo) -> Iterator[None]:
    """All of the broker stands still."""
    found = [item for item in psutil.Process().children(recursive=True) if has_words(item, ["kafka.Kafka"])]
    for process in found:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in found:
            process.send_signal(signal.SIGCONT)


def sensor_off(demo: Demo) -> Iterator[None]:
    """Somebody switches the sensor `arrivals` off."""
    home = demo.settings.state_dir / "dagster"
    tool = [str(Path(sys.executable).parent / "dagster"), "sensor"]
    environment = {**demo.environment, "DAGSTER_HOME": str(home)}
    for word in ("stop", "start"):
        command = [*tool, word, "arrivals", "-w", str(home / "workspace.yaml")]
        subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, check=True, timeout=120)
        if word == "stop":
            yield


def bad_release(demo: Demo) -> Iterator[None]:
    """An app release sends what is no event: a fifth as many again as all others, until it is withdrawn."""
    from confluent_kafka import Producer

    over = threading.Event()
    producer = Producer({"bootstrap.servers": demo.settings.kafka_bootstrap_servers, "acks": "all", "enable.idempotence": True})

    def send() -> None:
        while not over.wait(0.05):
            producer.produce("session", b'{"event_id": "not one"}', key=b"u")
            producer.poll(0)
        producer.flush(30)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        yield
    finally:
        over.set()
        sending.join()


FAILURES: dict[str, tuple[Failure, str]] = {
    "consumer_killed": (killed("engagement", "ingest"), ""),
    "consumer_hangs": (stopped("engagement", "ingest"), "ConsumerDown"),
    "broker_hangs": (broker_stopped, "BrokerDown"),
    "daemon_hangs": (stopped("run", "-w"), "DaemonDown"),
    "sensor_off": (sensor_off, "SensorStuck"),
    "exporter_hangs": (stopped("engagement", "exporter"), "ExporterDown"),
    "bad_release": (bad_release, "RejectsFlood"),
}
"""Name -> the failure, and the page that it is to raise (none: it is mended before anybody has to know)."""


@dataclass
class Told:
    """What one failure led to; seconds."""

    name: str
    wanted: str
    alert: float | None = None
    recover: float | None = None
    pages: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """The right page, alone, in time, and recovery."""
        in_time = self.alert is not None and self.alert <= WANTED_SECONDS if self.wanted else self.alert is None
        return in_time and self.recover is not None and self.pages == ([self.wanted] if self.wanted else [])


def main() -> int:
    """Run the failures one after another; 1 where one was not told as wanted, or a row was lost or doubled."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--only", nargs="+", choices=list(FAILURES), default=list(FAILURES))
    options.add_argument("--rate", type=float, default=100.0)
    asked = options.parse_args()
    print(f"{measure.machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC", flush=True)
    with tempfile.TemporaryDirectory(prefix="game-day-") as name, demo(Path(name), asked.rate) as running:
        (Path(name) / "monitoring").mkdir()
        with local.running(running.settings, Path(name) / "monitoring") as watch:
            wait(lambda: fresh(watch) and not watch.firing(), START_SECONDS)
            exporter, began = running.part("engagement", "exporter"), time.monotonic()
            before = cpu(exporter)
            found = [played(running, watch, name) for name in asked.only]
            share = (cpu(exporter) - before) / (time.monotonic() - began)
        lost, doubled = counted(running)
    print(measure.table([row(item) for item in found]))
    print(f"rows lost {lost}, rows doubled {doubled}; exporter {share:.2%} of a core (wanted 2 %)")
    return 0 if all(item.ok for item in found) and (lost, doubled) == (0, 0) else 1


@contextmanager
def demo(folder: Path, rate: float) -> Iterator[Demo]:
    """A demo, and beside it a broker, so that its supervisor does not mend what stands still."""
    ports = processes.free_ports("127.0.0.1", len(PORTS))
    own = {f"ENGAGEMENT_{name.upper()}": str(port) for name, port in zip(PORTS, ports, strict=True)}
    own |= {"ENGAGEMENT_STATE_DIR": str(folder / "state"), "ENGAGEMENT_LAKE_URL": str(folder / "lake")}
    environment = measure.clean_environment(**own)
    with Broker(folder / "kafka") as kafka:
        environment["ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS"] = kafka.bootstrap
        settings = settings_module.load({name: text for name, text in environment.items() if name.startswith("ENGAGEMENT_")}, folder)
        with (folder / "demo.log").open("wb") as log:
            child = processes.start([*ENGAGEMENT, "demo", "--rate", str(rate)], log, environment)
        try:
            yield Demo(settings, child, environment)
        finally:
            processes.stop(child, 60)


def played(running: Demo, watch: local.Local, name: str) -> Told:
    """One failure, mended when its page has come."""
    failure, wanted = FAILURES[name]
    told = Told(name, wanted)
    began = time.time()
    happening = failure(running)
    next(happening)
    limit = ALERT_SECONDS if wanted else 30.0
    if wait(lambda: watch.pager.names(since=began), limit):
        told.alert = watch.pager.notes[-1].at - began
    mended = time.time()
    for _ in happening:
        pass
    if wait(lambda: fresh(watch) and not watch.firing(), RECOVER_SECONDS):
        told.recover = time.time() - mended
    told.pages = watch.pager.names(since=began)
    print(f"{name}: {told}", file=sys.stderr, flush=True)
    return told


def fresh(watch: local.Local) -> bool:
    """Whether hour rows lack nothing older than a minute."""
    found = watch.query('max(engagement_data_age_seconds{asset="hourly_engagement", lane="live"}) < 60')
    return bool(found)


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


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def row(told: Told) -> dict[str, str]:
    """One line of the table."""
    return {
        "failure": told.name,
        "alert s": "-" if told.alert is None else f"{told.alert:.0f}",
        "pages": ", ".join(told.pages) or "none",
        "recover s": "never" if told.recover is None else f"{told.recover:.0f}",
        "": "met" if told.ok else "MISSED",
    }


if __name__ == "__main__":
    sys.exit(main())
