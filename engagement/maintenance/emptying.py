"""Taking the rows out of an archive part or a raw object, and leaving its claim (R3, R5).

A part that went away would uncover its offsets: a consumer could resume before them, and planning would see a hole. So
retention replaces it, under its own key, by a part without rows whose footer covers the same ranges, keeps their gap
records, and says how many rows expired. The same is done to a raw object that has to stay because its chain resumes
behind it, once the part that holds its rows is empty. Which parts, `retention` decides.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

from engagement.lake import Changed, Entry, Lake
from engagement.raw import coverage, footers, rows
from engagement.raw.chain import Coverage
from engagement.raw.coverage import Part, Range
from engagement.raw.footers import FOOTER_KEY, RawFile
from engagement.raw.index import RawIndex


def touches_open_day(part: Part, first_open: date) -> bool:
    """Whether rows of the part belong to a day whose tables may still be made again."""
    return any(slot.date() >= first_open for _, item, _ in part.in_order() for slot in (*item.slots, *item.erased))


def has_rows(part: Part) -> bool:
    """Whether there is anything to take."""
    return any(item.rows for _, item, _ in part.in_order())


def emptied(part: Part) -> Part:
    """The part without its rows: what it covers and the gaps that it records stay."""
    return replace(part, ranges={label: tuple(map(_emptied_range, found)) for label, found in part.ranges.items()})


def _emptied_range(item: Range) -> Range:
    return replace(item, rows=0, rejects={}, slots={}, noticed={}, erased={}, expired=item.expired + item.rows)


def emptied_file(raw: RawFile) -> RawFile:
    """The raw object without its rows: its claim and its gap record stay."""
    return replace(raw, rows=0, rejects={}, event_slots={}, noticed={}, expired=raw.expired + raw.rows)


def empty_part(lake: Lake, key: str) -> Entry | None:
    """Take the rows out of a part; the entry that it was, None where another writer was faster or it is gone."""
    with lake.replacing(key):
        entry = lake.stat(key)
        if entry is None:
            return None
        return _replaced(lake, entry, emptied(coverage.read_part(lake, key)).to_json())


def empty_file(lake: Lake, key: str) -> Entry | None:
    """As `empty_part`, of a raw object."""
    with lake.replacing(key):
        entry = lake.stat(key)
        if entry is None:
            return None
        return _replaced(lake, entry, emptied_file(footers.read(lake, key)).to_json())


def left_over(index: RawIndex, parts: Iterator[Part] | list[Part]) -> Iterator[RawFile]:
    """Raw objects that still hold rows which the archive has let go of."""
    expired: dict[str, list[Range]] = {}
    for part in parts:
        for label, item, _ in part.in_order():
            if item.expired and not item.rows:
                expired.setdefault(label, []).append(item)
    covered = {label: Coverage.of(item.link for item in found) for label, found in expired.items()}
    for raw in index.files():
        if raw.rows and (found := covered.get(raw.chain.label)) and found.holds(raw.start):
            yield raw


def _replaced(lake: Lake, entry: Entry, footer: str) -> Entry | None:
    try:
        lake.replace(entry.key, _no_rows(footer), entry)
    except Changed:  # erased or emptied by another run: the next one looks again
        return None
    return entry


def _no_rows(footer: str) -> bytes:
    """A Parquet object of raw rows that has none."""
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    with pq.ParquetWriter(sink, rows.schema(), compression="zstd") as writer:
        writer.add_key_value_metadata({FOOTER_KEY: footer.encode()})
    return sink.getvalue()
