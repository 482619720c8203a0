"""Raw rows: their columns, and the turning of log records into them (R1).

One row a record, good or bad; a bad one has null typed columns, a `reject_reason`, its bytes and its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from engagement.contract import Event, Reject, TimeWindow, decode

if TYPE_CHECKING:
    import pyarrow as pa

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class Record:
    """One log record with its coordinates. `received_at` is the broker's log-append time, aware UTC."""

    offset: int
    received_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, roughly."""
        return len(self.value or b"") + len(self.key or b"") + 64


EVENT_COLUMNS = tuple(name for name in Event.__struct_fields__)


def schema() -> pa.Schema:
    """Columns of a raw object; the typed ones are null in rejects, payload and key are null in good rows."""
    import pyarrow as pa

    instant = pa.timestamp("us", tz="UTC")
    low_cardinality = pa.string()
    return pa.schema([
        ("kafka_topic", low_cardinality), ("kafka_topic_id", low_cardinality), ("kafka_partition", pa.int32()),
        ("kafka_offset", pa.int64()), ("received_at", instant),
        ("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
        *((name, instant if name == "event_time" else pa.string()) for name in EVENT_COLUMNS),
        ("reject_reason", pa.string()), ("payload", pa.binary()), ("key", pa.binary()),
    ])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Where a batch of records comes from; `topic_id` in full (32 hex digits, for imports the SHA-256)."""

    topic: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one flush, ready to be written, with what its footer says about them."""

    table: pa.Table
    rejects: dict[str, int]
    event_slots: dict[datetime, int]
    """Start of an event slot -> good rows in it."""
    min_event_time: datetime | None
    max_event_time: datetime | None
    first_received_at: datetime | None
    noticed: dict[str, int]
    """Good rows that are out of the ordinary: `late`, `other_family`, `other_key` (R11)."""


LATE = timedelta(hours=1)
FAMILIES = {"install": "install", "view_notification": "view_notification", "click_notification": "view_notification"}
"""Event type -> the topic family that carries it; every other type belongs to `session`."""


def build(where: Coordinates, records: Iterable[Record], window: TimeWindow, slot_minutes: int, family: str | None = None) -> Batch:
    """Decode records into rows; never raises for what is in a record.

    `family` is the topic's own, None where it carries all of them (imports).
    """
    import pyarrow as pa

    records = list(records)
    events: list[Event | None] = []
    reasons: list[str | None] = []
    rejects: dict[str, int] = {}
    noticed: dict[str, int] = {}
    for record in records:
        try:
            event = decode(record.value)
            window.check(event.event_time, record.received_at)
        except Reject as reject:
            events.append(None)
            reasons.append(reject.reason)
            rejects[reject.reason] = rejects.get(reject.reason, 0) + 1
        else:
            events.append(event)
            reasons.append(None)
            for name in _oddities(event, record, family):
                noticed[name] = noticed.get(name, 0) + 1
    count = len(records)
    bad = [reason is not None for reason in reasons]
    columns = {
        "kafka_topic": [where.topic] * count,
        "kafka_topic_id": [where.topic_id] * count,
        "kafka_partition": [where.partition] * count,
        "kafka_offset": [record.offset for record in records],
        "received_at": [record.received_at for record in records],
        "headers": [[{"name": name, "value": value} for name, value in record.headers] for record in records],
        **{name: [None if event is None else getattr(event, name) for event in events] for name in EVENT_COLUMNS},
        "reject_reason": reasons,
        "payload": [record.value if reject else None for record, reject in zip(records, bad, strict=True)],
        "key": [record.key if reject else None for record, reject in zip(records, bad, strict=True)],
    }
    times = [event.event_time for event in events if event is not None]
    slots: dict[datetime, int] = {}
    for time in times:
        slot = time.replace(minute=time.minute // slot_minutes * slot_minutes, second=0, microsecond=0)
        slots[slot] = slots.get(slot, 0) + 1
    return Batch(
        pa.table(columns, schema=schema()), rejects, dict(sorted(slots.items())), min(times, default=None), max(times, default=None),
        min((record.received_at for record in records), default=None),
        noticed,
    )  # fmt: skip


def _oddities(event: Event, record: Record, family: str | None) -> Iterator[str]:
    if family is None:
        return
    if record.received_at - event.event_time > LATE:
        yield "late"
    if FAMILIES.get(event.event_type, "session") != family:
        yield "other_family"
    if record.key != event.user_id.encode():
        yield "other_key"


def from_millis(millis: int) -> datetime:
    """A Kafka timestamp as an aware UTC datetime, exactly."""
    seconds, rest = divmod(millis, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest * 1000)
