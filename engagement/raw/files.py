"""Raw objects: what their footer says, how they are written and found.

A footer holds everything that tells which units an object touches, so that nobody opens rows to plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from engagement.lake import Lake, LakeUnavailable
from engagement.raw.chain import Link
from engagement.raw.names import RAW, Chain, parse_key
from engagement.raw.rows import Batch

if TYPE_CHECKING:
    import pyarrow as pa

FOOTER_KEY = b"engagement"
LISTINGS = 3


@dataclass(frozen=True, slots=True)
class RawFile:
    """One raw object as its name and footer tell it.

    `event_slots` maps slot starts to good rows; `gap` is the range of offsets that the log had already lost.
    """

    chain: Chain
    start: int
    end: int
    rows: int
    rejects: dict[str, int] = field(default_factory=dict)
    event_slots: dict[datetime, int] = field(default_factory=dict)
    gap: tuple[int, int] | None = None
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None
    source: str | None = None
    """Name of the imported file."""
    noticed: dict[str, int] = field(default_factory=dict)
    """Good rows out of the ordinary, counted (`rows.Batch`)."""
    size: int = field(default=0, compare=False)
    """Bytes of the object just written; 0 where only the footer was read."""

    @property
    def key(self) -> str:
        """Its key in the lake."""
        return self.chain.key(self.start)

    @property
    def link(self) -> Link:
        """Its claim."""
        return Link(self.start, self.end)

    @property
    def ingest_hour(self) -> datetime | None:
        """Hour of the first record's log-append time; None for a gap."""
        return self.first_received_at and self.first_received_at.replace(minute=0, second=0, microsecond=0)

    def to_json(self) -> str:
        """The footer's text."""
        return json.dumps({
            "chain": self.chain.label, "start": self.start, "end": self.end, "rows": self.rows, "rejects": self.rejects,
            "event_slots": {slot.isoformat(): rows for slot, rows in self.event_slots.items()}, "gap": self.gap,
            "first_received_at": _text(self.first_received_at), "last_received_at": _text(self.last_received_at), "source": self.source,
            "noticed": self.noticed,
        })  # fmt: skip

    @staticmethod
    def from_json(text: str | bytes) -> RawFile:
        """Read a footer's text."""
        raw = json.loads(text)
        return RawFile(
            Chain.parse(raw["chain"]), raw["start"], raw["end"], raw["rows"], raw["rejects"],
            {datetime.fromisoformat(slot): rows for slot, rows in raw["event_slots"].items()}, tuple(raw["gap"]) if raw["gap"] else None,
            _instant(raw["first_received_at"]), _instant(raw["last_received_at"]), raw["source"], raw.get("noticed", {}),
        )  # fmt: skip


def write(lake: Lake, chain: Chain, start: int, end: int, batch: Batch, source: str | None = None) -> RawFile:
    """Publish the rows of [start, end) under the claim's name.

    Raises AlreadyExists where another writer made the claim first (the fence), LakeUnavailable.
    """
    raw = RawFile(
        chain, start, end, batch.table.num_rows, batch.rejects, batch.event_slots, None, batch.first_received_at, batch.last_received_at,
        source, batch.noticed,
    )  # fmt: skip
    entry = lake.put_new(raw.key, _encode(batch.table, raw))
    return replace(raw, size=entry.size)


def write_gap(lake: Lake, chain: Chain, start: int, end: int) -> RawFile:
    """Claim offsets that the log no longer has, as a zero-row object (R3); raises as `write`."""
    from engagement.raw import rows

    raw = RawFile(chain, start, end, 0, gap=(start, end))
    lake.put_new(raw.key, _encode(rows.schema().empty_table(), raw))
    return raw


def names(lake: Lake) -> Iterator[tuple[Chain, int]]:
    """Chain and start of every raw object."""
    for entry in lake.list(RAW):
        parsed = parse_key(entry.key)
        if parsed is not None:
            yield parsed


def read_footer(lake: Lake, chain: Chain, start: int) -> RawFile:
    """The footer of one object; raises footers.Unreadable where the object is not ours, FileNotFoundError where it is gone."""
    from engagement.raw import footers

    return footers.read(lake, chain.key(start))


def last_link(lake: Lake, chain: Chain) -> Link | None:
    """The claim with the greatest start of a chain, or None where it is empty (R3).

    Raises LakeUnavailable, PermanentError where that object cannot be read: where to go on is then unknown.
    """
    for _ in range(LISTINGS):
        starts = [parsed[1] for entry in lake.list(chain.folder) if (parsed := parse_key(entry.key))]
        if not starts:
            return None
        try:
            return read_footer(lake, chain, max(starts)).link
        except FileNotFoundError:  # a newer one came and this one was archived and deleted: list again
            continue
    raise LakeUnavailable(f"{lake.path(chain.folder)}: its last object vanished at each of {LISTINGS} listings")


def _encode(table: pa.Table, raw: RawFile) -> memoryview:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    low_cardinality = ["kafka_topic", "kafka_topic_id", "event_type", "device_type", "device_model", "os_version", "locale",
                       "app_version", "country", "region", "city", "reject_reason"]  # fmt: skip
    rising = dict.fromkeys(("kafka_offset", "received_at", "event_time"), "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=low_cardinality,
        column_encoding=rising,
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY: raw.to_json().encode()})
    return memoryview(sink.getvalue())


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
