"""The real consumer process against the real broker: every record exactly once, whatever happens to the process."""

from __future__ import annotations

import signal

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from helpers import eventually
from ingest_helpers import assert_exactly_the_log, ingest, produce, records_read, rows_of, settings_of

from engagement.lake import open_lake
from engagement.raw import files
from engagement.stack import processes, topics
from engagement.stack.broker import Broker


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


def test_two_consumers_share_the_partitions_and_write_each_record_once(kafka_settings, tmp_path):
    log = tmp_path / "second.log"
    produce(kafka_settings, 0, 1500)
    first = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    eventually(lambda: rows_of(kafka_settings))
    second = ingest(kafka_settings, log=log, ENGAGEMENT_FLUSH_SECONDS="1")
    eventually(lambda: '"positioned"' in log.read_text())
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
        settings = settings_of(broker.bootstrap, tmp_path, topic_partitions=2)
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
