"""`engagement simulate` as people run it, against a real broker: what it reports is what is there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter

import pytest

from engagement.stack.simulator.faults import GROUPS

DEADLINE_SECONDS = 120


def command(settings, *options):
    env = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")} | settings.environment()
    return [sys.executable, "-m", "engagement", "simulate", *options], env


def simulate(settings, *options):
    line, env = command(settings, *options)
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def records_in(settings):
    """Every record of the three topics, read to the ends as they are now: topic -> [(key, value)]."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(settings.kafka_config(**{"group.id": "test-simulator", "enable.auto.commit": False}))
    try:
        found = {topic: [] for topic in settings.topics}
        metadata = consumer.list_topics(timeout=30).topics
        left, starts = Counter(), []
        for topic in settings.topics:
            for partition in metadata[topic].partitions:
                low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=30)
                left[topic] += high - low
                starts.append(TopicPartition(topic, partition, low))
        consumer.assign(starts)
        while waiting := left.total() - sum(len(values) for values in found.values()):
            messages = consumer.consume(min(waiting, 1000), timeout=DEADLINE_SECONDS)
            assert messages, f"the broker still owes {waiting} of {left.total()} records"
            for message in messages:
                assert message.error() is None, message.error()
                found[message.topic()].append((message.key(), message.value()))
        return found
    finally:
        consumer.close()


def counts(records):
    return {topic: len(values) for topic, values in records.items()}


def test_delivers_exactly_what_it_reports_keyed_by_user(kafka_settings):
    before = records_in(kafka_settings)
    report = simulate(
        kafka_settings, "--max-events", "500", "--history", "1h", "--users", "100000", "--duplicates", "0.1", "--malformed", "0"
    )
    after = records_in(kafka_settings)

    assert report["events"] == 500 == sum(report["by_topic"].values())
    assert {topic: len(values) - len(before[topic]) for topic, values in after.items()} == report["by_topic"]
    new = [record for topic, values in after.items() for record in (Counter(values) - Counter(before[topic])).elements()]
    assert len(new) == 500
    assert all(json.loads(value)["user_id"].encode() == key for key, value in new)


def test_same_seed_and_start_put_the_same_records_on_the_topics_again(kafka_settings):
    options = ("--max-events", "300", "--seed", "11", "--start", "2026-01-15T12:00:00Z", "--history", "10m", "--malformed", "0.2")
    before = {topic: Counter(values) for topic, values in records_in(kafka_settings).items()}
    first = simulate(kafka_settings, *options)
    between = {topic: Counter(values) for topic, values in records_in(kafka_settings).items()}
    second = simulate(kafka_settings, *options)
    after = {topic: Counter(values) for topic, values in records_in(kafka_settings).items()}

    assert first == second
    assert first["faults"]["malformed"] == sum(number for kind, number in first["fault_kinds"].items() if GROUPS[kind] == "malformed") > 0
    for topic, number in first["by_topic"].items():
        assert between[topic] - before[topic] == after[topic] - between[topic]
        assert (between[topic] - before[topic]).total() == number


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_flushes_reports_and_exits_0(kafka_settings, number):
    before = sum(counts(records_in(kafka_settings)).values())
    line, env = command(kafka_settings, "--rate", "500")
    with subprocess.Popen(line, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            while sum(counts(records_in(kafka_settings)).values()) == before:
                assert child.poll() is None, child.stderr.read()
            child.send_signal(number)
            out, err = child.communicate(timeout=DEADLINE_SECONDS)
        finally:
            child.kill()
    assert child.returncode == 0, err
    assert json.loads(out)["events"] == sum(counts(records_in(kafka_settings)).values()) - before
