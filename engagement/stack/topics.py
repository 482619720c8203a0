"""Create or check the three topics: partitions, replication, LogAppendTime, retention.

What exists is never changed, least of all lowered: a difference is reported as drift and left to a person.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from engagement.connection import Heard, client
from engagement.errors import TransientError
from engagement.settings import Settings

UNREACHABLE_SECONDS = 10.0
VISIBLE_SECONDS = 15.0
TIMESTAMP_TYPE = "LogAppendTime"


class BrokerAway(TransientError):
    """No broker answered within the bound."""


@dataclass(frozen=True, slots=True)
class Topic:
    """What matters of one topic."""

    name: str
    partitions: int
    replication: int
    timestamp_type: str
    retention_ms: int

    def drift_from(self, wanted: Topic) -> tuple[str, ...]:
        """Each difference from what the settings ask for, as `partitions 3, wanted 6`."""
        names = ("partitions", "replication", "timestamp_type", "retention_ms")
        return tuple(
            f"{name} {getattr(self, name)}, wanted {getattr(wanted, name)}"
            for name in names
            if getattr(self, name) != getattr(wanted, name)
        )


@dataclass(frozen=True, slots=True)
class Report:
    """One topic as the broker has it now."""

    topic: Topic
    created: bool
    drift: tuple[str, ...]


def wanted(settings: Settings) -> list[Topic]:
    """The topics the settings ask for."""
    return [
        Topic(name, settings.topic_partitions, settings.topic_replication, TIMESTAMP_TYPE, settings.topic_retention_hours * 3_600_000)
        for name in settings.topics
    ]


def ensure(settings: Settings) -> list[Report]:
    """Create the missing topics and compare all; raises BrokerAway."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    heard = Heard()
    admin = client(AdminClient, settings, heard=heard)
    asked = wanted(settings)
    try:
        present = admin.list_topics(timeout=UNREACHABLE_SECONDS).topics
        created = _create(admin, [topic for topic in asked if topic.name not in present])
        found = _found(admin, [topic.name for topic in asked])
    except KafkaException as error:
        cause = heard.of(admin)
        told = (
            f"{cause}; see the ENGAGEMENT_KAFKA__ settings"
            if cause
            else f"{error.args[0].str()}; is it running? `engagement broker` starts one"
        )
        msg = f"broker {settings.kafka_bootstrap_servers}: {told}"
        raise BrokerAway(msg) from error
    return [Report(found[topic.name], topic.name in created, found[topic.name].drift_from(topic)) for topic in asked]


def _create(admin: Any, topics: list[Topic]) -> set[str]:
    """Names of those that this call made; another process may have been faster."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

    created = set()
    new = [
        NewTopic(
            topic.name, topic.partitions, topic.replication,
            config={"message.timestamp.type": topic.timestamp_type, "retention.ms": str(topic.retention_ms)},
        )
        for topic in topics
    ]  # fmt: skip
    for name, future in (admin.create_topics(new, operation_timeout=VISIBLE_SECONDS) if new else {}).items():
        try:
            future.result()
            created.add(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def _found(admin: Any, names: list[str]) -> dict[str, Topic]:
    """The topics as the broker has them; one just made may take a moment to be described."""
    from confluent_kafka import KafkaError, KafkaException

    deadline = time.monotonic() + VISIBLE_SECONDS
    while True:
        try:
            return _describe(admin, names)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _describe(admin: Any, names: list[str]) -> dict[str, Topic]:
    from confluent_kafka import TopicCollection
    from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

    topics = admin.describe_topics(TopicCollection(names), request_timeout=UNREACHABLE_SECONDS)
    configs = {
        resource.name: future.result()
        for resource, future in admin.describe_configs(
            [ConfigResource(ResourceType.TOPIC, name) for name in names], request_timeout=UNREACHABLE_SECONDS
        ).items()
    }
    found = {}
    for name, future in topics.items():
        partitions = future.result().partitions
        config = configs[name]
        found[name] = Topic(
            name, len(partitions), min(len(partition.replicas) for partition in partitions),
            config["message.timestamp.type"].value, int(config["retention.ms"].value),
        )  # fmt: skip
    return found
