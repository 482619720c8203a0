"""A lake in a folder of this machine.

Every put is: temporary file in `.tmp/`, fsync, link or rename, fsync of the folder. `.tmp/` is outside every table's
folder, so that no glob of a reader sees half an object.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, BinaryIO

from engagement.lake import leftovers
from engagement.lake.entry import TEMP_FOLDER, Entry
from engagement.lake.interface import LOCK_FOLDER, AlreadyExists, Changed, Lake, LakeUnavailable, LeftOver, OutcomeUnknown

_temporaries = itertools.count()
"""Tells temporary files of one process apart, whatever opened the lake."""


class LocalLake(Lake):
    """A lake in a local folder.

    Every method raises LakeUnavailable when the file system refuses (full, read-only, gone).
    """

    def __init__(self, root: Path) -> None:
        self.root = self.folder = root
        self.url = str(root)

    def path(self, key: str) -> Path:
        """Where the object lies."""
        return self.root / key

    def local(self, entries: Iterable[Entry]) -> Sequence[Path]:
        """As Lake.local: the objects themselves."""
        return [self.root / entry.key for entry in entries]

    def list(self, prefix: str, after: str | None = None) -> Iterator[Entry]:
        """As Lake.list."""
        prefix = prefix.rstrip("/")
        yield from self._walk(self.root / prefix, f"{prefix}/" if prefix else "", after or "")

    def _walk(self, folder: Path, prefix: str, after: str) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                # A folder's place among the keys is that of its name with the slash.
                entries = sorted((entry.name + "/" if entry.is_dir() else entry.name, entry) for entry in found)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _unavailable(error, folder) from error
        for name, entry in entries:
            key = prefix + name
            if key.startswith(".") and not prefix:
                continue
            if name.endswith("/"):
                if key > after or after.startswith(key):
                    yield from self._walk(folder / entry.name, key, after)
            elif key > after:
                with contextlib.suppress(FileNotFoundError):
                    yield _entry(key, entry.stat())

    def folders(self, prefix: str) -> Sequence[str]:
        """As Lake.folders; a folder that lost its last object counts too."""
        try:
            with os.scandir(self.root / prefix) as found:
                return sorted(entry.name for entry in found if entry.is_dir() and (prefix or not entry.name.startswith(".")))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _unavailable(error, self.root / prefix) from error

    def stat(self, key: str) -> Entry | None:
        """As Lake.stat."""
        try:
            return _entry(key, self.path(key).stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error

    def read(self, key: str) -> bytes | None:
        """As Lake.read."""
        try:
            return self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error

    def open(self, key: str) -> BinaryIO:
        """As Lake.open: an open file keeps showing the version it was opened at."""
        try:
            return self.path(key).open("rb")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error

    def open_version(self, entry: Entry) -> BinaryIO:
        """As Lake.open_version."""
        file = self.open(entry.key)
        if _entry(entry.key, os.fstat(file.fileno())) != entry:
            file.close()
            raise FileNotFoundError(self.path(entry.key))
        return file

    def put_new(self, key: str, data: bytes | memoryview) -> Entry:
        """As Lake.put_new; of those who link at once one wins."""
        with self._temporary(key, data) as temp:
            return self._linked(temp, key)

    @contextlib.contextmanager
    def creating(self, key: str) -> Iterator[IO[bytes]]:
        """As Lake.creating; the bytes lie in a temporary file until then."""
        with self._temporary(key, b"") as temp:
            with temp.open("ab") as handle:
                yield handle
                handle.flush()
                os.fsync(handle.fileno())
            self._linked(temp, key)

    def written_at(self, key: str) -> datetime | None:
        """As Lake.written_at: when the file got its name, which no writer can set and every later change puts forward."""
        try:
            return datetime.fromtimestamp(self.path(key).stat().st_ctime, UTC)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def clock(self) -> datetime:
        """As Lake.clock: a folder may lie on another machine, so a file is written to see what time it gets."""
        with self._temporary("clock", b"") as temp:
            return datetime.fromtimestamp(temp.stat().st_ctime, UTC)

    def replace(self, key: str, data: bytes | memoryview, expected: Entry | None) -> Entry:
        """As Lake.replace. A file system cannot compare and rename in one step: only `replacing` makes this safe."""
        found = self.stat(key)
        if found != expected:
            msg = f"{key} was replaced by another writer"
            raise Changed(msg)
        with self._temporary(key, data) as temp:
            temp.rename(self.path(key))
            return self._published(key)

    def delete(self, key: str) -> None:
        """As Lake.delete."""
        self.path(key).unlink(missing_ok=True)

    def replacing(self, key: str) -> contextlib.AbstractContextManager[None]:
        """As Lake.replacing: the key's lock, held from listing to rename (R4)."""
        return self.lock(key)

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[None]:
        """As Lake.lock; the kernel frees it when the process ends."""
        path = self.root / LOCK_FOLDER / (name.replace("/", "~") + ".lock")
        with _locked(path):
            yield

    def left_overs(self, now: datetime, older_than: timedelta, *, remove: bool) -> Iterator[LeftOver]:
        """As Lake.left_overs."""
        try:
            yield from leftovers.find(self.root, now, older_than, remove=remove)
        except OSError as error:
            raise _unavailable(error, self.root) from error

    def prune(self, folder: str) -> None:
        """As Lake.prune."""
        leftovers.prune(self.root, folder)

    @contextlib.contextmanager
    def _temporary(self, key: str, data: bytes | memoryview) -> Iterator[Path]:
        """`data` durably in a temporary file, gone afterwards; the folder of `key` exists inside."""
        temp = self.root / TEMP_FOLDER / f"{os.getpid()}-{next(_temporaries)}-{key.replace('/', '~')[-180:]}"
        try:
            temp.parent.mkdir(parents=True, exist_ok=True)
            _make_folders(self.path(key).parent)
            with temp.open("wb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)  # until the end, so that nobody sweeps it away (`leftovers`)
                self._fill(handle, data)
                yield temp
        except OSError as error:
            raise _unavailable(error, self.path(key)) from error
        finally:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)

    def _linked(self, temp: Path, key: str) -> Entry:
        """Give the temporary file its name, if that is free."""
        try:
            os.link(temp, self.path(key))
        except FileExistsError as error:
            msg = f"{key} exists already"
            raise AlreadyExists(msg) from error
        try:
            return self._published(key)
        except OSError as error:  # readers see it, but nobody knows whether it survives a power cut
            raise OutcomeUnknown(f"{self.path(key)}: {error.strerror or error}") from error

    def _fill(self, handle: IO[bytes], data: bytes | memoryview) -> None:
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())

    def _published(self, key: str) -> Entry:
        _fsync_folder(self.path(key).parent)
        return _entry(key, self.path(key).stat())


def _locked(path: Path) -> IO[str]:
    """The file of this name, locked; made anew where it was swept away before the lock was had."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            handle = path.open("w")
            fcntl.flock(handle, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(handle.fileno()).st_ino:
                    return handle
            handle.close()
    except OSError as error:
        raise _unavailable(error, path) from error


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
