"""Raw expiry: the only deletion of raw objects (R3, R5).

An object may go if its start is covered by a part that has been there for a grace, and a greater start exists in its chain,
for that is where the chain goes on. Age is told by the store's own clock against the store's own stamp of the part, never by
what a writer says or by this machine's clock; erasure rewrites parts, which begins their grace anew. All of it is proven
again just before the deletion, and a part is read whole before the first object that it stands for is deleted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from engagement.lake import Entry, Lake
from engagement.progress import Progress, silent
from engagement.raw import coverage, damage
from engagement.raw.chain import NO_COVERAGE, Coverage
from engagement.raw.coverage import Part, UnreadablePart
from engagement.raw.index import RawIndex
from engagement.raw.names import Chain, parse_key


@dataclass(frozen=True, slots=True)
class Report:
    """What one run deleted, or in a dry run would delete; `problems` are lines for people: what was left alone, and why."""

    deleted: tuple[Entry, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def objects(self) -> int:
        """Raw objects."""
        return len(self.deleted)

    @property
    def bytes(self) -> int:
        """Their bytes."""
        return sum(entry.size for entry in self.deleted)


def expire(
    lake: Lake, *, grace: timedelta, now: datetime | None = None, index: RawIndex | None = None, dry_run: bool = False,
    progress: Progress = silent,
) -> Report:  # fmt: skip
    """Delete every raw object that may go. `now` is the time by the store's own clock, which is asked where it is not given.

    Without an index all footers are read anew. A part that cannot be read lets nothing go. Raises LakeUnavailable.
    """
    now = now or lake.clock()
    if index is not None:
        return _Run(lake, index, grace, now, progress).all(dry_run=dry_run)
    index = RawIndex(lake)
    try:
        return _Run(lake, index, grace, now, progress).all(dry_run=dry_run)
    finally:
        index.close()


class _Run:
    """One run over all chains."""

    def __init__(self, lake: Lake, index: RawIndex, grace: timedelta, now: datetime, progress: Progress) -> None:
        self._lake, self._index, self._grace, self._now, self._progress = lake, index, grace, now, progress
        self._problems: dict[str, str] = {}
        self._parts: dict[Entry, Part | None] = {}
        """Parts that were asked before: what they cover; None where they let nothing go."""
        self._whole: dict[Entry, str | None] = {}
        """Parts that were read whole: why they do not hold what they say."""

    def all(self, *, dry_run: bool) -> Report:
        due = self._due()
        total = sum(map(len, due.values()))
        deleted: list[Entry] = []
        for (chain, entry), found in due.items():
            deleted += found if dry_run else self._delete(chain, entry, found)
            self._progress("raw expiry", len(deleted), total)
        return Report(tuple(deleted), tuple(f"{key}: nothing that it covers is deleted: {why}" for key, why in self._problems.items()))

    def _due(self) -> Mapping[tuple[Chain, Entry], list[Entry]]:
        """What may go by what the index knows, by its chain and the part that stands for it."""
        self._index.sync()
        with self._index.snapshot():
            archive = self._index.archive()
            starts = {raw.entry: (raw.chain, raw.start) for raw in self._index.files()}
        self._problems |= archive.unreadable
        covering: dict[str, list[tuple[Entry, Coverage]]] = {}
        for entry, part in zip(archive.entries, archive.parts, strict=True):
            for label, ranges in part.ranges.items():
                covering.setdefault(label, []).append((entry, Coverage.of(item.link for item in ranges)))
        last: dict[Chain, int] = {}
        for chain, start in starts.values():
            last[chain] = max(start, last.get(chain, 0))
        due: dict[tuple[Chain, Entry], list[Entry]] = {}
        for entry, (chain, start) in starts.items():
            for part_entry, covered in covering.get(chain.label, ()):
                if start < last[chain] and covered.holds(start) and self._is_old(part_entry):
                    due.setdefault((chain, part_entry), []).append(entry)
                    break
        return due

    def _is_old(self, entry: Entry) -> bool:
        """Whether the part's grace is over."""
        if entry not in self._parts:
            self._parts[entry] = self._proven(entry)
        return self._parts[entry] is not None

    def _proven(self, entry: Entry) -> Part | None:
        """The part as its footer tells it now, if its grace is over and it still is this version."""
        written = self._lake.written_at(entry.key)
        if entry.key in self._problems or written is None or self._now - written < self._grace:
            return None
        try:
            part = coverage.read_part(self._lake, entry.key)
        except FileNotFoundError:
            return None
        except UnreadablePart as error:
            self._problems[entry.key] = str(error)
            return None
        return part if self._lake.stat(entry.key) == entry else None

    def _delete(self, chain: Chain, held: Entry, due: Sequence[Entry]) -> list[Entry]:
        """Delete these objects of a chain, which the part stands for; all is proven again first."""
        before, part = self._parts[held], self._proven(held)
        last = max((parsed[1] for entry in self._lake.list(chain.folder) if (parsed := parse_key(entry.key))), default=0)
        if part is None or part != before or not self._is_whole(held, part):
            return []
        covered = Coverage.of(item.link for item in part.ranges[chain.label]) if chain.label in part.ranges else NO_COVERAGE
        deleted = []
        for entry in due:
            parsed = parse_key(entry.key)
            if parsed and parsed[1] < last and covered.holds(parsed[1]):
                self._lake.delete(entry.key)
                deleted.append(entry)
        return deleted

    def _is_whole(self, held: Entry, part: Part) -> bool:
        """Whether every byte of the part can be read; asked once a run."""
        if held not in self._whole:
            self._whole[held] = damage.of_part(self._lake, held, part)
            if why := self._whole[held]:
                self._problems[held.key] = why
        return self._whole[held] is None
