"""What a raw object's footer says, and reading it with suspicion: an object counts only if name, footer and rows agree.

A footer holds everything that tells which units an object touches, so that nobody opens rows to plan. Parquet's own
footer knows the number of rows and the least and greatest offset. What neither can show is damage inside the column
data; whoever reads the rows finds that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Entry, Lake
from engagement.raw.chain import Link
from engagement.raw.names import Chain, parse_key

FOOTER_KEY = b"engagement"


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
    expired: int = 0
    """Rows that retention took, once the archive covers them: the claim stays, the counts are of what is left."""
    erasures: int = 0
    """Length of the erasure list that was applied to its rows when they were written."""
    erased: dict[datetime, int] = field(default_factory=dict)
    """Event slots whose good rows were erased since, and the length of the list then."""
    sealed: bool = False
    """Claims no offset: it only takes the name behind the end of a deleted topic's chain, so that nobody goes on with it."""
    size: int = field(default=0, compare=False)
    """Bytes of the object; 0 where only the footer was read."""
    version: str = field(default="", compare=False)
    """The object's version; empty where only the footer was read."""

    @property
    def key(self) -> str:
        """Its key in the lake."""
        return self.chain.key(self.start)

    @property
    def entry(self) -> Entry:
        """The object as a listing showed it; of what was written or came from the index."""
        return Entry(self.key, self.size, self.version)

    @property
    def link(self) -> Link:
        """Its claim."""
        return Link(self.start, self.end)

    @property
    def first_row(self) -> int:
        """Number of its first row in the object (`sources.Source`)."""
        return 0

    def upto(self, slot: datetime) -> int:  # noqa: ARG002 - a range of an archive part knows more
        """An offset behind its last row of the slot (`sources.Source`)."""
        return self.end

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
            **({"expired": self.expired} if self.expired else {}),
            "erasures": self.erasures,
            **({"erased": {slot.isoformat(): number for slot, number in self.erased.items()}} if self.erased else {}),
            **({"sealed": True} if self.sealed else {}),
        })  # fmt: skip

    @staticmethod
    def from_json(text: str | bytes) -> RawFile:
        """Read a footer's text."""
        raw = json.loads(text)
        return RawFile(
            Chain.parse(raw["chain"]), raw["start"], raw["end"], raw["rows"], raw["rejects"],
            {datetime.fromisoformat(slot): rows for slot, rows in raw["event_slots"].items()}, tuple(raw["gap"]) if raw["gap"] else None,
            _instant(raw["first_received_at"]), _instant(raw["last_received_at"]), raw["source"], raw.get("noticed", {}),
            raw.get("expired", 0),
            raw.get("erasures", 0), {datetime.fromisoformat(slot): number for slot, number in raw.get("erased", {}).items()},
            raw.get("sealed", False),
        )  # fmt: skip


class Unreadable(PermanentError):
    """The object is no raw object of this program, or contradicts itself; `why` goes on from its name."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.why = why


def read(lake: Lake, key: str) -> RawFile:
    """The footer under a raw key; raises Unreadable, FileNotFoundError where the object is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = lake.name(key)
    try:
        with lake.open(key) as file:
            metadata = pq.read_metadata(file)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:  # a damaged Parquet footer is an OSError too
        raise Unreadable(name, f"is no Parquet file, or the disk lost part of it ({' '.join(str(error).split())})") from error
    text = (metadata.metadata or {}).get(FOOTER_KEY)
    if text is None:
        raise Unreadable(name, f"has no {FOOTER_KEY.decode()} footer: it was not written by this program")
    try:
        raw = RawFile.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(name, f"has an {FOOTER_KEY.decode()} footer of another shape ({type(error).__name__}: {error})") from error
    if why := disagreement(key, raw, metadata):
        raise Unreadable(name, why)
    return raw


def disagreement(key: str, raw: RawFile, metadata: Any) -> str | None:
    """How the footer contradicts the object's name or Parquet's own facts, None where they agree."""
    if (raw.chain, raw.start) != parse_key(key) or raw.key != key:
        return f"says it is {raw.key}: it was copied or renamed"
    if metadata.num_rows != raw.rows:
        return f"says it has {raw.rows} rows, and has {metadata.num_rows}"
    place = metadata.schema.names.index("kafka_offset") if "kafka_offset" in metadata.schema.names else None
    if place is None:
        return "has no column kafka_offset"
    for number in range(metadata.num_row_groups):
        known = metadata.row_group(number).column(place).statistics
        if known is not None and known.has_min_max and not (raw.start <= known.min and known.max < raw.end):
            return f"claims offsets {raw.start} to {raw.end - 1}, and has rows of {known.min} to {known.max}"
    return None


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.isoformat()


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
