"""What a part's footer says of the raw objects in it: their ranges, counted from the rows themselves (R5).

The counts are held against the footers of the objects: one that contradicts itself is not archived. Objects of a chain that
follow one another without a hole become one range.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from engagement.errors import PermanentError
from engagement.raw.coverage import Gap, Range, Slot
from engagement.raw.footers import RawFile

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UnreadableObject(PermanentError):
    """A raw object's rows cannot be read or are not those that its footer tells; `key` names it."""

    def __init__(self, key: str, why: str) -> None:
        super().__init__(f"{key} {why}")
        self.key = key


class Ranges:
    """What a part covers, gathered object by object in the order of its rows."""

    def __init__(self, slot_minutes: int) -> None:
        self._slot_us = slot_minutes * 60_000_000
        self._ranges: dict[str, list[Range]] = {}

    @property
    def found(self) -> dict[str, tuple[Range, ...]]:
        """Ranges by chain label."""
        return {label: tuple(ranges) for label, ranges in self._ranges.items()}

    def add(self, raw: RawFile, rows: pa.Table, erased_by: int) -> None:
        """Count one object's rows; `erased_by` is the length of the erasure list where some of them were erased just now."""
        slots, rejects = self._slots(rows), _rejects(rows)
        counted = {slot: held.rows for slot, held in slots.items()}
        if rows.num_rows != raw.rows or (not erased_by and (counted, rejects) != (raw.event_slots, raw.rejects)):
            raise UnreadableObject(raw.key, "has other rows than its footer tells: restore it from a copy")
        erased = {slot: erased_by for slot, count in raw.event_slots.items() if counted.get(slot, 0) < count}
        item = Range(
            raw.start, raw.end, raw.rows, rejects, (Gap(*raw.gap),) if raw.gap else (), slots, raw.first_received_at,
            raw.last_received_at, dict(raw.noticed), raw.source, raw.expired, {**raw.erased, **erased},
        )  # fmt: skip
        ranges = self._ranges.setdefault(raw.chain.label, [])
        if ranges and ranges[-1].end == item.start and ranges[-1].source == item.source:
            ranges[-1] = _joined(ranges[-1], item)
        else:
            ranges.append(item)

    def _slots(self, rows: pa.Table) -> dict[datetime, Slot]:
        import numpy as np
        import pyarrow.compute as pc

        good = rows.select(["event_time", "kafka_offset"]).filter(pc.is_null(rows["reject_reason"]))
        numbers = good["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64) // self._slot_us
        # Offsets rise, so the last row of a slot is the first one from behind.
        found, places, counts = np.unique(numbers[::-1], return_index=True, return_counts=True)
        offsets = good["kafka_offset"].to_numpy()[::-1][places]
        return {
            _EPOCH + int(number) * self._slot_us * _MICROSECOND: Slot(int(offset), int(count))
            for number, offset, count in zip(found, offsets, counts, strict=True)
        }


def _rejects(rows: pa.Table) -> dict[str, int]:
    import pyarrow.compute as pc

    counted = pc.value_counts(rows["reject_reason"].drop_null())
    return {item["values"]: item["counts"] for item in counted.to_pylist()}


def _joined(first: Range, then: Range) -> Range:
    """Two ranges that follow one another as one."""
    slots = dict(first.slots)
    for slot, held in then.slots.items():
        slots[slot] = Slot(held.last_offset, held.rows + (slots[slot].rows if slot in slots else 0))
    came = then.first_received_at
    gaps = [replace(gap, before=gap.before or came) for gap in first.gaps]
    gaps += [replace(gap, after=gap.after or first.last_received_at) for gap in then.gaps]
    return replace(
        first,
        end=then.end,
        rows=first.rows + then.rows,
        rejects=_added(first.rejects, then.rejects),
        gaps=tuple(gaps),
        slots=slots,
        first_received_at=first.first_received_at or came,
        last_received_at=then.last_received_at or first.last_received_at,
        noticed=_added(first.noticed, then.noticed),
        expired=first.expired + then.expired,
        erased={slot: max(first.erased.get(slot, 0), then.erased.get(slot, 0)) for slot in {**first.erased, **then.erased}},
    )


def _added(first: Mapping[str, int], then: Mapping[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + then.get(name, 0) for name in sorted({*first, *then})}
