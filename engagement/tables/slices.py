"""One result cut into the rows of its units, without copying where the rows lie together already.

One query serves a slot and a whole day, because its rows carry a key: the number of their slot, or the hour.
Slots are numbered from 1970 on: `number_of(slot) = epoch // slot length`. Nothing here knows a table's columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

_MINUTE_US = 60_000_000


def slot_us(slot_minutes: int) -> int:
    """A slot's length in microseconds, the SQL's `$slot_us`."""
    return slot_minutes * _MINUTE_US


def number_of(slot: datetime, slot_minutes: int) -> int:
    """The number of a slot."""
    return int(slot.timestamp()) // (slot_minutes * 60)


def slot_of(number: int, slot_minutes: int) -> datetime:
    """The slot of a number."""
    return datetime.fromtimestamp(number * slot_minutes * 60, UTC)


def cut(rows: pa.Table, key: str) -> dict[int, pa.Table]:
    """The rows of each value of an integer column by which they lie together, in their order, all columns kept."""
    import pyarrow.compute as pc

    found: dict[int, pa.Table] = {}
    start = 0
    for item in pc.value_counts(rows[key]).to_pylist():  # in the order of first appearance
        found[item["values"]] = rows.slice(start, item["counts"])
        start += item["counts"]
    return found


def cut_by_time(rows: pa.Table, time: str, slot_minutes: int, order: Sequence[str]) -> dict[int, pa.Table]:
    """The rows of each slot, told by a column of instants, sorted by the columns of `order`.

    Slot by slot: sorting a whole day at once would move all its bytes through fresh memory, at three times the cost.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    pieces: dict[int, list[pa.Table]] = {}
    for batch in rows.to_batches():
        numbers = pc.divide(batch[time].cast(pa.int64()), slot_us(slot_minutes))
        together = pa.Table.from_batches([batch]).append_column("slot", numbers)
        if len(pc.unique(numbers)) > 1:
            together = together.take(pc.sort_indices(numbers))
        for number, piece in cut(together, "slot").items():
            pieces.setdefault(number, []).append(piece.drop_columns("slot"))
    keys = [(name, "ascending") for name in order]
    return {number: pa.concat_tables(found).combine_chunks().sort_by(keys) for number, found in sorted(pieces.items())}
