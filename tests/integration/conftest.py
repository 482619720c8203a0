"""One real broker for all integration tests, and settings whose topics only one test knows."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition
from helpers import eventually

from engagement import settings as settings_module
from engagement.settings import Settings
from engagement.stack import jars, topics
from engagement.stack.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    assert jars.main([]) == 0
    with Broker(tmp_path_factory.mktemp("kafka")) as running:
        yield running


@pytest.fixture
def kafka_settings(broker: Broker, tmp_path: Path) -> Settings:
    """Settings of a new lake and of three new topics with three partitions each, which exist."""
    settings = settings_module.load(
        environ={},
        folder=tmp_path,
        kafka_bootstrap_servers=broker.bootstrap,
        topic_prefix=f"t{secrets.token_hex(4)}-",
        topic_partitions=3,
        consumer_group=f"g{secrets.token_hex(4)}",
        lake_url=str(tmp_path / "lake"),
        state_dir=tmp_path / "state",
    )
    topics.ensure(settings)
    eventually(lambda: has_leaders(settings))
    return settings


def has_leaders(settings: Settings) -> bool:
    """Whether every partition of the new topics answers: the broker says "created" a moment before it leads them."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "none"})
    try:
        for topic in settings.topics:
            for number in range(settings.topic_partitions):
                consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=5)
    except KafkaException:
        return False
    finally:
        consumer.close()
    return True
