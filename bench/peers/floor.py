"""The floor: what librdkafka, msgspec and Parquet cost when nothing is promised.

    python bench/peers/floor.py BOOTSTRAP TOPIC,TOPIC… FOLDER RECORDS

Reads the topics from their beginning and writes the columns of our raw rows. No claims, no reasons for bad records
(the first one ends it), no offsets committed, no fsync, no groups by partition. Records are decoded as they come,
a few thousand at a time: that keeps them in the processor's cache and halves the cost.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from engagement.raw.rows import schema

BATCH = 2_000
ROWS_A_FILE = 500_000
FEW_VALUES = ["kafka_topic", "kafka_topic_id", "event_type", "device_type", "device_model", "os_version", "locale", "app_version",
              "country", "region", "city", "reject_reason"]  # fmt: skip


class Device(msgspec.Struct, gc=False, frozen=True):
    """`device_info`."""

    device_type: str | None = None
    model: str | None = None
    os_version: str | None = None
    locale: str | None = None


class Geo(msgspec.Struct, gc=False, frozen=True):
    """`geo_location`."""

    country: str | None = None
    region: str | None = None
    city: str | None = None


class Event(msgspec.Struct, gc=False):
    """One event as sent."""

    event_id: str
    user_id: str
    event_type: str
    timestamp: str
    session_id: str | None = None
    device_info: Device = Device()
    geo_location: Geo = Geo()
    app_version: str | None = None
    properties: msgspec.Raw = msgspec.Raw(b"null")


def main(bootstrap: str, topics: str, folder: str, records: str) -> None:
    """Read so many records and write them."""
    gc.disable()  # nothing here makes cycles; looking for them costs a fifth
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "floor", "enable.auto.commit": False, "queued.max.messages.kbytes": 65536}
    )
    known = consumer.list_topics(timeout=10).topics
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics.split(",") for number in known[topic].partitions])
    pa.array([""])  # the first one imports pandas: start-up
    print("begun", flush=True)
    waiting: list[pa.RecordBatch] = []
    files = 0
    for batch in batches(consumer, int(records)):
        waiting.append(batch)
        if sum(found.num_rows for found in waiting) >= ROWS_A_FILE:
            write(waiting, Path(folder) / f"{files}.parquet")
            waiting, files = [], files + 1
    if waiting:
        write(waiting, Path(folder) / f"{files}.parquet")
    consumer.close()


def batches(consumer: Consumer, records: int) -> Iterator[pa.RecordBatch]:
    """Columns of the records, as they come."""
    decode = msgspec.json.Decoder(Event).decode
    columns = schema()
    while records > 0:
        messages = consumer.consume(min(BATCH, records), 1.0)
        records -= len(messages)
        if messages:
            yield to_columns(messages, [decode(message.value()) for message in messages], columns)  # type: ignore[arg-type]


def to_columns(messages: list[Message], events: list[Event], columns: pa.Schema) -> pa.RecordBatch:
    """The raw columns of decoded messages."""
    devices = [event.device_info for event in events]
    places = [event.geo_location for event in events]
    found: dict[str, Any] = {
        "kafka_topic": [message.topic() for message in messages],
        "kafka_partition": [message.partition() for message in messages],
        "kafka_offset": [message.offset() for message in messages],
        "received_at": pa.array([message.timestamp()[1] for message in messages], pa.timestamp("ms", "UTC")),
        "headers": [message.headers() for message in messages],
        "event_id": [event.event_id for event in events],
        "user_id": [event.user_id for event in events],
        "event_type": [event.event_type for event in events],
        "event_time": pa.array([event.timestamp for event in events], pa.string()),
        "session_id": [event.session_id for event in events],
        "device_type": [device.device_type for device in devices],
        "device_model": [device.model for device in devices],
        "os_version": [device.os_version for device in devices],
        "locale": [device.locale for device in devices],
        "app_version": [event.app_version for event in events],
        "country": [place.country for place in places],
        "region": [place.region for place in places],
        "city": [place.city for place in places],
        "properties": pa.array([bytes(event.properties) for event in events], pa.binary()),
    }
    return pa.record_batch([column(found.get(field.name), field.type, len(events)) for field in columns], schema=columns)


def column(found: Any, kind: pa.DataType, rows: int) -> pa.Array:
    """A column of values, or of nulls where the log has none."""
    if found is None:
        return pa.nulls(rows, kind)
    return found.cast(kind) if isinstance(found, pa.Array) else pa.array(found, kind)


def write(waiting: list[pa.RecordBatch], path: Path) -> None:
    """One file."""
    pq.write_table(pa.Table.from_batches(waiting), path, compression="zstd", use_dictionary=FEW_VALUES)


if __name__ == "__main__":
    main(*sys.argv[1:])
