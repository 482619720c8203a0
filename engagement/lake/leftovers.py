"""What dead writers leave in a local lake: temporary files, lock files that nobody holds, folders without objects.

A living writer keeps a lock of the kernel on its temporary file and on its lock file, and the lock falls with the
process; so what can be locked here belongs to nobody, whatever the host or the process id that made it. Age alone would
take the file of a writer that stands still (a laptop that slept), a process id that of one on another machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from engagement.lake.entry import TEMP_FOLDER
from engagement.lake.interface import LOCK_FOLDER, LeftOver


def find(root: Path, now: datetime, older_than: timedelta, *, remove: bool) -> Iterator[LeftOver]:
    """Temporary and lock files that nobody holds and nobody touched for so long; `remove` takes them away."""
    for folder in (TEMP_FOLDER, LOCK_FOLDER):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            for path in sorted((root / folder).iterdir()):
                found = _taken(path, now - older_than, remove)
                if found is not None:
                    yield LeftOver(f"{folder}/{path.name}", found)


def prune(root: Path, folder: str) -> None:
    """Remove a folder in which no object is, and each folder above it that is empty then; no error where it has objects."""
    with contextlib.suppress(OSError):
        for path, _, _ in os.walk(root / folder, topdown=False):
            Path(path).rmdir()
        for above in (root / folder).parents:
            if above == root:
                break
            above.rmdir()


def _taken(path: Path, before: datetime, remove: bool) -> int | None:
    """The file's size where it is nobody's, None where somebody may still want it."""
    try:
        with path.open("rb") as handle:
            state = os.fstat(handle.fileno())
            if state.st_mtime >= before.timestamp():  # its writer may not have come to lock it yet
                return None
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if remove:  # while it is held: who waits for a lock file sees that it went (`LocalLake.lock`)
                path.unlink(missing_ok=True)
            return state.st_size
    except (BlockingIOError, FileNotFoundError, IsADirectoryError):
        return None
