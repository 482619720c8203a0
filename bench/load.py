"""A log to measure with: many events, loaded fast, the same for everyone who reads it.

The simulator builds a few hundred thousand events; the log repeats them, each time with new event ids, because
Python cannot build twenty million in a bearable time. Nothing is malformed: the peers would lose such records.
"""

from __future__ import annotations

import itertools
import secrets
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from engagement.settings import Settings
from engagement.stack.simulator import Faults, events

TEMPLATES = 200_000
SPAN = timedelta(minutes=10)
USERS = 20_000
CHUNK = 5_000
HEAD = b'{"event_id":"'
ID_LENGTH = 36


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


def fill(settings: Settings, found: list[Template], count: int) -> Counter[str]:
    """Load the topics, which exist; returns payload bytes and, by topic, records that the broker has acknowledged."""
    from confluent_kafka import Producer

    loaded: Counter[str] = Counter()
    refused: list[str] = []

    def delivered(error: Any, _message: Any) -> None:
        if error is not None:
            refused.append(error.str())

    producer = Producer(
        settings.kafka_config(
            **{
                "compression.type": "lz4", "linger.ms": 50, "batch.size": 1 << 20, "acks": "1",
                "queue.buffering.max.messages": 400_000, "delivery.report.only.error": True,
            }
        )
    )  # fmt: skip
    stream = records(found, count)
    while chunk := list(itertools.islice(stream, CHUNK)):
        batches: dict[str, list[dict[str, bytes]]] = {}
        for topic, message in chunk:
            batches.setdefault(topic, []).append(message)
        for topic, messages in batches.items():
            while len(producer) > 300_000:
                producer.poll(0.1)
            producer.produce_batch(topic, messages, on_delivery=delivered)
            loaded[topic] += len(messages)
            loaded["bytes"] += sum(len(message["value"]) for message in messages)
        producer.poll(0)
    producer.flush()
    if refused or len(producer):
        raise RuntimeError(f"{len(refused)} records refused, {len(producer)} unsent: {refused[:1]}")
    return loaded
