"""What the broker says: how far the lake is behind it, and whether its partitions are well."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from engagement.connection import client
from engagement.exporter import series
from engagement.exporter.series import Sample, sample
from engagement.ingest import lag
from engagement.ingest.kafka import BrokerUnavailable
from engagement.ingest.lag import Lag
from engagement.settings import Settings

TIMEOUT_SECONDS = 5.0


def measure(settings: Settings, ends: Mapping[str, int]) -> list[Lag]:
    """The lag of every partition, `ends` being the lake's ends by chain label; raises BrokerUnavailable."""
    return lag.measure(settings, ends, TIMEOUT_SECONDS)


def look(settings: Settings, partitions: list[Lag], now: datetime) -> Iterator[Sample]:
    """The lag as samples, and the state of the cluster; raises BrokerUnavailable."""
    for item in partitions:
        where = (item.topic, item.partition)
        yield from sample(series.BEHIND, max(0, item.records), *where)
        yield from sample(series.BEHIND_SECONDS, item.seconds(now), *where)
        yield from sample(series.UNREAD_LOST, item.lost, *where)
        yield from sample(series.AHEAD, max(0, -item.records), *where)
    yield from sample(series.RETENTION, settings.topic_retention_hours * 3600)
    yield from _cluster(settings)


def _cluster(settings: Settings) -> Iterator[Sample]:
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    admin: Any = client(AdminClient, settings, {})
    try:
        found = admin.list_topics(timeout=TIMEOUT_SECONDS)
    except KafkaException as error:
        raise BrokerUnavailable(error.args[0].str()) from error
    yield from sample(series.BROKERS, len(found.brokers))
    for topic in settings.topics:
        if topic in found.topics:
            partitions = found.topics[topic].partitions.values()
            yield from sample(series.UNDER_REPLICATED, sum(len(item.isrs) < len(item.replicas) for item in partitions), topic)
            yield from sample(series.OFFLINE, sum(item.leader < 0 for item in partitions), topic)
