"""`engagement status` against the real broker: the lag of each partition in records and in seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from ingest_helpers import produce, read_to_the_end

from engagement.cli import status
from engagement.lake import open_lake


def partitions(settings, now=None, problems=()):
    found = status.collect(settings, now or datetime.now(UTC))
    assert [text for text in found["problems"] if "Dagster" not in text] == list(problems)
    return {(item["topic"], item["partition"]): item for item in found["partitions"]}, found


def test_lag_is_what_the_lake_lacks_and_as_old_as_its_oldest_record(kafka_settings):
    open_lake(kafka_settings)
    before = datetime.now(UTC) - timedelta(seconds=1)
    produce(kafka_settings, 0, 300)
    found, _ = partitions(kafka_settings)
    assert len(found) == 9
    assert sum(item["lag"] for item in found.values()) == 900
    for item in found.values():
        assert 0 <= item["lag_seconds"] <= (datetime.now(UTC) - before).total_seconds()
    read_to_the_end(kafka_settings)
    found, everything = partitions(kafka_settings)
    assert {(item["lag"], item["lag_seconds"]) for item in found.values()} == {(0, 0.0)}
    assert everything["audit"]["verdict"] == "chains 9 whole"
    assert everything["raw"]["rows"] == 900


def test_only_partitions_that_lag_have_an_age_and_it_is_the_first_missing_records(kafka_settings):
    produce(kafka_settings, 0, 50)
    read_to_the_end(kafka_settings)
    topic = next(iter(kafka_settings.topics))
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers, "acks": "all"})
    stamps = []
    for _ in range(2):
        producer.produce(topic, b"x", partition=1, on_delivery=lambda _error, message: stamps.append(message.timestamp()[1]))
        producer.flush()
    now = datetime.fromtimestamp(stamps[0] / 1000, UTC) + timedelta(seconds=90)
    found, _ = partitions(kafka_settings, now)
    assert {key: (item["lag"], item["lag_seconds"]) for key, item in found.items() if item["lag"]} == {(topic, 1): (2, 90.0)}


def test_a_lag_that_the_log_has_begun_to_lose_is_as_old_as_what_is_left(kafka_settings):
    open_lake(kafka_settings)
    topic = next(iter(kafka_settings.topics))
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers, "acks": "all"})
    stamps = []
    for _ in range(3):
        producer.produce(topic, b"x", partition=0, on_delivery=lambda _error, message: stamps.append(message.timestamp()[1]))
        producer.flush()
    admin = AdminClient({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(topic, 0, 2)]).values():
        future.result()
    now = datetime.fromtimestamp(stamps[2] / 1000, UTC) + timedelta(seconds=5)
    lost = f"{topic}/0: the log has already lost 2 records that the lake lacks: ingest records them as a gap"
    found, _ = partitions(kafka_settings, now, [lost])
    assert (found[topic, 0]["lag"], found[topic, 0]["lag_seconds"], found[topic, 0]["lost"]) == (3, 5.0, 2)
    read_to_the_end(kafka_settings)
    _, everything = partitions(kafka_settings)
    assert everything["audit"]["verdict"] == "chains 1 whole, 1 gap of 2 records"
    assert [(gap["start"], gap["end"], gap["after"]) for gap in everything["audit"]["gaps"]] == [(0, 2, None)]


def test_offsets_of_transactions_alone_are_behind_without_an_age(kafka_settings):
    """An aborted transaction leaves offsets that no reader of committed records ever sees."""
    open_lake(kafka_settings)
    topic = next(iter(kafka_settings.topics))
    producer = Producer({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers, "transactional.id": f"{topic}-writer"})
    producer.init_transactions()
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=2)
    producer.flush()
    producer.abort_transaction()
    found, _ = partitions(kafka_settings)
    assert found[topic, 2]["lag"] == 2
    assert found[topic, 2]["lag_seconds"] is None


def test_each_asset_has_its_sla_state_on_data_time(kafka_settings):
    produce(kafka_settings, 0, 50)
    read_to_the_end(kafka_settings)
    now = datetime.now(UTC)

    def states(at):
        return {row["asset"]: row["sla"] for row in status.collect(kafka_settings, at)["assets"]}

    assert states(now)["raw_events"] == states(now + timedelta(hours=9))["raw_events"] == "ok", "all of the log is in"
    produce(kafka_settings, 50, 60)
    assert set(states(datetime.now(UTC)).values()) == {"ok"}
    late = states(datetime.now(UTC) + timedelta(minutes=6))
    assert late["raw_events"] == late["hourly_engagement"] == "fail", "the log holds what nobody has read"
    assert late["daily_engagement"] == "warn"
