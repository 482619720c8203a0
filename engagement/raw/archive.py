"""The archive writer: raw objects of closed ingest hours become immutable parts (R5).

A part is created only if its name is free, and the name says how many parts of that day its writer had seen: who saw fewer
covers what another one has covered, finds the name taken, and looks again. So two writers may run at once, and one that is
killed leaves nothing but a temporary file. The erasure list is read after the archive was listed, objects are read in the
version that was listed. Which objects go together is decided in `choosing`, their rows are copied in `compaction`; raw objects
are deleted in `expiry` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from engagement.errors import PermanentError
from engagement.lake import LAKE_JSON, AlreadyExists, Changed, Lake, LakeFormat
from engagement.progress import Progress, silent
from engagement.raw import choosing, compaction
from engagement.raw.choosing import Planned
from engagement.raw.coverage import Archive, Part, PartName
from engagement.raw.erasures import ErasureList
from engagement.raw.index import RawIndex
from engagement.raw.ranges import UnreadableObject

LOOKS = 10
"""Looks at the lake in a row that may find it changed under the writer's hands."""


@dataclass(frozen=True, slots=True)
class Written:
    """A part that was written, or in a dry run would be; sizes in bytes, `bytes_out` 0 in a dry run."""

    name: PartName
    objects: int
    rows: int
    bytes_in: int
    bytes_out: int
    erased: int = 0
    """Rows of erased users that became `erased` rows on the way."""
    offsets: Mapping[str, int] = field(default_factory=dict)
    """Chain label -> end of the last range in it."""
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one run of the archive writer did. `problems` are lines for people: what was left alone, and why."""

    parts: tuple[Written, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def objects(self) -> int:
        """Raw objects that are covered now and were not before."""
        return sum(part.objects for part in self.parts)

    @property
    def rows(self) -> int:
        """Their rows."""
        return sum(part.rows for part in self.parts)

    @property
    def bytes_in(self) -> int:
        """Their bytes."""
        return sum(part.bytes_in for part in self.parts)

    @property
    def bytes_out(self) -> int:
        """Bytes of the parts."""
        return sum(part.bytes_out for part in self.parts)


def archive(
    lake: Lake, *, now: datetime, after: timedelta, index: RawIndex | None = None, hash_keys: Sequence[bytes] = (),
    dry_run: bool = False, part_bytes: int = choosing.PART_BYTES, progress: Progress = silent,
) -> Report:  # fmt: skip
    """Write every part that can be written now; `after` is how long after its end an hour is closed (0: all that is there).

    Without an index all footers are read anew. A topic with a part that cannot be read is left alone, for nobody knows what that
    part covers; so is a raw object that cannot be read. Raises LakeUnavailable, and what `erasures.read` raises.
    """
    if index is not None:
        return Run(lake, index, hash_keys, now, after, part_bytes, progress).all(dry_run=dry_run)
    index = RawIndex(lake)
    try:
        return Run(lake, index, hash_keys, now, after, part_bytes, progress).all(dry_run=dry_run)
    finally:
        index.close()


class Run:
    """One run: looks, writes the first part that is due, looks again. `look` and `write` are its steps, each for itself."""

    def __init__(
        self, lake: Lake, index: RawIndex, hash_keys: Sequence[bytes], now: datetime, after: timedelta, part_bytes: int, progress: Progress
    ) -> None:
        self._lake, self._index, self._progress = lake, index, progress
        self._erasures = ErasureList(lake, hash_keys)
        self._slot_minutes = LakeFormat.from_json(lake.read(LAKE_JSON) or b"").slot_minutes
        self._now, self._after, self._part_bytes = now, after, part_bytes
        self._covered: set[str] = set()
        """Raw objects that this run has covered."""
        self._problems: dict[str, str] = {}
        """Key -> why it is left alone."""

    def all(self, *, dry_run: bool) -> Report:
        """Everything that is due, part by part."""
        written: list[Written] = []
        done, turned = 0, 0
        while True:
            due, seen = self.look()
            total = done + sum(planned.size for planned in due)
            if dry_run:
                written = [self._would_write(planned, seen) for planned in due]
                break
            if not due:
                break
            self._progress("archive", done, total)
            troubles = len(self._problems)
            found = self.write(due[0], seen)
            if found is None:
                turned += len(self._problems) == troubles
                if turned == LOOKS:
                    self._problems[due[0].topic] = f"other writers changed the lake at each of {LOOKS} looks; the next run goes on"
                    break
                continue
            turned = 0
            written.append(found)
            done += found.bytes_in
        return Report(tuple(written), tuple(f"{key}: {why}" for key, why in sorted(self._problems.items())))

    def look(self) -> tuple[list[Planned], Mapping[tuple[str, date], int]]:
        """The parts that are due, and how many parts each topic and day has: of one moment, raw listed first."""
        self._index.sync()
        with self._index.snapshot():
            archive = self._index.archive()
            files = self._index.uncovered()
        dark = self._dark(archive)
        bright = [raw for raw in files if raw.chain.topic not in dark and raw.key not in self._problems]
        seen, broken = _numbers(archive)
        for name in broken:
            self._problems[name.key] = "is the first of its day that is missing: restore it, nobody knows what it covered"
        due = choosing.plan(bright, self._now, self._after, self._part_bytes)
        return [planned for planned in due if (planned.topic, planned.day) not in {(name.topic, name.day) for name in broken}], seen

    def _dark(self, archive: Archive) -> set[str]:
        """Topics with a part that cannot be read."""
        self._problems |= {key: f"its topic is not archived: {why}" for key, why in archive.unreadable.items()}
        return {name.topic for key in archive.unreadable if (name := PartName.parse(key))}

    def _would_write(self, planned: Planned, seen: Mapping[tuple[str, date], int]) -> Written:
        name = PartName(planned.topic, planned.day, seen.get((planned.topic, planned.day), 0))
        return Written(name, len(planned.files), sum(raw.rows for raw in planned.files), planned.size, 0)

    def write(self, planned: Planned, seen: Mapping[tuple[str, date], int]) -> Written | None:
        """Publish one part; None where the lake has to be looked at again."""
        would = self._would_write(planned, seen)
        if again := self._covered & {raw.key for raw in planned.files}:
            msg = f"{min(again)} is in a part of this run and is due again: the store does not show what was written to it"
            raise PermanentError(msg)
        erasures = self._erasures.read()  # after the archive was listed, before any row is read
        try:
            with self._lake.creating(would.name.key) as sink:
                part = compaction.compact(self._lake, planned.files, erasures, self._slot_minutes, sink)
                size = sink.tell()
        except (AlreadyExists, Changed):
            return None
        except UnreadableObject as error:
            self._problems[error.key] = str(error).removeprefix(f"{error.key} ")
            return None
        self._covered |= {raw.key for raw in planned.files}
        return _told(would, part, size, sum(raw.rejects.get("erased", 0) for raw in planned.files))


def _told(would: Written, part: Part, size: int, erased_before: int) -> Written:
    ranges = [item for found in part.ranges.values() for item in found]
    return Written(
        would.name, would.objects, sum(item.rows for item in ranges), would.bytes_in, size,
        erased=sum(item.rejects.get("erased", 0) for item in ranges) - erased_before,
        offsets={label: found[-1].end for label, found in part.ranges.items()},
        first_received_at=min((item.first_received_at for item in ranges if item.first_received_at), default=None),
        last_received_at=max((item.last_received_at for item in ranges if item.last_received_at), default=None),
    )  # fmt: skip


def _numbers(archive: Archive) -> tuple[dict[tuple[str, date], int], list[PartName]]:
    """How many parts each topic and day has, and the first missing one of each day that lacks one."""
    days: dict[tuple[str, date], set[int]] = {}
    for key in [*archive.unreadable, *(entry.key for entry in archive.entries)]:
        if name := PartName.parse(key):
            days.setdefault((name.topic, name.day), set()).add(name.number)
    counts = {day: len(numbers) for day, numbers in days.items()}
    broken = [PartName(*day, min(set(range(len(numbers))) - numbers)) for day, numbers in days.items() if max(numbers) >= len(numbers)]
    return counts, broken
