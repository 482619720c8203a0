"""Where rows of the raw log lie: raw objects, and ranges of archive parts. Whoever reads rows treats both alike (R5).

`RawIndex` says which sources hold a slot; none of them holds a record that another holds. Opening them is here too,
because a name may be given to other bytes while a reader is on its way: what was opened has to be what was listed.
Not here: which raw objects readers ignore (`chain`, `index`), and what the rows mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, Entry, Lake
from engagement.raw.coverage import Range
from engagement.raw.names import Chain

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH_ROWS = 8192


class Source(Protocol):
    """Rows of one chain that lie together in one object: a raw object, or a range of an archive part."""

    @property
    def key(self) -> str:
        """Key of the object that holds the rows."""

    @property
    def entry(self) -> Entry:
        """That object as it was listed."""

    @property
    def chain(self) -> Chain:
        """The chain they belong to."""

    @property
    def start(self) -> int:
        """First offset that is claimed."""

    @property
    def end(self) -> int:
        """End of the claim."""

    @property
    def rows(self) -> int:
        """How many rows it has."""

    @property
    def first_row(self) -> int:
        """Number of its first row in the object: 0 for a raw object."""

    @property
    def rejects(self) -> Mapping[str, int]:
        """Rejects by reason."""

    @property
    def event_slots(self) -> Mapping[datetime, int]:
        """Event slot -> good rows."""

    @property
    def first_received_at(self) -> datetime | None:
        """Log-append time of the first record."""

    @property
    def last_received_at(self) -> datetime | None:
        """Log-append time of the last record."""

    @property
    def source(self) -> str | None:
        """Name of the imported file."""

    @property
    def noticed(self) -> Mapping[str, int]:
        """Good rows that are out of the ordinary: `late`, `other_family`, `other_key` (R11)."""

    def upto(self, slot: datetime) -> int:
        """An offset behind its last row of the slot and not behind the claim: whoever has read up to here lacks nothing of it."""


@dataclass(frozen=True, slots=True)
class Archived:
    """A range of an archive part, as the part's footer tells it."""

    part: Entry
    chain: Chain
    held: Range
    first_row: int

    @property
    def key(self) -> str:
        """Key of the part."""
        return self.part.key

    @property
    def entry(self) -> Entry:
        """The part."""
        return self.part

    @property
    def start(self) -> int:
        """First offset that is covered."""
        return self.held.start

    @property
    def end(self) -> int:
        """End of what is covered."""
        return self.held.end

    @property
    def rows(self) -> int:
        """Rows of the range."""
        return self.held.rows

    @property
    def rejects(self) -> Mapping[str, int]:
        """Rejects by reason."""
        return self.held.rejects

    @property
    def event_slots(self) -> Mapping[datetime, int]:
        """Event slot -> good rows."""
        return {slot: found.rows for slot, found in self.held.slots.items()}

    @property
    def first_received_at(self) -> datetime | None:
        """Log-append time of the first record."""
        return self.held.first_received_at

    @property
    def last_received_at(self) -> datetime | None:
        """Log-append time of the last record."""
        return self.held.last_received_at

    @property
    def source(self) -> str | None:
        """Name of the imported file."""
        return self.held.source

    @property
    def noticed(self) -> Mapping[str, int]:
        """Good rows that are out of the ordinary, by what it is."""
        return self.held.noticed

    def upto(self, slot: datetime) -> int:
        """As Source.upto."""
        return self.held.slots[slot].last_offset + 1


def entries(sources: Iterable[Source]) -> list[Entry]:
    """The objects that hold these sources, each once."""
    return list({source.key: source.entry for source in sources}.values())


def require_same(lake: Lake, listed: Iterable[Entry]) -> None:
    """Raises Changed where an object is gone, or is another version than was listed: look again.

    To be asked after the rows were read. An expired object's name may have been taken by a writer that slept through it all, with
    other records in it; counting those beside the archive would show them twice.
    """
    for entry in listed:
        found = lake.stat(entry.key)
        if found is None or found.version != entry.version:
            msg = f"{entry.key} was {'deleted' if found is None else 'replaced'} while it was read"
            raise Changed(msg)


@contextmanager
def opened(lake: Lake, source: Source) -> Iterator[pq.ParquetFile]:
    """The object of a source, open; raises TransientError where it is gone, PermanentError where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = lake.name(source.key)
    try:
        with lake.open_version(source.entry) as handle, pq.ParquetFile(handle) as file:
            if source.first_row + source.rows > file.metadata.num_rows:
                raise TransientError(f"{name} has other rows than were listed: it was replaced meanwhile; run the command again")
            yield file
    except FileNotFoundError as error:
        raise TransientError(f"{name} is gone or was replaced meanwhile, by expiry or an erasure; run the command again") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise PermanentError(f"{name} cannot be read: {' '.join(str(error).split())}") from error


def row_groups(file: pq.ParquetFile, source: Source) -> list[tuple[int, int, int]]:
    """Row groups that hold rows of the source: number, and which of its rows, from and to."""
    found = []
    begin, first, end = 0, source.first_row, source.first_row + source.rows
    for number in range(file.num_row_groups):
        size = file.metadata.row_group(number).num_rows
        if begin < end and first < begin + size:
            found.append((number, max(first - begin, 0), min(end - begin, size)))
        begin += size
    return found


def batches(file: pq.ParquetFile, source: Source, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The source's rows, in their order, and no others of its object."""
    for number, first, end in row_groups(file, source):
        place = 0
        for batch in file.iter_batches(BATCH_ROWS, row_groups=[number], columns=list(columns)):
            begin, stop = max(first - place, 0), min(end - place, batch.num_rows)
            if begin < stop:
                yield batch.slice(begin, stop - begin)
            place += batch.num_rows
            if place >= end:
                break
