"""The real consumer process as a child, records for it, and the comparison of the lake with the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from engagement import settings as settings_module
from engagement.ingest.consumer import Ingest
from engagement.lake import open_lake
from engagement.raw import files
from engagement.settings import Settings

ROOT = str(Path(__file__).parent.parent)

PATIENCE_SECONDS = 300.0
"""Only a failure waits so long."""

# The group gives a killed member's partitions away after its session timeout: 45 s by default, too long for a test.
# Under the new protocol the broker sets it, under the classic one the member.
FAST_GROUPS = {
    "group.consumer.min.session.timeout.ms": 6000,
    "group.consumer.session.timeout.ms": 6000,
    "group.consumer.min.heartbeat.interval.ms": 400,  # a rebalance takes several of them
    "group.consumer.heartbeat.interval.ms": 400,
    "transaction.state.log.num.partitions": 1,
}
FAST_CLASSIC = {
    "ENGAGEMENT_KAFKA__group__protocol": "classic",
    "ENGAGEMENT_KAFKA__session__timeout__ms": "6000",
    "ENGAGEMENT_KAFKA__heartbeat__interval__ms": "400",
}


def settings_of(bootstrap: str, folder: Path, **more: Any) -> Settings:
    """Settings of a new lake in this folder and of topics at this broker, whatever the environment says."""
    ours = {"topic_partitions": 3, "background_nice": 0, "lake_url": str(folder / "lake"), "state_dir": folder / "state"}
    return settings_module.load(environ={}, folder=folder, kafka_bootstrap_servers=bootstrap, **ours | more)


def environment(settings, **extra) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    return {**inherited, **settings.environment(), "PYTHONPATH": ROOT, "ENGAGEMENT_METRICS_PORT": "0", **extra}


def ingest(settings, *arguments: str, log: Path | None = None, **extra) -> subprocess.Popen:
    """The consumer process; its log goes to a pipe, which a long run would fill, or to a file (appended)."""
    argv = [sys.executable, "-m", "engagement", "ingest", *arguments]
    if log is None:
        return subprocess.Popen(argv, env=environment(settings, **extra), stderr=subprocess.PIPE, text=True)
    with log.open("ab") as output:
        return subprocess.Popen(argv, env=environment(settings, **extra), stderr=output)


def read_to_the_end(settings) -> None:
    """The consumer in this process, to the end of the log: where the process itself is not the subject."""
    consumer = Ingest(settings, *open_lake(settings))
    deadline = threading.Timer(PATIENCE_SECONDS, consumer.stop.set)
    deadline.start()
    try:
        consumer.run(until_idle=True)
    finally:
        deadline.cancel()
    assert not consumer.stop.is_set(), f"not at the end of the log after {PATIENCE_SECONDS:g} s"


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


def records_read(port: int) -> int:
    """What the consumer says it has read from the log."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("engagement_records_total"))


def has_leaders(settings, partitions: int | None = None, topics: Sequence[str] = ()) -> bool:
    """Whether every partition of the new topics answers: the broker says "created" a moment before it leads them."""
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "none"})
    try:
        for topic in topics or settings.topics:
            for number in range(partitions or settings.topic_partitions):
                consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=5)
    except KafkaException:
        return False
    finally:
        consumer.close()
    return True
