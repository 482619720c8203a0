"""A log to measure with: a broker of its own and many events, loaded fast, the same for everyone who reads it.

The simulator builds a few hundred thousand events; the log repeats them, each time with new event ids, because
Python cannot build twenty million in a bearable time. Nothing is malformed: the peers would lose such records.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from engagement import settings as settings_module
from engagement.settings import Settings
from engagement.stack import jars, topics
from engagement.stack.broker import Broker
from engagement.stack.simulator import Faults, events

TEMPLATES = 200_000
SPAN = timedelta(minutes=10)
USERS = 20_000
CHUNK = 5_000
QUEUE = 300_000
"""Records that wait to be sent."""

HEAD = b'{"event_id":"'
ID_LENGTH = 36


@dataclass(frozen=True, slots=True)
class Log:
    """What everyone reads; `folder` is deleted with it."""

    settings: Settings
    folder: Path
    events: int
    payload_bytes: int

    def __str__(self) -> str:
        return f"{self.events:,} events of {self.payload_bytes / self.events:.0f} bytes"


@contextlib.contextmanager
def log(count: int, *, slim: bool = True) -> Iterator[Log]:
    """A broker whose three topics hold so many events, until the block ends; raises SystemExit where the jars do not come."""
    if jars.main([]):
        raise SystemExit(1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the folder holds gigabytes: it goes however this ends
    with tempfile.TemporaryDirectory(prefix="engagement-bench-") as scratch, Broker(Path(scratch) / "kafka") as broker:
        settings = settings_module.load({}, Path(scratch), kafka_bootstrap_servers=broker.bootstrap)
        topics.ensure(settings)
        began = time.monotonic()
        payload_bytes = fill(settings, templates(settings, min(count, TEMPLATES), slim=slim), count)
        found = Log(settings, Path(scratch), count, payload_bytes)
        print(f"{found} loaded in {time.monotonic() - began:.0f} s", file=sys.stderr)
        yield found


@dataclass(frozen=True, slots=True)
class Template:
    """One event without its id: topic, key and the bytes after the id."""

    topic: str
    key: bytes
    rest: bytes


def templates(settings: Settings, count: int = TEMPLATES, *, slim: bool = True) -> list[Template]:
    """Events of the last minutes, in the order in which they happened.

    `slim` makes them about 380 bytes: a shorter user id, no region, city and previous screen.
    """
    names = {family: topic for topic, family in settings.topics.items()}
    end = datetime.now(UTC)
    rate = count / SPAN.total_seconds()
    none = Faults(late=0, duplicates=0, malformed=0, unknown_fields=0)
    found = []
    for record in events(7, end - SPAN, end, users=USERS, rate=rate, faults=none):
        assert record.key is not None
        assert record.value is not None
        key, value = slimmed(record.value) if slim else (record.key, record.value)
        assert value.startswith(HEAD)
        found.append(Template(names[record.topic_family], key, value[len(HEAD) + ID_LENGTH :]))
    return found


def slimmed(value: bytes) -> tuple[bytes, bytes]:
    """Key and bytes of the event without what makes it longer than most apps' events."""
    document: dict[str, Any] = msgspec.json.decode(value)
    document["user_id"] = document["user_id"][:10]
    document["geo_location"] = {"country": document["geo_location"]["country"]}
    document["properties"].pop("previous_screen", None)
    return document["user_id"].encode(), msgspec.json.encode(document)


def records(found: list[Template], count: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """So many records with ids of their own: topic, and key and value as `produce_batch` takes them."""
    for template in itertools.islice(itertools.cycle(found), count):
        event_id = str(uuid.UUID(bytes=secrets.token_bytes(16), version=4)).encode()
        yield template.topic, {"key": template.key, "value": HEAD + event_id + template.rest}


def fill(settings: Settings, found: list[Template], count: int) -> int:
    """Load the topics, which exist; returns the payloads' bytes when the broker has acknowledged all of them."""
    from confluent_kafka import Producer

    size = 0
    refused: list[str] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            refused.append(error.str())

    producer = Producer(
        settings.kafka_config(
            **{
                "compression.type": "lz4",
                "linger.ms": 50,
                "batch.size": 1 << 20,
                "acks": "all",
                "queue.buffering.max.messages": QUEUE + 2 * CHUNK,
                "delivery.report.only.error": True,
            }
        )
    )
    stream = records(found, count)
    while chunk := list(itertools.islice(stream, CHUNK)):
        batches: dict[str, list[dict[str, bytes]]] = {}
        for topic, message in chunk:
            batches.setdefault(topic, []).append(message)
            size += len(message["value"])
        while len(producer) > QUEUE:
            producer.poll(0.1)
        for topic, messages in batches.items():
            producer.produce_batch(topic, messages, on_delivery=delivered)
        producer.poll(0)
    producer.flush()
    if refused or len(producer):
        raise RuntimeError(f"{len(refused)} records refused, {len(producer)} unsent: {refused[:1]}")
    return size
