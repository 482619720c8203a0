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


def cut_unsorted(rows: pa.Table, key: str, order: Sequence[str]) -> dict[int, pa.Table]:
    """The rows of each value of an integer column, wherever they lie, sorted by the columns of `order`; all columns kept.

    Piece by piece: sorting a whole day at once would move all its bytes through fresh memory, which costs more than the
    sorting.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    # Record batches, not tables: taking rows of a table's chunked columns costs ten times as much.
    pieces: dict[int, list[pa.RecordBatch]] = {}
    for batch in rows.to_batches():
        together = pc.sort_indices(batch[key])
        start = 0
        for item in pc.value_counts(batch[key].take(together)).to_pylist():
            pieces.setdefault(item["values"], []).append(batch.take(together.slice(start, item["counts"])))
            start += item["counts"]
    keys = [(name, "ascending") for name in order]
    return {value: pa.Table.from_batches([pa.concat_batches(found).sort_by(keys)]) for value, found in sorted(pieces.items())}
