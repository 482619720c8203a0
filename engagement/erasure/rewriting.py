"""Raw objects and archive parts without some people, under the same key (R1): the one replacement that R5 allows.

Each is replaced only if it still is the version that was read. Coordinates, received_at, claims and coverage stay; the
footer counts anew and says in which event slots good rows were erased, and how long the list was then: from that a run
that was killed, and whoever plans, knows which units of tables must be made again.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engagement.erasure.people import Found, People, slots_of
from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, Lake
from engagement.raw import compaction, erasures, files
from engagement.raw.coverage import Part, Range, Slot
from engagement.raw.footers import FOOTER_KEY, RawFile
from engagement.raw.names import parse_key

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

ATTEMPTS = 5
NO_TIME = -(1 << 62)
"""Stands for the event time of a row that is no event."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A replaced object: rows that changed, and the bytes that it has now."""

    key: str
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Rewriter:
    """Takes people out of objects. `length` is that of the erasure list that has them."""

    lake: Lake
    people: People
    slot_minutes: int
    length: int

    def rewrite(self, key: str) -> Rewritten | None:
        """Replace a raw object or archive part by one without them; None where it has nothing of theirs or is gone.

        Raises PermanentError for an object that cannot be read, TransientError where others replace it again and again.
        """
        for _ in range(ATTEMPTS):
            with self.lake.replacing(key):
                entry = self.lake.stat(key)
                data = None if entry is None else self.lake.read(key)
                if data is None:
                    return None
                made = self._made(key, data)
                if made is None:
                    return None
                rows, fresh = made
                try:
                    return Rewritten(key, rows, self.lake.replace(key, fresh, entry).size)
                except Changed:
                    continue
        raise TransientError(f"{self.lake.name(key)}: replaced by other writers {ATTEMPTS} times in a row; run it again")

    def _made(self, key: str, data: bytes) -> tuple[int, bytes | memoryview] | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(pa.BufferReader(data))
            footer = file.metadata.metadata[FOOTER_KEY]
            return self._raw(file, RawFile.from_json(footer)) if parse_key(key) else self._part(file, Part.from_json(footer))
        except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise PermanentError(f"{self.lake.name(key)} cannot be read, nor erased: {' '.join(str(error).split())}") from error

    def _raw(self, file: pq.ParquetFile, raw: RawFile) -> tuple[int, memoryview] | None:
        before = file.read().replace_schema_metadata(None)
        found = self.people.find(before)
        if not found:
            return None
        after = self.people.erase(before, found)
        touched = slots_of(before, found.whole | found.properties, self.slot_minutes)
        footer = replace(erasures.recount(raw, before, after), erased=raw.erased | dict.fromkeys(touched, self.length))
        return found.rows, files.encode(after, footer)

    def _part(self, file: pq.ParquetFile, part: Part) -> tuple[int, memoryview] | None:
        """Row group by row group, so that a large part is never in memory as rows."""
        ranges = _Ranges(part, self.slot_minutes, self.length)
        sink = io.BytesIO()
        count = place = 0
        schema = file.schema_arrow.remove_metadata()
        with compaction.writer_of(sink, schema) as writer:
            for number in range(file.num_row_groups):
                before = file.read_row_group(number).replace_schema_metadata(None)
                found = self.people.find(before)
                after = self.people.erase(before, found) if found else before
                ranges.take(place, before, after, found)
                writer.write_table(compaction.fitted(after, schema), row_group_size=max(1, after.num_rows))
                count += found.rows
                place += before.num_rows
            if not count:
                return None
            writer.add_key_value_metadata(compaction.footer(ranges.counted(), schema))
        return count, sink.getbuffer()


class _Ranges:
    """What a part's footer says of its ranges once some rows became `erased`. Rows come group by group, in their order."""

    def __init__(self, part: Part, slot_minutes: int, length: int) -> None:
        self._part, self._minutes, self._length = part, slot_minutes, length
        self._spans = [(label, item, first, first + item.rows) for label, item, first in part.in_order()]
        self._rejects: dict[int, dict[str, int]] = {}
        self._touched: dict[int, set[datetime]] = {}
        self._offsets: list[np.ndarray] = []
        self._times: list[np.ndarray] = []

    def take(self, place: int, before: pa.Table, after: pa.Table, found: Found) -> None:
        """Count a row group that begins at row `place` of the part."""
        import pyarrow as pa

        self._offsets.append(after["kafka_offset"].to_numpy())
        self._times.append(after["event_time"].cast(pa.int64()).fill_null(NO_TIME).to_numpy())
        for number, rows in self._of_spans(place, found.whole | found.properties):
            self._touched.setdefault(number, set()).update(slots_of(before, rows, self._minutes))
        for number, rows in self._of_spans(place, found.whole):
            gone = before.select(["reject_reason", "event_time"]).take(rows)["reject_reason"].to_pylist()
            counted = self._rejects.setdefault(number, dict(self._spans[number][1].rejects))
            for reason in gone:
                if reason is not None:
                    counted[reason] -= 1
                counted[erasures.ERASED] = counted.get(erasures.ERASED, 0) + 1

    def _of_spans(self, place: int, rows: Iterable[int]) -> Iterable[tuple[int, list[int]]]:
        """Number of a range -> its rows among these, as places in the row group."""
        rows = sorted(rows)
        for number, (_, _, first, end) in enumerate(self._spans):
            inside = [row for row in rows if first <= place + row < end]
            if inside:
                yield number, inside

    def counted(self) -> Part:
        """The footer."""
        import numpy as np

        offsets = np.concatenate(self._offsets) if self._offsets else np.zeros(0, np.int64)
        times = np.concatenate(self._times) if self._times else np.zeros(0, np.int64)
        ranges: dict[str, list[Range]] = {}
        for number, (label, item, first, end) in enumerate(self._spans):
            made = item
            if number in self._touched or number in self._rejects:
                rejects = {reason: rows for reason, rows in self._rejects.get(number, item.rejects).items() if rows}
                erased = item.erased | dict.fromkeys(self._touched.get(number, ()), self._length)
                slots = self._slots(offsets[first:end], times[first:end])
                made = replace(item, rejects=rejects, slots=slots, erased=erased)
            ranges.setdefault(label, []).append(made)
        return replace(self._part, ranges={label: tuple(found) for label, found in ranges.items()})

    def _slots(self, offsets: np.ndarray, times: np.ndarray) -> dict[datetime, Slot]:
        import numpy as np

        from engagement.tables import slices

        good = times != NO_TIME
        numbers, place = np.unique(times[good] // slices.slot_us(self._minutes), return_inverse=True)
        last = np.zeros(len(numbers), np.int64)
        np.maximum.at(last, place, offsets[good])
        counts: Any = np.bincount(place, minlength=len(numbers))
        found = zip(numbers.tolist(), last.tolist(), counts.tolist(), strict=True)
        return {slices.slot_of(number, self._minutes): Slot(offset, rows) for number, offset, rows in found}
