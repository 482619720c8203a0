"""Replays in the part of the log that ingest has not read yet: from the lake's end of each partition to the log's.

Read without regard to transactions, so that one that somebody left open hides nothing. What they mean is decided
in `letters`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from engagement.connection import client
from engagement.errors import PermanentError
from engagement.ingest import headers
from engagement.ingest.dead_letters import Place
from engagement.ingest.kafka import BrokerUnavailable, Topics
from engagement.ingest.letters import Address, replay_of
from engagement.progress import Progress, silent
from engagement.raw.index import UnreadableFile
from engagement.settings import Settings

ASK_SECONDS = 10.0
SILENT_SECONDS = 30.0
"""The broker owes records and sends none for so long: it is away."""
BATCH = 2000


def read_tails(
    settings: Settings, ends: Mapping[Place, int], doubts: Mapping[Place, UnreadableFile], progress: Progress = silent
) -> tuple[set[Address], dict[str, int]]:
    """Origins of replays that the log has and the lake has not, and the number of partitions a topic.

    `ends` is where each partition's records are not known from the lake any more; `doubts` is the first object that
    cannot be read. Costs one read of what ingest lags behind. Raises BrokerUnavailable, and PermanentError where
    neither lake nor log can tell what an unreadable object held.
    """
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    try:
        ids = Topics(settings).ids(list(settings.topics), ASK_SECONDS)
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"broker {settings.kafka_bootstrap_servers}: {error}") from error
    consumer = client(
        Consumer,
        settings,
        {
            "group.id": f"{settings.consumer_group}-replay",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_uncommitted",
        },
    )
    try:
        highs: dict[tuple[str, int], int] = {}
        starts = []
        partitions = {}
        for topic, topic_id in ids.items():
            numbers = consumer.list_topics(topic, timeout=ASK_SECONDS).topics[topic].partitions
            partitions[topic] = len(numbers)
            for number in numbers:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=ASK_SECONDS)
                place = (topic, topic_id[:8], number)
                start = max(low, ends.get(place, 0))
                if place in doubts and low > doubts[place].start:
                    doubt = doubts[place]
                    msg = f"{doubt.key} {doubt.why}; the log has lost its records too: replays may hide there, --again sends anyway"
                    raise PermanentError(msg)
                if start < high:
                    highs[topic, number] = high
                    starts.append(TopicPartition(topic, number, start))
        consumer.assign(starts)
        unread = _read(consumer, highs, sum(highs[start.topic, start.partition] - start.offset for start in starts), progress)
    except KafkaException as error:
        raise BrokerUnavailable(f"broker {settings.kafka_bootstrap_servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()
    return unread, partitions


def _read(consumer: Any, highs: dict[tuple[str, int], int], total: int, progress: Progress) -> set[Address]:
    """Read every partition to its high watermark; what lies at its very end may be no record but a marker."""
    from confluent_kafka import KafkaError, KafkaException

    found: set[Address] = set()
    done, heard = 0, time.monotonic()
    while highs:
        messages = consumer.consume(BATCH, 0.5)
        if messages:
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENT_SECONDS:
            raise BrokerUnavailable(f"the broker has sent no record for {SILENT_SECONDS:.0f} s")
        for message, held in zip(messages, headers.of(messages), strict=True):
            place = (message.topic(), message.partition())
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                raise KafkaException(error)
            origin = replay_of(held)
            if origin is not None:
                found.add(origin)
            done += error is None
            if place in highs and message.offset() + 1 >= highs[place] + (error is not None):
                del highs[place]
        progress("records that ingest has not read", min(done, total), total)
    return found
