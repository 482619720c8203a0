"""How far the lake is behind the log: per partition in records, and in seconds by the oldest record it lacks.

For whoever looks from outside (`engagement status`); the consumer measures its own lag from what it hears anyway.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from engagement.connection import client
from engagement.ingest.kafka import LARGEST_BYTES, BrokerUnavailable, Topics
from engagement.raw.names import topic_chain
from engagement.settings import Settings

OLDEST_SECONDS = 2.0
"""Longest time that all reads of oldest records take together; what has not come by then has no age."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Lag:
    """One topic partition: the log's end, the lake's end, and what lies between."""

    topic: str
    partition: int
    log_start: int
    log_end: int
    lake_end: int
    oldest_received_at: datetime | None = None
    """Log-append time of the first record that the lake lacks; None without one, or where it could not be read in time."""

    @property
    def records(self) -> int:
        """Offsets that are in the log and not in the lake; negative where the lake is ahead of a log that lost records."""
        return self.log_end - self.lake_end

    @property
    def lost(self) -> int:
        """Offsets that the log no longer holds and the lake never will: the consumer records them as a gap."""
        return max(0, self.log_start - self.lake_end)

    def seconds(self, now: datetime) -> float | None:
        """Age of the oldest record that the lake lacks; 0 where it lacks none, None where nobody could read it."""
        if self.records <= 0:
            return 0.0
        if self.oldest_received_at is None:
            return None
        return max(0.0, (now - self.oldest_received_at) / timedelta(seconds=1))


def measure(settings: Settings, ends: Mapping[str, int], timeout: float) -> list[Lag]:
    """The lag of every partition of the topics, `ends` being the lake's ends by chain label; raises BrokerUnavailable."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    ids = Topics(settings).ids(list(settings.topics), timeout)
    consumer = client(
        Consumer,
        settings,
        {
            "group.id": f"{settings.consumer_group}-status",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            # One record a partition is wanted, not what librdkafka would read ahead.
            "fetch.message.max.bytes": 65536,
            "queued.max.messages.kbytes": 1024,
            "receive.message.max.bytes": LARGEST_BYTES,
        },
    )
    try:
        found = []
        for topic, topic_id in ids.items():
            metadata = consumer.list_topics(topic, timeout=timeout)
            for number in sorted(metadata.topics[topic].partitions):
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout)
                found.append(Lag(topic, number, low, high, ends.get(topic_chain(topic, topic_id, number).label, 0)))
        return _with_oldest(consumer, found)
    except KafkaException as error:
        raise BrokerUnavailable(error.args[0].str()) from error
    finally:
        consumer.close()


def _with_oldest(consumer: Any, found: list[Lag]) -> list[Lag]:
    """Read the first record behind the lake's end of each partition that lags, all of them within OLDEST_SECONDS."""
    from confluent_kafka import TopicPartition

    wanted = {(lag.topic, lag.partition): max(lag.lake_end, lag.log_start) for lag in found if lag.records > 0}
    oldest: dict[tuple[str, int], datetime] = {}
    consumer.incremental_assign([TopicPartition(*key, offset) for key, offset in wanted.items()])
    deadline = time.monotonic() + OLDEST_SECONDS
    while wanted and (left := deadline - time.monotonic()) > 0:
        message = consumer.poll(left)
        if message is None or message.topic() is None:
            continue
        key = (message.topic(), message.partition())
        if wanted.pop(key, None) is not None:
            # The end of the partition is an answer too: what lies behind the lake's end has no records (transactions).
            consumer.incremental_unassign([TopicPartition(*key)])
            if message.error() is None:
                oldest[key] = _EPOCH + timedelta(milliseconds=message.timestamp()[1])
    return [replace(lag, oldest_received_at=oldest.get((lag.topic, lag.partition))) for lag in found]
