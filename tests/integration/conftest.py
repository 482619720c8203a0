"""One real broker for all integration tests, and settings whose topics only one test knows."""

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import eventually
from ingest_helpers import FAST_GROUPS, has_leaders, settings_of

from engagement.settings import Settings
from engagement.stack import jars, s3, topics
from engagement.stack.broker import Broker


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    assert jars.main([]) == 0
    with Broker(tmp_path_factory.mktemp("kafka"), properties=FAST_GROUPS) as running:
        yield running


@pytest.fixture
def kafka_settings(broker: Broker, tmp_path: Path) -> Settings:
    """Settings of a new lake and of three new topics with three partitions each, which exist."""
    mark = secrets.token_hex(4)
    settings = settings_of(broker.bootstrap, tmp_path, topic_prefix=f"t{mark}-", consumer_group=f"g{mark}")
    topics.ensure(settings)
    eventually(lambda: has_leaders(settings))
    return settings


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3.S3Server]:
    """A real S3 server; its environment is for the tests to set."""
    assert s3.main([]) == 0
    with s3.S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running
