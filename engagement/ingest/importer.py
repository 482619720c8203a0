"""History from files: a file is a chain, its hash the topic id, its rows the offsets (R3).

Every file of an import is read to its end before the first object of any is written, so a truncated one leaves
nothing behind. Rows are decoded in several processes, and objects are written one after the other, in the order of
their claims: the object with the greatest start says where a killed import goes on. The same bytes again find their
chain complete. What is in a file is known to `ingest.history`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engagement.contract import TimeWindow
from engagement.ingest.history import decoding, delimited, lines, parquet
from engagement.ingest.history.decoding import Decode, Piece, Reader
from engagement.ingest.history.found import require_kind
from engagement.ingest.history.mapping import NO_RENAMES, Renames
from engagement.ingest.history.streams import Advance, BadFile, Inspected, as_bad_file, silent
from engagement.lake import LAKE_JSON, AlreadyExists, Lake, LakeFormat, connect
from engagement.raw import chain, files, rows
from engagement.raw.coverage import Parts
from engagement.raw.erasures import IMPORT_LOCK, ErasureList
from engagement.raw.names import IMPORT_TOPIC, Chain, import_chain, parse_key
from engagement.raw.privacy import Policy
from engagement.raw.rows import CHUNK, Batch
from engagement.settings import Settings

__all__ = ["Bad", "BadFile", "Imported", "Importer", "Source", "format_of", "import_file", "inspect"]

ROWS_PER_OBJECT = 500_000
"""Never changed by a setting: where a file is cut is part of its claims."""
PIECE_ROWS = 8 * CHUNK
PIECE_BYTES = 16 << 20
"""Rows that are decoded at once; fewer where they are large."""
ROWS_WORTH_PROCESSES = 100_000
TOLD = 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSPECT = {"jsonl": lines.inspect, "csv": delimited.inspect, "parquet": parquet.inspect}


@dataclass(frozen=True, slots=True)
class Source:
    """A readable file, its rows counted, its uncompressed bytes hashed."""

    path: Path
    found: Inspected
    stamp: tuple[int, ...]
    """What changes when somebody writes to the file."""

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.found.rows

    @property
    def chain(self) -> Chain:
        """Its chain in the lake."""
        return import_chain(self.found.sha256)

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of its columns; None where every row has names of its own."""
        return self.found.reader.columns

    def require_unchanged(self) -> None:
        """Raises BadFile where the file is not the one that was inspected."""
        with as_bad_file(self.path):
            if _stamp(self.path) != self.stamp:
                raise BadFile(f"{self.path}: changed while it was imported; what was written before is of the file as it was")


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that was rejected; the first row of a file is 1."""

    row: int
    reason: str


@dataclass(slots=True)
class Imported:
    """What an import found and did of one file.

    `rejects` are those of the whole file, earlier imports of it included. `start` is the row, from 0, with which this
    one began, `written` counts its objects, `bad` are the first rows that it rejected.
    """

    rows: int
    start: int = 0
    written: int = 0
    rejects: dict[str, int] = field(default_factory=dict)
    bad: list[Bad] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """Rejects of any reason."""
        return sum(self.rejects.values())


def inspect(path: Path, renames: Renames = NO_RENAMES, advance: Advance = silent) -> Source:
    """Read the file to its end; raises BadFile where it is missing, empty, truncated or not what its name says."""
    with as_bad_file(path):
        stamp = _stamp(path)
        return Source(path, _INSPECT[require_kind(path)](path, renames, advance), stamp)


def import_file(source: Source, lake: Lake, lake_format: LakeFormat, settings: Settings, now: datetime | None = None) -> Imported:
    """Import one file; as `Importer.run`."""
    importer = Importer(settings, lake, lake_format, now or datetime.now(UTC))
    with importer.decoding([source]) as decode:
        return importer.run(source, decode)


def format_of(settings: Settings) -> LakeFormat:
    """How the lake of these settings is cut, or would be; makes none, for a dry run."""
    text = connect(settings).read(LAKE_JSON)
    if text is not None and "history_start" not in settings.sources:
        return LakeFormat.from_json(text)
    return LakeFormat.of(settings)


class Importer:
    """One import: all its objects have one received_at. A `dry` one decodes every row and writes nothing."""

    def __init__(self, settings: Settings, lake: Lake, lake_format: LakeFormat, now: datetime, *, dry: bool = False) -> None:
        self._lake, self._slot_minutes, self._dry = lake, lake_format.slot_minutes, dry
        self._window = TimeWindow.of(lake_format.history_start, settings.clock_skew_seconds, None)
        self._policy = Policy.of(settings, lake_format)
        self._received = (now - _EPOCH) // timedelta(microseconds=1)
        self._processes = min(settings.threads or len(os.sched_getaffinity(0)), decoding.MAX_PROCESSES)
        self._parts = Parts(lake)
        self._erasures = ErasureList(lake, settings.hash_keys)
        self._erasures.read()  # without the key nothing could be written: told now, not after the first file was read

    def decoding(self, sources: Iterable[Source]) -> AbstractContextManager[Decode]:
        """What `run` decodes with: processes, or none where there are few rows."""
        many = sum(source.rows for source in sources) >= ROWS_WORTH_PROCESSES
        return decoding.processes(self._processes if many else 1)

    def run(self, source: Source, decode: Decode, advance: Advance = silent) -> Imported:
        """Write what the lake does not have of a file; `advance` is told rows.

        Raises LakeUnavailable, then it is safe to run again; BadFile where the file changed since it was inspected.
        """
        start = 0 if self._dry else min(self.end(source), source.rows)
        result = Imported(source.rows, start)
        advance(start)
        batches = decode(self._pieces(source, start))
        with ThreadPoolExecutor(1) as writer:
            before: Future[int] | None = None
            for begin, end in _cuts(start, source.rows):
                batch = _gathered(batches, end - begin, source, advance)
                result.bad += _bad(batch, TOLD - len(result.bad))
                result.rejects = decoding.added([result.rejects, batch.rejects])
                result.written += before.result() if before else 0
                before = None if self._dry else writer.submit(self._write, source, begin, end, batch)
            result.written += before.result() if before else 0
        if not self._dry:
            result.rejects = self._rejects(source.chain)
        return result

    def end(self, source: Source) -> int:
        """Rows of the file that the lake has: where its import goes on (R3)."""
        last = files.last_link(self._lake, source.chain)
        return chain.resume(last, self._parts.of(source.chain))

    def _pieces(self, source: Source, start: int) -> Iterator[Piece]:
        where = rows.Coordinates(IMPORT_TOPIC, source.found.sha256, 0)
        reader: Reader = source.found.reader
        first = start
        with as_bad_file(source.path):
            sizes = list(_sizes(start, source.rows, _piece_rows(source)))
            for size, chunk in zip(sizes, reader.chunks(source.path, start, iter(sizes)), strict=False):
                yield Piece(reader, chunk, first, where, self._window, self._slot_minutes, self._received, self._policy)
                first += size

    def _write(self, source: Source, begin: int, end: int, batch: Batch) -> int:
        """Objects written: 1, or 0 where another import of the same bytes has made the claim."""
        source.require_unchanged()
        with self._lake.lock(IMPORT_LOCK), suppress(AlreadyExists):
            files.write(self._lake, source.chain, begin, end, batch, source.path.name, self._erasures.read())
            return 1
        return 0

    def _rejects(self, where: Chain) -> dict[str, int]:
        """Rejects by reason of all that the lake has of a file."""
        starts = [parsed[1] for entry in self._lake.list(where.folder) if (parsed := parse_key(entry.key))]
        ranges = self._parts.look(IMPORT_TOPIC).ranges().get(where.label, [])
        covered = chain.Coverage.of(item.link for item in ranges)
        raw = [files.read_footer(self._lake, where, start).rejects for start in starts if not covered.holds(start)]
        return dict(sorted(decoding.added([*raw, *(item.rejects for item in ranges)]).items()))


def _cuts(start: int, rows: int) -> Iterator[tuple[int, int]]:
    """First row and end of each object from `start` on."""
    while start < rows:
        end = min(rows, (start // ROWS_PER_OBJECT + 1) * ROWS_PER_OBJECT)
        yield start, end
        start = end


def _sizes(start: int, rows: int, most: int) -> Iterator[int]:
    """Rows of each piece from `start` on; none lies in two objects."""
    for begin, end in _cuts(start, rows):
        yield from (min(most, end - first) for first in range(begin, end, most))


def _piece_rows(source: Source) -> int:
    fitting = PIECE_BYTES * source.rows // max(1, source.found.size)
    return max(1, min(PIECE_ROWS, fitting if fitting < CHUNK else fitting // CHUNK * CHUNK))


def _gathered(batches: Iterator[Batch], rows: int, source: Source, advance: Advance) -> Batch:
    """The next batches of so many rows together as one; raises BadFile where the file has them no more."""
    found: list[Batch] = []
    left = rows
    while left > 0 and (batch := next(batches, None)) is not None:
        found.append(batch)
        left -= batch.table.num_rows
        advance(batch.table.num_rows)
    if left:
        source.require_unchanged()
        raise BadFile(f"{source.path}: gave other rows when it was read again")
    return decoding.joined(found)


def _bad(batch: Batch, most: int) -> list[Bad]:
    """The first rejected rows of a batch."""
    import pyarrow.compute as pc

    if most <= 0 or not batch.rejects:
        return []
    found = batch.table.select(["kafka_offset", "reject_reason"])
    found = found.filter(pc.is_valid(found["reject_reason"])).slice(0, most)
    return [Bad(row["kafka_offset"] + 1, row["reject_reason"]) for row in found.to_pylist()]


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
