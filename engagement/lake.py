"""The lake: a folder of immutable or wholly replaced objects, and `lake.json`, which says how it is cut.

Four operations, the same for every store: list, read, put if absent (R2), replace whole if unchanged
(R4). A key is a slash-separated path relative to the lake. What is *in* the objects is not known here.

Locally every put is: temporary file in `.tmp/`, fsync, link or rename, fsync of the folder. `.tmp/` is
outside every table's folder, so that no glob of a reader sees half an object.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import IO

from engagement.errors import EngagementError, PermanentError, TransientError
from engagement.settings import Settings

FORMAT_VERSION = 1
LAKE_JSON = "lake.json"
TEMP_FOLDER = ".tmp"
LOCK_FOLDER = ".locks"
_temporaries = itertools.count()
"""Tells temporary files of one process apart, whatever opened the lake."""


class AlreadyExists(EngagementError):
    """Put-if-absent found the name taken: another writer made the same claim first (R2)."""


class Changed(EngagementError):
    """The object was replaced by somebody else since its version was noted (R4): start over."""


class LakeUnavailable(TransientError):
    """The store cannot be read or written now; the text says which path and why."""


class OutcomeUnknown(LakeUnavailable):
    """The object may or may not have been published: look at the lake before going on (R3)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it. `version` changes whenever the object is replaced."""

    key: str
    size: int
    version: str


@dataclass(frozen=True, slots=True)
class LakeFormat:
    """Contents of `lake.json` (R10): what a lake is cut by, fixed for its life except `history_start`."""

    format_version: int
    slot_minutes: int
    session_gap_seconds: int
    session_mode: str
    history_start: date

    @property
    def gap_us(self) -> int:
        """Session gap in microseconds."""
        return self.session_gap_seconds * 1_000_000

    def to_json(self) -> bytes:
        """The text of `lake.json`."""
        return (json.dumps(asdict(self) | {"history_start": self.history_start.isoformat()}, indent=2) + "\n").encode()

    @staticmethod
    def from_json(text: bytes) -> LakeFormat:
        """Read `lake.json`; raises PermanentError for a lake of newer or unreadable format."""
        try:
            raw = json.loads(text)
            version = int(raw["format_version"])
            if version > FORMAT_VERSION:
                msg = f"the lake has format {version}, this code knows {FORMAT_VERSION}: update the code"
                raise PermanentError(msg)
            return LakeFormat(
                version, int(raw["slot_minutes"]), int(raw["session_gap_seconds"]), str(raw["session_mode"]),
                date.fromisoformat(raw["history_start"]),
            )  # fmt: skip
        except (KeyError, ValueError, TypeError) as error:
            msg = f"{LAKE_JSON} is not readable ({error}); it was not written by this program"
            raise PermanentError(msg) from error


class Lake:
    """A lake in a local folder.

    Every method raises LakeUnavailable when the file system refuses (full, read-only, gone).
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        """Where the object lies; readers such as DuckDB open it there."""
        return self.root / key

    def local(self, entries: Iterable[Entry]) -> Sequence[Path]:
        """Files of this machine that hold these objects, in this order, for readers that need a file (DuckDB, pyarrow).

        A file whose object was deleted since it was listed is not there; one that was replaced holds the old or the new bytes.
        """
        return [self.root / entry.key for entry in entries]

    def list(self, prefix: str) -> Iterator[Entry]:
        """Every object under a folder, in key order; nothing where the folder does not exist."""
        yield from self._walk(self.root / prefix, prefix.rstrip("/"))

    def _walk(self, folder: Path, key: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unavailable(error, folder) from error
        for entry in entries:
            name = f"{key}/{entry.name}"
            if entry.is_dir():
                yield from self._walk(folder / entry.name, name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    yield _entry(name, entry.stat())

    def stat(self, key: str) -> Entry | None:
        """The object's size and version, or None where there is none."""
        try:
            return _entry(key, self.path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error

    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error

    def put_new(self, key: str, data: bytes | memoryview) -> Entry:
        """Create the object, whole and durable, only if the name is free; raises AlreadyExists, OutcomeUnknown."""
        with self._temporary(key, data) as temp:
            try:
                os.link(temp, self.path(key))
            except FileExistsError as error:
                msg = f"{key} exists already"
                raise AlreadyExists(msg) from error
            try:
                return self._published(key)
            except OSError as error:  # readers see it, but nobody knows whether it survives a power cut
                raise OutcomeUnknown(f"{self.path(key)}: {error.strerror or error}") from error

    def replace(self, key: str, data: bytes | memoryview, expected: Entry | None) -> Entry:
        """Replace the object whole, only if it still is the one noted in `expected` (None: still absent).

        Locally the comparison is safe only inside `lock` on the same key; raises Changed.
        """
        found = self.stat(key)
        if found != expected:
            msg = f"{key} was replaced by another writer"
            raise Changed(msg)
        with self._temporary(key, data) as temp:
            temp.rename(self.path(key))
            return self._published(key)

    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""
        self.path(key).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """Hold the lake-wide lock of this name; blocks until it is free, falls with the process."""
        path = self.root / LOCK_FOLDER / (name.replace("/", "~") + ".lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = path.open("w")
        except OSError as error:
            raise _unavailable(error, path) from error
        with handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def _temporary(self, key: str, data: bytes | memoryview) -> Iterator[Path]:
        """`data` durably in a temporary file, gone afterwards; the folder of `key` exists inside."""
        temp = self.root / TEMP_FOLDER / f"{os.getpid()}-{next(_temporaries)}-{key.replace('/', '~')[-180:]}"
        try:
            temp.parent.mkdir(parents=True, exist_ok=True)
            _make_folders(self.path(key).parent)
            with temp.open("wb") as handle:
                self._fill(handle, data)
            yield temp
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)

    def _fill(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())

    def _published(self, key: str) -> Entry:
        _fsync_folder(self.path(key).parent)
        return _entry(key, self.path(key).stat())


def open_lake(settings: Settings) -> tuple[Lake, LakeFormat]:
    """The lake of these settings, created when it is new, with what its `lake.json` says.

    Raises PermanentError where a setting that is fixed for the life of a lake differs from it,
    LakeUnavailable where the folder cannot be written.
    """
    lake = Lake(settings.lake_path)
    wanted = LakeFormat(FORMAT_VERSION, settings.slot_minutes, settings.session_gap_seconds, settings.session_mode, settings.history_start)
    text = lake.read(LAKE_JSON)
    if text is None:
        with contextlib.suppress(AlreadyExists):
            lake.put_new(LAKE_JSON, wanted.to_json())
        text = lake.read(LAKE_JSON) or b""
    found = LakeFormat.from_json(text)
    for name in ("slot_minutes", "session_gap_seconds", "session_mode"):
        if name in settings.sources and getattr(found, name) != getattr(wanted, name):
            msg = (
                f"ENGAGEMENT_{name.upper()}={getattr(wanted, name)} but the lake {settings.lake_url} was made with "
                f"{getattr(found, name)}, which is fixed for its life: unset it, or name a new lake"
            )
            raise PermanentError(msg)
    if "history_start" in settings.sources and wanted.history_start != found.history_start:
        found = _move_history_start(lake, found, wanted.history_start)
    return lake, found


def require_lake(settings: Settings) -> None:
    """Raises PermanentError where there is no lake yet: a command that only reads must not make one of a mistyped path."""
    if not (settings.lake_path / LAKE_JSON).exists():
        msg = f"there is no lake at {settings.lake_url} (ENGAGEMENT_LAKE_URL); `engagement demo`, `ingest` or `import` makes one"
        raise PermanentError(msg)


def _move_history_start(lake: Lake, found: LakeFormat, start: date) -> LakeFormat:
    if start > found.history_start:
        msg = f"ENGAGEMENT_HISTORY_START={start} is after the lake's own {found.history_start}: it may only be moved back"
        raise PermanentError(msg)
    with lake.lock(LAKE_JSON):
        entry = lake.stat(LAKE_JSON)
        found = LakeFormat.from_json(lake.read(LAKE_JSON) or b"")
        if start < found.history_start:
            found = replace(found, history_start=start)
            lake.replace(LAKE_JSON, found.to_json(), entry)
    return found


def _entry(key: str, stat: os.stat_result) -> Entry:
    return Entry(key, stat.st_size, f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}")


def _unavailable(error: OSError, path: Path) -> LakeUnavailable:
    return LakeUnavailable(f"{path}: {error.strerror or error}")


def _make_folders(folder: Path) -> None:
    """Make the folder and sync every parent that gained an entry, so that it survives a power cut."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        _fsync_folder(new.parent)


def _fsync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
