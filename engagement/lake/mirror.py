"""Objects of a distant lake as files of this machine, for readers that need files. A cache: delete it when you like.

A file holds one version of one object, is named by both and never changes; its folders are the object's, so that path
keys (`year=…`) still parse. It gets its name when it is whole, so that processes may share a mirror. When there are more
bytes than wished, the files used longest ago go first; none goes that was handed out within `KEEP_SECONDS`, for whoever
got it may open it yet.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO

from engagement.errors import PermanentError
from engagement.lake.entry import TEMP_FOLDER, Entry
from engagement.lake.interface import LakeUnavailable

KEEP_SECONDS = 3600.0
_PLAIN = re.compile(r"[0-9A-Za-z-]{1,64}")
_temporaries = itertools.count()
Download = Callable[[Entry], "tuple[Entry, Iterator[bytes]] | None"]
"""The object as it is now (perhaps of a newer version) in pieces; None where it is gone."""


class Mirror:
    """Files below one folder, bounded in bytes."""

    def __init__(self, folder: Path, limit: int, clock: Callable[[], float] = time.time) -> None:
        self.folder, self._limit, self._clock = folder, limit, clock
        self._since_swept: int | None = None
        """Bytes written since this process last looked at the whole mirror; None: it never did."""

    def path(self, entry: Entry) -> Path:
        """Where this version of the object lies, or would."""
        version = entry.version if _PLAIN.fullmatch(entry.version) else hashlib.sha256(entry.version.encode()).hexdigest()[:32]
        key = PurePosixPath(entry.key)
        if key.is_absolute() or ".." in key.parts:
            raise PermanentError(f"{entry.key}: a key that leads out of the lake")
        return self.folder / key.parent / f"{key.stem}.{version}{key.suffix}"

    def files(self, entries: Sequence[Entry], download: Download, at_once: int) -> list[Path]:
        """A file for each, in this order; brings what is missing, many at once. Of what is gone the file does not exist."""
        found = [self.path(entry) for entry in entries]
        missing = {path: number for number, path in enumerate(found) if not self._use(path)}
        if missing:
            with ThreadPoolExecutor(min(at_once, len(missing))) as pool:
                brought = pool.map(lambda number: self._bring(entries[number], download), missing.values())
                for number, path in zip(missing.values(), brought, strict=True):
                    found[number] = path
        return found

    def _use(self, path: Path) -> bool:
        """Whether the file is there; if so it counts as used now."""
        try:
            os.utime(path, (self._clock(),) * 2)
        except FileNotFoundError:
            return False
        return True

    def _bring(self, entry: Entry, download: Download) -> Path:
        got = download(entry)
        if got is None:
            return self.path(entry)
        now, pieces = got
        path = self.path(now)
        with self.temporary() as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            if file.tell() != now.size:
                raise LakeUnavailable(f"{entry.key}: {file.tell()} of {now.size} bytes came")
            path.parent.mkdir(parents=True, exist_ok=True)
            os.utime(file.fileno(), (self._clock(),) * 2)
            Path(file.name).rename(path)
        self._grown(now.size)
        return path

    @contextlib.contextmanager
    def temporary(self) -> Iterator[IO[bytes]]:
        """A file for a while, outside of every folder that readers see."""
        temp = self.folder / TEMP_FOLDER / f"{os.getpid()}-{next(_temporaries)}"
        temp.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temp.open("w+b") as file:
                yield file
        finally:
            temp.unlink(missing_ok=True)

    def _grown(self, size: int) -> None:
        if self._since_swept is None or self._since_swept > self._limit // 16:
            self._since_swept = 0
            self.sweep()
        self._since_swept += size

    def sweep(self) -> int:
        """Delete what was used longest ago until the bytes are within the limit; returns the bytes freed."""
        now = self._clock()
        found = sorted(_files(self.folder))
        excess = sum(size for _, size, _ in found) - self._limit
        freed = 0
        for used, size, path in found:
            if used > now - KEEP_SECONDS or (freed >= excess and TEMP_FOLDER not in path.parts):
                continue
            path.unlink(missing_ok=True)
            freed += size
        return freed


def _files(folder: Path) -> Iterator[tuple[float, int, Path]]:
    """(last use, bytes, path) of every file; what another process deletes meanwhile is left out."""
    for path in folder.rglob("*"):
        try:
            stat = path.stat()
        except FileNotFoundError:
            continue
        if path.is_file():
            yield stat.st_mtime, stat.st_size, path
