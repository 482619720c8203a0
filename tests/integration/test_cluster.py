"""Three brokers: one may die at any time, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from helpers import eventually
from ingest_helpers import ROOT, assert_exactly_the_log, environment, ingest, rows_of, settings_of

from engagement import settings as settings_module
from engagement.lake import open_lake
from engagement.raw import files
from engagement.settings import Settings
from engagement.stack import jars
from engagement.stack.cluster import Cluster

# A dead node is given up after 9 s by default: most of this test would be spent waiting for that.
FAST_FAILOVER = {"broker.session.timeout.ms": 4000, "broker.heartbeat.interval.ms": 500}


def command(folder: Path, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    settings = settings_module.load(environ={}, folder=folder, state_dir=folder / "state")
    argv = [sys.executable, "-m", "engagement", *arguments]
    return subprocess.Popen(argv, env=environment(settings, **extra), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    assert jars.main([]) == 0
    with Cluster(tmp_path / "kafka", properties=FAST_FAILOVER) as running:
        yield running


@pytest.fixture
def cluster_settings(cluster: Cluster, tmp_path: Path) -> Settings:
    """Settings of a new lake, and the three topics made by the command with every record on all nodes."""
    settings = settings_of(cluster.bootstrap, tmp_path, topic_replication=3)
    making = command(tmp_path, "topics", "--json", **settings.environment())
    output, errors = making.communicate(timeout=60)
    assert making.returncode == 0, errors
    assert [(json.loads(line)["replication"], json.loads(line)["drift"]) for line in output.splitlines()] == [(3, [])] * 3
    eventually(lambda: all_in_sync(settings))
    return settings


def all_in_sync(settings: Settings) -> bool:
    """Whether every partition has a leader and all its replicas."""
    found = AdminClient(settings.kafka_config(log_level=0)).list_topics(timeout=10).topics
    return all(
        partition.leader > 0 and len(partition.isrs) == len(partition.replicas) == 3
        for topic in settings.topics
        for partition in found[topic].partitions.values()
    )


def lake_ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Up to where the lake has each partition."""
    lake, _ = open_lake(settings)
    last = dict(sorted(files.names(lake)))
    return {(chain.topic, chain.partition): files.read_footer(lake, chain, start).end for chain, start in last.items()}


@dataclass
class Load:
    """A producer that never pauses and notes what the cluster has acknowledged: event id -> topic, partition, offset.

    A record that was sent again because its acknowledgement died with the leader may come back without its offset.
    """

    settings: Settings
    acknowledged: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        producer = Producer(self.settings.kafka_config(**{"acks": "all", "enable.idempotence": True, "linger.ms": 20}, log_level=0))
        number = 0
        while not self.stop.is_set():
            for topic in self.settings.topics:
                event_id = f"00000000-0000-4000-8000-{number:012d}"
                event = {"event_id": event_id, "user_id": f"u{number % 97}", "event_type": "tap", "timestamp": "2026-11-24T12:00:00Z"}
                producer.produce(topic, json.dumps(event), event["user_id"], on_delivery=self._delivered)
                number += 1
            producer.poll(0.005)
        producer.flush(60)

    def _delivered(self, error: object, message: Message) -> None:
        if error is None:
            event_id = json.loads(message.value())["event_id"]
            self.acknowledged[event_id] = (message.topic(), message.partition(), message.offset())
        else:
            self.refused.append(str(error))

    def end(self, topic: str, partition: int) -> int:
        """Behind the last acknowledged record of a partition."""
        return 1 + max(
            (offset for at, number, offset in list(self.acknowledged.values()) if (at, number) == (topic, partition)), default=-1
        )


def test_nothing_acknowledged_is_lost_while_leaders_die_and_come_back(cluster: Cluster, cluster_settings: Settings, tmp_path: Path) -> None:
    load = Load(cluster_settings)
    thread = threading.Thread(target=load.run, daemon=True)
    thread.start()
    child = ingest(cluster_settings, log=tmp_path / "ingest.log", ENGAGEMENT_FLUSH_SECONDS="1")
    try:
        eventually(lambda: len(lake_ends(cluster_settings)) == 9)
        victims = []
        for topic in list(cluster_settings.topics)[:2]:
            victim = next(
                (leader, number) for number in range(3) if (leader := cluster.leader(topic, number)) is not None and leader not in victims
            )
            victims.append(victim[0])
            cluster.kill(victim[0])
            before = load.end(topic, victim[1])
            eventually(lambda at=(topic, victim[1]), before=before: load.end(*at) > before, 60)
            after = load.end(topic, victim[1])
            eventually(lambda at=(topic, victim[1]), after=after: lake_ends(cluster_settings)[at] >= after, 60)
            cluster.restart(victim[0])
            eventually(lambda: all_in_sync(cluster_settings), 60)
        assert victims[0] != victims[1]
        load.stop.set()
        thread.join(60)
        assert not load.refused
        eventually(lambda: sum(lake_ends(cluster_settings).values()) >= len(load.acknowledged), 60)
        assert child.poll() is None, "the same process all the time"
        child.send_signal(signal.SIGTERM)
        assert child.wait(60) == 0
    finally:
        load.stop.set()
        child.kill()
        child.wait()
    rows = rows_of(cluster_settings)
    places = {row["event_id"]: (row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]) for row in rows}
    assert len(places) == len(rows)
    assert places.keys() == load.acknowledged.keys()
    assert {places[event_id] for event_id in load.acknowledged} >= {place for place in load.acknowledged.values() if place[2] >= 0}
    assert_exactly_the_log(cluster_settings)


def test_the_command_runs_three_brokers_brings_back_one_that_died_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert jars.main([]) == 0
    folder = ["--data-dir", str(tmp_path / "kafka")]
    first = command(tmp_path, "broker", "--nodes", "3", "--port", "0", *folder)
    assert first.stdout is not None
    assert first.stderr is not None
    addresses = first.stdout.readline().removeprefix("ready ").strip()
    assert len(addresses.split(",")) == 3
    settings = settings_module.load(environ={}, kafka_bootstrap_servers=addresses, topic_replication=3, topic_partitions=1)
    assert command(tmp_path, "topics", **settings.environment()).wait(60) == 0

    second = command(tmp_path, "broker", "--nodes", "3", "--port", "0", *folder)
    assert second.communicate(timeout=60)[1].startswith(f"engagement: another broker runs on {tmp_path / 'kafka'}")
    assert second.returncode == 1

    nodes = psutil.Process(first.pid).children()
    assert len(nodes) == 3
    identity = AdminClient({"bootstrap.servers": addresses}).list_topics(timeout=30).cluster_id
    nodes[0].kill()
    assert "ended by itself (exit -9); starting it again" in first.stderr.readline()
    eventually(lambda: all_in_sync(settings), 60)
    again = psutil.Process(first.pid).children()
    assert len(again) == 3
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == 0
    assert not any(node.is_running() for node in again)

    ports = addresses.split(",")[0].rpartition(":")[2]
    third = command(tmp_path, "broker", "--nodes", "3", "--port", ports, *folder)
    assert third.stdout is not None
    port = int(ports)
    assert third.stdout.readline() == f"ready 127.0.0.1:{port},127.0.0.1:{port + 1},127.0.0.1:{port + 2}\n"
    found = AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}).list_topics(timeout=30)
    assert found.cluster_id == identity
    assert set(settings.topics) <= set(found.topics)
    third.kill()
    third.wait(30)
