"""The real consumer process against the real broker: every record exactly once, whatever happens to the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow.parquet as pq
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from helpers import eventually

from engagement import settings as settings_module
from engagement.lake import open_lake
from engagement.raw import files
from engagement.stack import processes, topics
from engagement.stack.broker import Broker

ROOT = str(Path(__file__).parent.parent.parent)

# The broker gives a killed member's partitions away after its session timeout: 45 s by default, too long for a test.
FAST_GROUP = {"ENGAGEMENT_KAFKA__session__timeout__ms": "6000", "ENGAGEMENT_KAFKA__heartbeat__interval__ms": "1000"}


def environment(settings, **extra) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    return {**inherited, **settings.environment(), "PYTHONPATH": ROOT, "ENGAGEMENT_METRICS_PORT": "0", **FAST_GROUP, **extra}


def ingest(settings, *arguments: str, **extra) -> subprocess.Popen:
    argv = [sys.executable, "-m", "engagement", "ingest", *arguments]
    return subprocess.Popen(argv, env=environment(settings, **extra), stderr=subprocess.PIPE, text=True)


def produce(settings, first: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all"})
    for number in range(first, first + count):
        user = f"u{number % 50}"
        event = {
            "event_id": f"00000000-0000-4000-8000-{number:012d}",
            "user_id": user,
            "event_type": "tap",
            "timestamp": "2026-11-24T12:00:00Z" if number % 7 else "not a time",
        }
        value = json.dumps(event).encode() if number % 11 else b"{broken"
        for family in settings.topics:
            producer.produce(family, value, user.encode(), headers=[("n", str(number).encode())])
        producer.poll(0)
    producer.flush()


def log_of(settings) -> dict[tuple[str, int, int], tuple]:
    """Every record the broker holds, read by a plain client."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "test-reader", "enable.auto.commit": False})
    found, left = {}, 0
    for topic in settings.topics:
        for number in consumer.list_topics(topic).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number))
            left += high - low
            consumer.incremental_assign([TopicPartition(topic, number, low)])
    while left:
        for message in consumer.consume(min(left, 1000), 1.0):
            found[message.topic(), message.partition(), message.offset()] = (
                message.key(),
                message.value(),
                message.timestamp()[1],
                dict(message.headers() or ()),
            )
            left -= 1
    consumer.close()
    return found


def rows_of(settings) -> list[dict]:
    lake, _ = open_lake(settings)
    return [row for chain, start in sorted(files.names(lake)) for row in pq.ParquetFile(lake.path(chain.key(start))).read().to_pylist()]


def assert_exactly_the_log(settings) -> None:
    """Record by record: coordinates, time, headers, and the bytes of what was rejected; no hole in any chain."""
    log, rows = log_of(settings), rows_of(settings)
    assert len(rows) == len(log)
    for row in rows:
        key, value, millis, headers = log.pop((row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]))
        assert round(row["received_at"].timestamp() * 1000) == millis
        assert {header["name"]: header["value"] for header in row["headers"]} == headers
        if row["reject_reason"]:
            assert (row["payload"], row["key"]) == (value, key)
        else:
            assert row["event_id"] == json.loads(value)["event_id"]
    assert not log
    lake, _ = open_lake(settings)
    ends: dict = {}
    for chain, start in sorted(files.names(lake)):
        raw = files.read_footer(lake, chain, start)
        assert raw.start == ends.get(chain, 0)
        ends[chain] = raw.end


def test_every_record_is_in_the_lake_once_after_a_kill_and_a_restart(kafka_settings):
    produce(kafka_settings, 0, 2000)
    child = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    eventually(lambda: rows_of(kafka_settings))
    produce(kafka_settings, 2000, 2000)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    written = len(rows_of(kafka_settings))
    assert 0 < written <= 12000
    produce(kafka_settings, 4000, 500)
    child = ingest(kafka_settings, "--until-idle", ENGAGEMENT_FLUSH_SECONDS="1")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert_exactly_the_log(kafka_settings)


