"""Taking a backup: incremental, safe to kill and run again, while the pipeline runs.

Every object is read once a version. The log is copied before the rest: the list of erased users that ends up in the
backup is then never shorter than the one its raw objects were written under. Raw objects that the archive covers by
now leave the backup when the parts are in it. What the lake lost is never taken away: a backup of a damaged lake must
not do the same damage to the copy.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from engagement.backup import dagster_home
from engagement.backup.manifest import KEY, STATE, STATE_OF_DAGSTER, TABLES, Held, Manifest, Plan, plan
from engagement.errors import PermanentError, UsageError
from engagement.lake import LAKE_JSON, Entry, Lake, LakeFormat, LakeUnavailable, connect
from engagement.model import units
from engagement.progress import Progress
from engagement.raw import log
from engagement.raw.coverage import ARCHIVE
from engagement.raw.names import RAW
from engagement.settings import Settings
from engagement.tables import finality

LOOKS = 5
SMALLEST = 12
"""Bytes of the two marks and the length that any Parquet file has."""
NOTED_EVERY = 256 << 20
"""Bytes after which the manifest is written: a killed backup copies no more than so much again."""


@dataclass(slots=True)
class Report:
    """What a backup did; `lost` are keys that the backup has and the lake has no more."""

    destination: str
    copied_objects: int = 0
    copied_bytes: int = 0
    kept_objects: int = 0
    deleted_objects: int = 0
    state_files: int = 0
    lost: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    """Keys of the lake that are no whole objects; an older copy of them stays in the backup."""


def place(settings: Settings, url: str) -> Lake:
    """The folder or bucket prefix of a backup, as a store of objects."""
    return connect(replace(settings, lake_url=url if "://" in url else str(Path(url).resolve())))


def backup(settings: Settings, destination: str, now: datetime | None = None, progress: Progress = lambda *_: None) -> Report:
    """Bring the backup at `destination` up to the lake and to Dagster's state.

    Raises UsageError where the destination is the lake, PermanentError where it is of another lake or an object cannot
    be read, LakeUnavailable; what was copied until then is not copied again.
    """
    lake, there = connect(settings), place(settings, destination)
    if f"{there.url}/".startswith(f"{lake.url}/") or f"{lake.url}/".startswith(f"{there.url}/"):
        raise UsageError(f"backup {destination}: that is the lake itself, or one lies in the other; name another place")
    work = _Work(lake, there, now or datetime.now(UTC), progress)
    with there.lock("backup"):
        work.require_own()
        for _ in range(LOOKS):
            with suppress(FileNotFoundError):  # archived and expired since the listing
                work.copy()
                break
        else:
            raise LakeUnavailable(f"{lake.url}: objects vanished at each of {LOOKS} looks; run it again")
        work.report.state_files = _state(work, settings)
        work.note(complete=True)
    return work.report


class _Work:
    """One run of it."""

    def __init__(self, lake: Lake, there: Lake, now: datetime, progress: Progress) -> None:
        self.lake, self.there, self.now, self.progress = lake, there, now, progress
        self.report = Report(there.url)
        known = manifest_of(there)
        self.known = known or Manifest()
        self.held = dict(self.known.objects)
        self._unnoted = 0

    def require_own(self) -> None:
        """Raises PermanentError where the destination holds something else, or the lake is none."""
        own = self.lake.read(LAKE_JSON)
        if own is None:
            raise PermanentError(f"there is no lake at {self.lake.url}: nothing to back up, and the backup stays as it is")
        theirs = self.there.read(LAKE_JSON)
        if not self.held and (theirs is not None or next(self.there.list(RAW), None) is not None):
            raise PermanentError(f"{self.there.url} has a lake and no {KEY}: it is no backup of this program; name another place")
        if theirs is not None and not _same_cut(LakeFormat.from_json(own), LakeFormat.from_json(theirs)):
            raise PermanentError(f"{self.there.url} is the backup of a lake that is cut otherwise; name another place")

    def copy(self) -> None:
        """Copy what is new, then take away what is to go; raises FileNotFoundError where an object vanished: look again."""
        wanted, found = self._wanted()
        todo = self._plan(wanted, found)
        if todo.lost and not any(key in wanted for key in self.held if key.startswith((f"{RAW}/", f"{ARCHIVE}/"))):
            raise PermanentError(f"{self.there.url} is the backup of another lake: nothing of its log is in {self.lake.url}")
        self.report.damaged = []
        total, done = sum(entry.size for entry in todo.copy), 0
        self.report.kept_objects = len(wanted) - len(todo.copy)
        for entry in todo.copy:
            self._copy(entry)
            done += entry.size
            self.progress("backup", done, total)
        for key in todo.delete:
            del self.held[key]
        self.note(complete=False)
        for key in todo.delete:
            self.there.delete(key)
        self.report.deleted_objects += len(todo.delete)
        self.report.lost = todo.lost

    def put(self, key: str, data: bytes | memoryview, version: str) -> None:
        """Place an object in the backup."""
        digest = hashlib.sha256(data).hexdigest()
        with self.there.replacing(key):
            self.there.replace(key, data, self.there.stat(key))
        self.held[key] = Held(len(data), digest, version)
        self._unnoted += len(data)
        if self._unnoted >= NOTED_EVERY:
            self.note(complete=False)

    def note(self, *, complete: bool) -> None:
        """Write the manifest."""
        made = Manifest(self.lake.url, self.now.isoformat(timespec="seconds"), complete, self.held)
        with self.there.replacing(KEY):
            self.there.replace(KEY, made.to_json(), self.there.stat(KEY))
        self._unnoted = 0

    def _wanted(self) -> tuple[dict[str, Entry], log.Log]:
        """What a backup holds, by key, in the order in which it is copied; the log first."""
        found = log.look(self.lake)
        final = finality.read(self.lake)
        wanted = {entry.key: entry for entry in (*found.raw, *found.parts)}
        for entry in self.lake.list(""):
            if entry.key.startswith(TABLES):
                if entry.key.endswith(".parquet") and final.is_final(units.day_of_key(entry.key), self.now):
                    wanted[entry.key] = entry
            elif not entry.key.startswith((f"{RAW}/", f"{ARCHIVE}/", f"{STATE}/")) and entry.key != KEY:
                wanted[entry.key] = entry
        return wanted, found

    def _plan(self, wanted: dict[str, Entry], found: log.Log) -> Plan:
        there = {entry.key: entry.size for entry in self.there.list("")}
        return plan(wanted, self.held, there, found.hides)

    def _copy(self, entry: Entry) -> None:
        with bytes_of(self.lake, entry) as data:
            if not _is_whole(entry, data):
                self.report.damaged.append(entry.key)
                return
            self.put(entry.key, data, entry.version)
        self.report.copied_objects += 1
        self.report.copied_bytes += entry.size


def manifest_of(there: Lake) -> Manifest | None:
    """What a backup says of itself; None where there is none."""
    text = there.read(KEY)
    return None if text is None else Manifest.from_json(text)


@contextmanager
def bytes_of(lake: Lake, entry: Entry) -> Iterator[memoryview]:
    """An object's bytes, mapped and not read: a part may have a gigabyte. Raises FileNotFoundError where it is gone."""
    (path,) = lake.local([entry])
    with path.open("rb") as file:
        # Closed by whoever lets go of it last: a Parquet reader may still hold on to it.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)) if entry.size else memoryview(b"")


def _state(work: _Work, settings: Settings) -> int:
    """Copy Dagster's databases that were written to since, each as it is at one moment; returns how many there are."""
    there = {entry.key: entry.size for entry in work.there.list(STATE)}
    found: set[str] = set()
    for file in dagster_home.files(settings):
        key = f"{STATE_OF_DAGSTER}/{file.name}"
        held = work.held.get(key)
        if held is None or held.version != file.version or there.get(key) != held.size:
            try:
                work.put(key, file.read(), file.version)
            except FileNotFoundError:  # a run that was deleted meanwhile
                continue
        found.add(key)
    for key in [key for key in work.held if key.startswith(f"{STATE}/") and key not in found]:
        del work.held[key]
        work.there.delete(key)
    return len(found)


def _same_cut(own: LakeFormat, theirs: LakeFormat) -> bool:
    """Whether the two can be of one lake: the history's start may have been moved."""
    return replace(theirs, history_start=own.history_start) == own


def _is_whole(entry: Entry, data: memoryview) -> bool:
    """Whether a Parquet object ends as one does: a truncated one must not take the place of a good copy."""
    return not entry.key.endswith(".parquet") or (len(data) > SMALLEST and bytes(data[:4]) == bytes(data[-4:]) == b"PAR1")
