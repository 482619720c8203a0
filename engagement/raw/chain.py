"""Offset chaining as plain functions over plain data: where to resume, what readers see (R2, R3, R5).

No clock, no store, no Kafka: `ingest.protocol`, `ingest.importer` and the audit call these with what was listed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

from engagement.errors import PermanentError


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """One raw object of a chain: it claims the offsets from `start` (included) to `end` (not included)."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Coverage:
    """What archive parts hold of one chain: the ranges of whole raw objects, never min..max (R5).

    `ranges` are in order and do not overlap; `of` sees to it.
    """

    ranges: tuple[Link, ...] = ()

    @staticmethod
    def of(ranges: Iterable[Link]) -> Coverage:
        """The coverage of these ranges, in any order; only a broken archive has ranges that overlap."""
        found: list[Link] = []
        for link in sorted(ranges):
            if found and link.start < found[-1].end:
                found[-1] = Link(found[-1].start, max(found[-1].end, link.end))
            else:
                found.append(link)
        return Coverage(tuple(found))

    def holds(self, start: int) -> bool:
        """Whether a raw object of this start lies in a covered range: readers ignore it."""
        return self.behind(start) > start

    def behind(self, offset: int) -> int:
        """The first offset from here on that no range holds."""
        place = bisect_right(self.ranges, offset, key=lambda link: link.start)
        while place > 0 and offset < (end := self.ranges[place - 1].end):
            offset = end
            place = bisect_right(self.ranges, offset, key=lambda link: link.start)
        return offset

    @property
    def end(self) -> int | None:
        """The greatest end, None where nothing is covered."""
        return max((link.end for link in self.ranges), default=None)


NO_COVERAGE = Coverage()


class AheadOfLog(PermanentError):
    """The lake is ahead of the broker's log: the log lost records the lake has, or it is another log."""


def resume(last: Link | None, coverage: Coverage) -> int:
    """Where a chain goes on (R3): the end of the object with the greatest start, else of the coverage, else 0.

    Never at an offset that is archived already: a listing is no snapshot, and may miss both an object that was just
    deleted and the one that came just before the deletion.
    """
    return coverage.behind(last.end if last is not None else coverage.end or 0)


def gap(offset: int, low: int, high: int) -> Link | None:
    """What the log [low, high) no longer holds of a chain that goes on at `offset`, None where all is there.

    Raises AheadOfLog where the offset lies above the log's end.
    """
    if offset > high:
        msg = f"the lake resumes at offset {offset}, but the log ends at {high}: the broker lost records or is another cluster"
        raise AheadOfLog(msg)
    return Link(offset, low) if low > offset else None


def visible(links: Iterable[Link], coverage: Coverage) -> list[Link]:
    """The raw objects that readers see, by start: a start inside the coverage was archived (R5)."""
    return sorted(link for link in links if not coverage.holds(link.start))
