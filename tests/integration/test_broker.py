"""The broker that `engagement broker` runs: durable, alone on its port and data, never an orphan."""

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from helpers import eventually

from engagement.settings import Settings
from engagement.stack import topics
from engagement.stack.broker import Broker
from engagement.stack.cluster import DataFolderBusy, PortBusy
from engagement.stack.node import BrokerFailed

ENGAGEMENT = [sys.executable, "-m", "engagement"]


def produce(bootstrap: str, topic: str, *values: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def read_all(bootstrap: str, topic: str) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    values = []
    while (message := consumer.poll(30)) is not None and not message.error():
        values.append(message.value())
    consumer.close()
    return values


def start_command(folder: Path, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    environment |= {"ENGAGEMENT_STATE_DIR": str(folder), **extra}
    return subprocess.Popen([*ENGAGEMENT, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_records_and_cluster_id_survive_a_restart(tmp_path: Path, kafka_settings: Settings) -> None:
    identities = []
    for expected in ([], [b"one", b"two"]):
        with Broker(tmp_path / "kafka") as broker:
            settings = replace(kafka_settings, kafka_bootstrap_servers=broker.bootstrap, topic_partitions=1)
            topics.ensure(settings)
            identities.append(AdminClient({"bootstrap.servers": broker.bootstrap}).list_topics(timeout=30).cluster_id)
            topic = next(iter(settings.topics))
            assert read_all(broker.bootstrap, topic) == expected
            produce(broker.bootstrap, topic, b"one", b"two")
    assert identities[0] == identities[1]


def test_topics_are_created_once_and_then_found_as_asked(kafka_settings: Settings) -> None:
    fresh = replace(kafka_settings, topic_prefix=f"again-{kafka_settings.topic_prefix}", topic_partitions=2, topic_retention_hours=5)
    first, second = topics.ensure(fresh), topics.ensure(fresh)
    assert [report.created for report in first] == [True] * 3
    assert [report.created for report in second] == [False] * 3
    assert [report.topic for report in second] == topics.wanted(fresh)
    assert all(report.topic.timestamp_type == "LogAppendTime" and not report.drift for report in second)


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        ({"topic_partitions": 2}, "partitions 3, wanted 2"),
        ({"topic_partitions": 4}, "partitions 3, wanted 4"),
        ({"topic_retention_hours": 1}, "retention_ms 604800000, wanted 3600000"),
    ],
)
def test_a_difference_is_reported_and_nothing_changed(kafka_settings: Settings, change: dict[str, int], drift: str) -> None:
    reports = topics.ensure(replace(kafka_settings, **change))
    assert [report.drift for report in reports] == [(drift,)] * 3
    assert [report.topic for report in topics.ensure(kafka_settings)] == topics.wanted(kafka_settings)


def test_another_timestamp_type_is_drift(broker: Broker, kafka_settings: Settings) -> None:
    from confluent_kafka.admin import NewTopic

    settings = replace(kafka_settings, topic_prefix=f"clock-{kafka_settings.topic_prefix}")
    name = next(iter(settings.topics))
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(name, 3, 1)], operation_timeout=30)[name].result()
    drift = {report.topic.name: report.drift for report in topics.ensure(settings)}
    assert drift[name] == ("timestamp_type CreateTime, wanted LogAppendTime",)


def topics_command(settings: Settings, **extra: str) -> tuple[int, str]:
    command = start_command(settings.state_dir, "topics", **settings.environment(), **extra)
    output, _ = command.communicate(timeout=60)
    return command.returncode, output


def test_the_command_tells_drift_but_fails_only_where_ingest_would_refuse(broker: Broker, kafka_settings: Settings) -> None:
    assert topics_command(kafka_settings)[0] == 0
    code, table = topics_command(replace(kafka_settings, topic_partitions=5))
    assert (code, table.count("partitions 3, wanted 5")) == (0, 3)
    from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

    name = next(iter(kafka_settings.topics))
    entry = ConfigEntry("message.timestamp.type", "CreateTime", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.incremental_alter_configs([resource])[resource].result()
    code, table = topics_command(kafka_settings)
    assert (code, table.count("timestamp_type CreateTime, wanted LogAppendTime")) == (1, 1)


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with (
            pytest.raises(PortBusy, match=rf"port {taken.getsockname()[1]} .* is taken"),
            Broker(tmp_path / "kafka", taken.getsockname()[1]),
        ):
            pass


def test_two_brokers_on_one_data_folder_are_refused(broker: Broker) -> None:
    with pytest.raises(DataFolderBusy, match=str(broker.data_dir)), Broker(broker.data_dir):
        pass


def test_a_broker_that_dies_while_starting_names_its_log(tmp_path: Path) -> None:
    folder = tmp_path / "kafka"
    with Broker(folder):
        pass
    (folder / "log" / "meta.properties").write_text("version=1\nnode.id=99\ncluster.id=other\n")
    with pytest.raises(BrokerFailed, match=str(folder / "broker.log")), Broker(folder):
        pass
    assert "meta.properties" in (folder / "broker.log").read_text()


def test_sigterm_ends_the_command_with_0_and_without_orphan(tmp_path: Path) -> None:
    command = start_command(tmp_path, "broker", "--port", "0")
    assert command.stdout is not None
    assert command.stdout.readline().startswith("ready 127.0.0.1:")
    (java,) = psutil.Process(command.pid).children()
    command.send_signal(signal.SIGTERM)
    assert command.wait(30) == 0
    assert not java.is_running()


def test_kill_9_of_the_command_leaves_no_java_behind(tmp_path: Path) -> None:
    command = start_command(tmp_path, "broker", "--port", "0")
    assert command.stdout is not None
    assert command.stdout.readline().startswith("ready 127.0.0.1:")
    (java,) = psutil.Process(command.pid).children()
    command.kill()
    command.wait(30)
    eventually(lambda: not java.is_running() or java.status() == psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--nodes", "2"), "--nodes 2: must be 1 or 3"), (("--nodes", "3", "--port", "65534"), "--port 65534: must be from 0 to 65533")],
)
def test_other_numbers_of_nodes_and_impossible_ports_are_wrong_use(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    command = start_command(tmp_path, "broker", *arguments)
    _, errors = command.communicate(timeout=30)
    assert (command.returncode, errors) == (2, f"engagement: {said}\n")
