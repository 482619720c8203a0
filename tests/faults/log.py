"""The log as a plain client reads it, and what it held before retention took it away."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient

from engagement.settings import Settings

READ_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Logged:
    """A record as a plain client reads it."""

    key: bytes | None
    value: bytes | None
    millis: int
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(slots=True)
class History:
    """All that one partition ever held."""

    records: dict[int, Logged] = field(default_factory=dict)
    """By offset: what `read_committed` shows."""
    aborted: set[int] = field(default_factory=set)
    """Offsets of records that nobody may see."""
    cuts: set[int] = field(default_factory=set)
    """Where the log began after retention: the only places where a gap may end."""


class Log:
    """Reads partitions whole; `cut` is retention, which first keeps what it deletes."""

    def __init__(self, settings: Settings) -> None:
        servers = {"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0}
        self._admin = AdminClient(servers)
        self._committed = _reader(servers, "read_committed")
        self._uncommitted = _reader(servers, "read_uncommitted")
        self._kept: dict[tuple[str, int], History] = defaultdict(History)

    def close(self) -> None:
        self._committed.close()
        self._uncommitted.close()

    def history(self, topic: str, number: int) -> History:
        """What is there now, and what was."""
        records = _read(self._committed, topic, number)
        everything = _read(self._uncommitted, topic, number)
        decided = max(records, default=-1)
        kept = self._kept[topic, number]
        kept.records |= records
        kept.aborted |= {offset for offset in everything.keys() - records.keys() if offset < decided}
        return kept

    def cut(self, topic: str, number: int) -> int:
        """Delete all that is decided so far, as retention would; returns where the log begins now."""
        kept = self.history(topic, number)
        begin = max(kept.records, default=-1) + 1
        for future in self._admin.delete_records([TopicPartition(topic, number, begin)]).values():
            future.result()
        kept.cuts.add(begin)
        return begin


def _reader(servers: dict[str, Any], isolation: str) -> Consumer:
    own = {"group.id": "faults-reader", "enable.auto.commit": False, "fetch.wait.max.ms": 20}
    return Consumer({**servers, **own, "isolation.level": isolation, "enable.partition.eof": True, "auto.offset.reset": "earliest"})


def _read(consumer: Consumer, topic: str, number: int) -> dict[int, Logged]:
    """Every record of a partition, up to its end."""
    found: dict[int, Logged] = {}
    deadline = time.monotonic() + READ_SECONDS
    consumer.assign([TopicPartition(topic, number, 0)])
    while time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.1):
            error = message.error()
            if error is None:
                headers = tuple(message.headers() or ())
                found[message.offset()] = Logged(message.key(), message.value(), message.timestamp()[1], headers)
            elif error.code() == KafkaError._PARTITION_EOF:
                return found
    raise AssertionError(f"{topic}/{number} could not be read to its end in {READ_SECONDS:.0f} s")
