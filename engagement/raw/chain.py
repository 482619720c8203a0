"""Offset chaining as plain functions over plain data: where to resume, which record is next (R3).

No clock, no store, no Kafka: `ingest.consumer` and `ingest.importer` call these with what they listed.
"""

from __future__ import annotations

from dataclasses import dataclass

from engagement.errors import PermanentError


@dataclass(frozen=True, slots=True)
class Link:
    """One raw object of a chain: it claims the offsets from `start` (included) to `end` (not included)."""

    start: int
    end: int


class AheadOfLog(PermanentError):
    """The lake is ahead of the broker's log: the log lost records the lake has, or it is another log."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Where to go on: read from `offset`; if the log starts later, first record the gap up to `gap_end`."""

    offset: int
    gap_end: int | None = None


def resume(last: Link | None, low: int, high: int, shown: str) -> Resume:
    """Where a partition goes on, given its last link and the log's range [low, high).

    Raises AheadOfLog where the resume offset lies above the log's end; `shown` names the partition.
    """
    offset = 0 if last is None else last.end
    if offset > high:
        msg = f"{shown}: the lake resumes at offset {offset}, but the log ends at {high}: the broker lost records or is another cluster"
        raise AheadOfLog(msg)
    return Resume(offset, low if low > offset else None)
