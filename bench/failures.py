"""The failures of game day, and the running demo that they are done to.

A failure is a generator: up to its `yield` it happens, after it the cause is gone. Only processes of the demo are signalled, by pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from engagement.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from s3_proxy import CUT, Proxy, Request  # noqa: E402 - a tool of the tests

ENGAGEMENT = [sys.executable, "-m", "engagement"]
DISK_BYTES = 2 << 30
AHEAD_SECONDS = 150
SLOW_SECONDS = 6.0


@dataclass
class Demo:
    """The running demo: its settings, its supervisor's process, its environment, and what stands between it and the world."""

    settings: Settings
    child: subprocess.Popen[bytes]
    environment: dict[str, str]
    store: Proxy | None = None

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


@dataclass(frozen=True, slots=True)
class Case:
    """A failure, whom it is to reach with which alert (no alert: it is mended before anybody has to know), and the lake it needs."""

    failure: Failure
    alert: str = ""
    receiver: Literal["page", "ticket"] = "page"
    lake: Literal["folder", "bucket"] = "folder"


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


@contextlib.contextmanager
def sending(demo: Demo, pause: float, **record: Any) -> Iterator[None]:
    """Meanwhile a sender that produces this record to the topic `session` every so many seconds; its time may be `ahead` of ours."""
    from confluent_kafka import Producer

    over = threading.Event()
    ahead = record.pop("ahead", 0.0)
    producer = Producer({**_bootstrap(demo), "acks": "all", "enable.idempotence": True})

    def send() -> None:
        while not over.wait(pause):
            producer.produce("session", timestamp=int((time.time() + ahead) * 1000), **record)
            producer.poll(0)
        producer.flush(30)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _bootstrap(demo: Demo) -> dict[str, str]:
    return {"bootstrap.servers": demo.settings.kafka_bootstrap_servers}


def bad_release(demo: Demo) -> Iterator[None]:
    """An app release sends what is no event: a fifth as many again as all others, until it is withdrawn."""
    with sending(demo, 0.05, value=b'{"event_id": "not one"}', key=b"u"):
        yield


def clock_off(demo: Demo) -> Iterator[None]:
    """A broker's clock is two and a half minutes ahead: so its newest records are stamped, until it is set.

    The topic takes the senders' own times meanwhile; one of them sends what was sent before, stamped as that broker would.
    """
    from confluent_kafka import Consumer, TopicPartition

    reader = Consumer({**_bootstrap(demo), "group.id": "game-day", "enable.auto.commit": False})
    _, end = reader.get_watermark_offsets(TopicPartition("session", 0), timeout=10)
    reader.assign([TopicPartition("session", 0, end - 1)])
    (record,) = reader.consume(1, timeout=30)
    reader.close()
    _stamped_by(_bootstrap(demo), "CreateTime")
    try:
        with sending(demo, 0.5, value=record.value(), key=record.key(), ahead=AHEAD_SECONDS):
            yield
    finally:
        _stamped_by(_bootstrap(demo), "LogAppendTime")


def _stamped_by(bootstrap: dict[str, str], kind: str) -> None:
    """Whose time the records of the topic get: the sender's or the broker's."""
    from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    entry = ConfigEntry("message.timestamp.type", kind, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, "session", incremental_configs=[entry])
    admin = AdminClient(bootstrap)  # it must outlive its answers
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(30)


def disk_full(demo: Demo) -> Iterator[None]:
    """Something else fills the disk that holds the lake and the state."""
    hog = demo.settings.state_dir.parent / "hog"
    with hog.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # to the last byte
        while file.write(bytes(1 << 20)):
            pass
    try:
        yield
    finally:
        hog.unlink()


def store_away(demo: Demo) -> Iterator[None]:
    """Every connection to the store ends before an answer comes."""
    assert demo.store is not None
    demo.store.fault = lambda _request: CUT
    try:
        yield
    finally:
        demo.store.fault = lambda _request: None


def store_slow(demo: Demo) -> Iterator[None]:
    """The store takes its time for every object that is written."""
    assert demo.store is not None

    def late(request: Request) -> None:
        if request.kind == "PUT":
            time.sleep(SLOW_SECONDS)

    demo.store.fault = late
    try:
        yield
    finally:
        demo.store.fault = lambda _request: None


CASES: dict[str, Case] = {
    "consumer_killed": Case(killed("engagement", "ingest")),
    "consumer_hangs": Case(stopped("engagement", "ingest"), "ConsumerDown"),
    "broker_hangs": Case(broker_stopped, "BrokerDown"),
    "daemon_hangs": Case(stopped("run", "-w"), "DaemonDown"),
    "sensor_off": Case(sensor_off, "SensorStuck"),
    "exporter_hangs": Case(stopped("engagement", "exporter"), "ExporterDown"),
    "bad_release": Case(bad_release, "RejectsFlood"),
    "clock_off": Case(clock_off, "ClockOff"),
    "disk_full": Case(disk_full, "DiskFull"),
    "store_away": Case(store_away, "StoreAway", lake="bucket"),
    "store_slow": Case(store_slow, "SlowStore", "ticket", lake="bucket"),
}


def why_not(name: str) -> str | None:
    """What this machine lacks for a failure; None: nothing."""
    if name == "disk_full" and os.geteuid() != 0:
        return "only root may mount the small disk that it fills"
    return None


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 2 GiB in memory at `folder`, where we may mount one; else the folder as it is."""
    folder.mkdir()
    mounted = os.geteuid() == 0
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
