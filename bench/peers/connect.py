"""Kafka Connect with the Apache Iceberg sink: its configuration, a table for it, and when it is done.

A standalone worker with the JVM options of Kafka's own scripts, two tasks, JSON without schemas, a catalog in a local
folder. The table has the columns of the event, nested as they are sent, `properties` as JSON text; where a row came
from is not kept, which spares it five columns. It commits as often as ours flushes. It is done when the table's
newest snapshot holds all events.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure

from engagement.settings import Settings
from engagement.stack import java, processes
from peers import jars

JVM_FLAGS = ("-Xms256M", "-Xmx2G", "-XX:+UseG1GC", "-Djava.awt.headless=true")
TASKS = 2
DEVICE = ("device_type", "model", "os_version", "locale")
PLACE = ("country", "region", "city")
HOST = "127.0.0.1"
LOG4J = """\
<Configuration status="OFF">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def run(settings: Settings, events: int, folder: Path) -> measure.Usage:
    """Read the topics into a new table; start-up ends when the tasks have their partitions."""
    table = folder / "warehouse" / "raw" / "events"
    create_table(table)
    create_topic(settings, control_topic(folder))
    worker, connector, log4j = folder / "worker.properties", folder / "sink.properties", folder / "log4j2.xml"
    write_properties(worker, worker_properties(settings, folder))
    write_properties(connector, sink_properties(settings, folder))
    log4j.write_text(LOG4J)
    command = [
        str(java.executable()), *JVM_FLAGS, f"-Dlog4j2.configurationFile={log4j}", "-cp", f"{jars.folder('connect')}/*",
        "org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(connector),
    ]  # fmt: skip
    return measure.run(
        command, folder / "output", begun=lambda text: "Adding newly assigned partitions" in text, done=lambda: rows(folder) >= events
    )


def worker_properties(settings: Settings, folder: Path) -> dict[str, Any]:
    """Of the process."""
    return {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "offset.storage.file.filename": folder / "offsets",
        "listeners": f"http://{HOST}:{processes.free_ports(HOST, 1)[0]}",
        "plugin.discovery": "service_load",
        "offset.flush.interval.ms": 5000,  # an idle task answers the commit's start only so often; the default is a minute
        "consumer.max.poll.records": 5000,
    }


def sink_properties(settings: Settings, folder: Path) -> dict[str, Any]:
    """Of the connector."""
    return {
        "name": folder.name,
        "connector.class": "org.apache.iceberg.connect.IcebergSinkConnector",
        "tasks.max": TASKS,
        "topics": ",".join(settings.topics),
        "iceberg.tables": "raw.events",
        "iceberg.catalog.type": "hadoop",
        "iceberg.catalog.warehouse": f"file://{folder / 'warehouse'}",
        "iceberg.control.topic": control_topic(folder),
        "iceberg.control.commit.interval-ms": settings.flush_seconds * 1000,
    }


def control_topic(folder: Path) -> str:
    """The sink's own topic, where its tasks agree on a commit."""
    return f"control-{folder.name}"


def create_topic(settings: Settings, name: str) -> None:
    """A topic with one partition."""
    from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

    admin = AdminClient(settings.kafka_config())
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result()


def create_table(table: Path) -> None:
    """An empty Iceberg table, written as the first metadata file that a catalog would write."""
    metadata = table / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "version-hint.text").write_text("1")
    (metadata / "v1.metadata.json").write_text(
        json.dumps({
            "format-version": 2, "table-uuid": str(uuid.uuid4()), "location": f"file://{table}", "last-sequence-number": 0,
            "last-updated-ms": int(time.time() * 1000), "last-column-id": 100, "current-schema-id": 0,
            "schemas": [{"type": "struct", "schema-id": 0, "fields": columns()}],
            "default-spec-id": 0, "partition-specs": [{"spec-id": 0, "fields": []}], "last-partition-id": 999,
            "default-sort-order-id": 0, "sort-orders": [{"order-id": 0, "fields": []}],
            "properties": {"write.parquet.compression-codec": "zstd"}, "current-snapshot-id": -1, "refs": {}, "snapshots": [],
        })
    )  # fmt: skip


def columns() -> list[dict[str, Any]]:
    """The event's fields as Iceberg writes a schema."""
    plain = ("event_id", "user_id", "session_id", "event_type", "timestamp", "app_version", "properties")
    return [
        *(column(1 + place, name, "timestamptz" if name == "timestamp" else "string") for place, name in enumerate(plain)),
        column(20, "device_info", struct(21, DEVICE)),
        column(30, "geo_location", struct(31, PLACE)),
    ]


def struct(first: int, names: Sequence[str]) -> dict[str, Any]:
    """A struct of texts; its fields are numbered from `first`."""
    return {"type": "struct", "fields": [column(first + place, name, "string") for place, name in enumerate(names)]}


def column(number: int, name: str, kind: Any) -> dict[str, Any]:
    """One optional column."""
    return {"id": number, "name": name, "required": False, "type": kind}


def rows(folder: Path) -> int:
    """Rows in the table's newest snapshot. Files may lie beside it that no snapshot holds."""
    table = folder / "warehouse" / "raw" / "events"
    try:
        version = (table / "metadata" / "version-hint.text").read_text().strip()
        metadata = json.loads((table / "metadata" / f"v{version}.metadata.json").read_text())
    except (OSError, ValueError):  # being replaced right now
        return 0
    newest = metadata.get("current-snapshot-id")
    totals = [snapshot["summary"]["total-records"] for snapshot in metadata["snapshots"] if snapshot["snapshot-id"] == newest]
    return int(totals[0]) if totals else 0


def write_properties(path: Path, properties: dict[str, Any]) -> None:
    """A Java properties file."""
    path.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