def records_read(port: int) -> int:
    """What the consumer says it has read from the log."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("engagement_records_total"))


def test_sigterm_writes_what_is_buffered_and_leaves(kafka_settings):
    (port,) = processes.free_ports("127.0.0.1", 1)
    produce(kafka_settings, 0, 300)
    child = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="3600", ENGAGEMENT_METRICS_PORT=str(port))
    eventually(lambda: records_read(port) == 900, 60)
    assert rows_of(kafka_settings) == []
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert_exactly_the_log(kafka_settings)


def test_two_consumers_share_the_partitions_and_write_each_record_once(kafka_settings):
    produce(kafka_settings, 0, 1500)
    first = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    eventually(lambda: rows_of(kafka_settings))
    second = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    produce(kafka_settings, 1500, 1500)
    eventually(lambda: len(rows_of(kafka_settings)) == 9000, 60)
    for child in (first, second):
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert_exactly_the_log(kafka_settings)


def test_a_log_that_lost_its_beginning_becomes_a_recorded_gap(kafka_settings):
    produce(kafka_settings, 0, 600)
    topic = next(iter(kafka_settings.topics))
    admin = AdminClient({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 0, 40)]).values():
        future.result()
    child = ingest(kafka_settings, "--until-idle")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    lake, _ = open_lake(kafka_settings)
    footers = [files.read_footer(lake, *name) for name in files.names(lake)]
    gaps = [(raw.chain.topic, raw.chain.partition, raw.gap, raw.rows) for raw in footers if raw.gap]
    assert gaps == [(topic, 0, (0, 40), 0)]
    assert_exactly_the_log(kafka_settings)


def test_a_topic_without_log_append_time_is_refused_in_one_line(kafka_settings):
    topic = next(iter(kafka_settings.topics))
    admin = AdminClient({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers})
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()
    child = ingest(kafka_settings, "--until-idle")
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "message.timestamp.type=CreateTime" in errors
    assert "kafka-configs.sh --alter" in errors
    assert not rows_of(kafka_settings)


def test_a_lake_that_cannot_be_written_loses_nothing(kafka_settings):
    lake, _ = open_lake(kafka_settings)
    (lake.root / "raw").write_text("in the way: every put fails")
    produce(kafka_settings, 0, 200)
    child = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    seen = ""
    while "lake_unavailable" not in seen and "partition_waits" not in seen:
        seen = child.stderr.readline()
    (lake.root / "raw").unlink()
    eventually(lambda: len(rows_of(kafka_settings)) == 600, 60)
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=60)
    assert_exactly_the_log(kafka_settings)


def test_a_broker_that_is_away_at_the_start_and_later_is_waited_for_and_nothing_is_lost(tmp_path):
    broker = Broker(tmp_path / "kafka")
    with broker:  # to know its port and to have topics; then it goes away
        settings = settings_module.load(
            environ={},
            folder=tmp_path,
            kafka_bootstrap_servers=broker.bootstrap,
            topic_partitions=2,
            lake_url=str(tmp_path / "lake"),
            state_dir=tmp_path / "state",
        )
        topics.ensure(settings)
    child = ingest(settings, ENGAGEMENT_FLUSH_SECONDS="1")
    lines = [child.stderr.readline()]
    assert "broker_away" in lines[0]
    broker.start()
    try:
        produce(settings, 0, 200)
        eventually(lambda: len(rows_of(settings)) == 600, 60)
        broker.stop()
        broker.start()
        produce(settings, 200, 200)
        eventually(lambda: len(rows_of(settings)) == 1200, 60)
        child.send_signal(signal.SIGTERM)
        _, errors = child.communicate(timeout=60)
        assert child.returncode == 0, errors
        assert sum("broker_away" in line for line in [*lines, *errors.splitlines()]) <= 3, "said once each time, not at every try"
        assert_exactly_the_log(settings)
    finally:
        child.kill()
        broker.stop()
