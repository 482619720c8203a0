"""Raw rows: their columns, and the turning of log records into them (R1).

One row a record, good or bad; a bad one has null typed columns, a `reject_reason`, its bytes and its key.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from engagement.contract import Event, TimeWindow
from engagement.raw.names import REPLAY_HEADER
from engagement.raw.privacy import KEEP_ALL, Policy

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Headers = Sequence[tuple[str, bytes | None]]
UNREADABLE_HEADERS = "bad_encoding"
"""Reason of a record whose header names are no text: the client library cannot hand them out, the rest is kept."""
CHUNK = 4096
"""Records decoded at once: enough to spread the cost of a column, few enough to stay in the processor's cache."""


@dataclass(frozen=True, slots=True)
class Record:
    """One log record with its coordinates. `received_at` is the broker's log-append time, aware UTC."""

    offset: int
    received_at: datetime
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(slots=True)
class Records:
    """Records as columns, in the order of their offsets; `received` in microseconds since 1970 UTC.

    Headers that the client library cannot hand out are None.
    """

    offsets: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: list[Headers | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets)

    def extend(self, other: Records) -> None:
        """Append the records of another."""
        self.offsets += other.offsets
        self.received += other.received
        self.keys += other.keys
        self.values += other.values
        self.headers += other.headers

    def cut(self, start: int, end: int) -> Records:
        """Those at the places [start, end)."""
        span = slice(start, end)
        return Records(self.offsets[span], self.received[span], self.keys[span], self.values[span], self.headers[span])

    @property
    def size(self) -> int:
        """Bytes that they hold in memory, roughly."""
        bodies = sum(map(len, filter(None, self.values))) + sum(map(len, filter(None, self.keys))) + 64 * len(self)
        if not any(self.headers):
            return bodies
        return bodies + sum(len(name) + len(value or b"") for held in self.headers if held for name, value in held)

    @staticmethod
    def of(records: Iterable[Record]) -> Records:
        """Single records as columns."""
        found = Records()
        for record in records:
            found.offsets.append(record.offset)
            found.received.append((record.received_at - _EPOCH) // _MICROSECOND)
            found.keys.append(record.key)
            found.values.append(record.value)
            found.headers.append(record.headers)
        return found


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
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
    last_received_at: datetime | None
    noticed: dict[str, int]
    """Good rows that are out of the ordinary: `late`, `other_family`, `other_key` (R11)."""


LATE = timedelta(hours=1)
FAMILIES = {"install": "install", "view_notification": "view_notification", "click_notification": "view_notification"}
"""Event type -> the topic family that carries it; every other type belongs to `session`."""


def build(where: Coordinates, records: Iterable[Record], window: TimeWindow, slot_minutes: int, family: str | None = None) -> Batch:
    """Decode records into rows; never raises for what is in a record.

    `family` is the topic's own, None where it carries all of them (imports).
    """
    rows = Rows(where, window, slot_minutes, family)
    rows.add(Records.of(records))
    return rows.batch()


class Rows:
    """Rows of one coming raw object, decoded as the records arrive, so that little is left to do at the flush."""

    def __init__(
        self, where: Coordinates, window: TimeWindow, slot_minutes: int, family: str | None = None, policy: Policy = KEEP_ALL
    ) -> None:
        self._where, self._window, self._slot, self._family = where, window, slot_minutes * 60_000_000, family
        self._policy = policy
        self._chunks: list[pa.RecordBatch] = []
        self._rejects: dict[str, int] = {}
        self._noticed: dict[str, int] = {}
        self._slots: dict[int, int] = {}
        self._event_range: tuple[int, int] | None = None
        self._received_range: tuple[int, int] | None = None

    def add(self, records: Records) -> None:
        """Decode records, in chunks, and keep their rows."""
        for start in range(0, len(records), CHUNK):
            self._add(records.cut(start, start + CHUNK) if len(records) > CHUNK else records)

    def batch(self) -> Batch:
        """All rows so far, with what their footer says."""
        import pyarrow as pa

        first, last = _instants(self._received_range)
        slots = {_instant(micros): count for micros, count in sorted(self._slots.items())}
        table = pa.Table.from_batches(self._chunks, schema())
        return Batch(table, self._rejects, slots, *_instants(self._event_range), first, last, self._noticed)

    def _add(self, records: Records) -> None:
        import numpy as np
        import pyarrow as pa

        from engagement.raw import columns

        received = np.array(records.received, np.int64)
        replayed = [any(name == REPLAY_HEADER for name, _ in held or ()) for held in records.headers] if any(records.headers) else None
        refused = {place: UNREADABLE_HEADERS for place, held in enumerate(records.headers) if held is None}
        decoded = columns.decode(records.values, received, self._window, replayed, refused)
        self._count(records, decoded, received)
        rejected = dict.fromkeys(decoded.reasons)
        count = len(records)
        where, policy = self._where, self._policy
        found = {
            "kafka_topic": pa.repeat(where.topic, count),
            "kafka_topic_id": pa.repeat(where.topic_id, count),
            "kafka_partition": pa.repeat(pa.scalar(where.partition, pa.int32()), count),
            "kafka_offset": pa.array(records.offsets, pa.int64()),
            "received_at": pa.array(received, pa.timestamp("us", tz="UTC")),
            "headers": header_array(policy.headers(records.headers)),
            **policy.columns(decoded.columns),
            "reject_reason": _sparse(count, decoded.reasons, pa.string()),
            "payload": _sparse(count, {place: policy.bytes(records.values[place]) for place in rejected}, pa.binary()),
            "key": _sparse(count, {place: policy.bytes(records.keys[place]) for place in rejected}, pa.binary()),
        }
        self._chunks.append(pa.RecordBatch.from_pydict(found, schema()))

    def _count(self, records: Records, decoded: Any, received: np.ndarray) -> None:
        import numpy as np

        for reason in decoded.reasons.values():
            self._rejects[reason] = self._rejects.get(reason, 0) + 1
        self._received_range = _wider(self._received_range, received)
        good = np.ones(len(records), bool)
        good[list(decoded.reasons)] = False
        times = decoded.event_micros[good]
        if not len(times):
            return
        self._event_range = _wider(self._event_range, times)
        for slot, count in zip(*np.unique(times // self._slot, return_counts=True), strict=True):
            start = int(slot) * self._slot
            self._slots[start] = self._slots.get(start, 0) + int(count)
        if self._family is not None:
            for name, count in _oddities(records, decoded.columns, received[good] - times, good, self._family).items():
                self._noticed[name] = self._noticed.get(name, 0) + count


def _oddities(records: Records, columns: dict[str, pa.Array], ages: np.ndarray, good: np.ndarray, family: str) -> dict[str, int]:
    """Good rows out of the ordinary, those of them that there are."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pc.value_counts(columns["event_type"].filter(pa.array(good))).to_pylist()
    same = pc.equal(pa.array(records.keys, pa.binary()), columns["user_id"].cast(pa.binary())).fill_null(fill_value=False)
    found = {
        "late": int((ages > LATE // _MICROSECOND).sum()),
        "other_family": sum(item["counts"] for item in types if FAMILIES.get(item["values"], "session") != family),
        "other_key": int((good & ~same.to_numpy(zero_copy_only=False)).sum()),
    }
    return {name: count for name, count in found.items() if count}


def header_array(held: list[Headers | None]) -> pa.Array:
    """The column of headers."""
    import numpy as np
    import pyarrow as pa

    kind = schema().field("headers").type
    offsets = np.zeros(len(held) + 1, np.int32)
    if any(held):
        np.cumsum([len(headers or ()) for headers in held], out=offsets[1:])
    pairs = [pair for headers in held for pair in headers or ()] if any(held) else []
    names = pa.array([name for name, _ in pairs], pa.string())
    values = pa.array([value for _, value in pairs], pa.binary())
    missing = pa.array([headers is None for headers in held]) if None in held else None
    structs = pa.StructArray.from_arrays([names, values], fields=list(kind.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets), structs, type=kind, mask=missing)


def _sparse(count: int, values: dict[int, Any], kind: pa.DataType) -> pa.Array:
    import pyarrow as pa

    if not values:
        return pa.nulls(count, kind)
    filled: list[Any] = [None] * count
    for place, value in values.items():
        filled[place] = value
    return pa.array(filled, kind)


def _wider(known: tuple[int, int] | None, micros: np.ndarray) -> tuple[int, int]:
    low, high = int(micros.min()), int(micros.max())
    return (low, high) if known is None else (min(low, known[0]), max(high, known[1]))


def _instants(span: tuple[int, int] | None) -> tuple[datetime | None, datetime | None]:
    return (None, None) if span is None else (_instant(span[0]), _instant(span[1]))


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
