"""Dagster's state on one machine: its SQLite databases, copied while Dagster runs, and put into a fresh home.

Runs, materializations, checks and the sensor's state are there; what the runs printed (compute logs) is not copied.
A home whose storage is PostgreSQL has no such files: that database has tools of its own. Nothing here imports dagster.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from engagement.errors import PermanentError, TransientError
from engagement.settings import Settings

PLAIN_FILES = ("dagster.yaml",)
WAIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file of the home as it lies there; `version` changes when it is written to."""

    name: str
    version: str
    read: Callable[[], bytes]


def home(settings: Settings) -> Path:
    """DAGSTER_HOME of these settings."""
    return settings.state_dir / "dagster"


def files(settings: Settings) -> Iterator[StateFile]:
    """What a backup holds of the home, run records last: none of them lacks its events."""
    root = home(settings)
    found = sorted(root.rglob("*.db"), key=lambda path: (path.name == "runs.db", path))
    for path in [*(root / name for name in PLAIN_FILES if (root / name).is_file()), *found]:
        name = path.relative_to(root).as_posix()
        try:
            version = _version(path)
        except FileNotFoundError:  # a run that was deleted meanwhile
            continue
        yield StateFile(name, version, path.read_bytes if name in PLAIN_FILES else lambda path=path: database(path))  # type: ignore[misc]


def database(path: Path) -> bytes:
    """A database as it is at one moment, whoever writes to it; raises FileNotFoundError, TransientError where it stays locked."""
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        with (
            closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=WAIT_SECONDS)) as source,
            closing(sqlite3.connect(":memory:")) as copy,
        ):
            source.backup(copy)
            return copy.serialize()
    except sqlite3.Error as error:
        raise TransientError(f"{path}: {error}; run it again") from error


def is_there(settings: Settings) -> bool:
    """Whether there is a home with runs."""
    return any(home(settings).rglob("*.db"))


def require_none(settings: Settings) -> None:
    """Raises PermanentError where there is a home with runs already: it is never overwritten."""
    if is_there(settings):
        raise PermanentError(f"{home(settings)} has Dagster's state already, and nothing is overwritten: move it away, or use --only lake")


def restore(settings: Settings, found: Iterable[tuple[str, bytes]]) -> int:
    """Make the home from these files; it appears whole. Returns their number; raises as `require_none`."""
    require_none(settings)
    root = home(settings)
    aside = root.with_name(f"{root.name}.restoring")
    shutil.rmtree(aside, ignore_errors=True)
    count = 0
    for name, data in found:
        path = aside / name
        if not path.resolve().is_relative_to(aside.resolve()):
            raise PermanentError(f"{name} in the backup's state is no file of a Dagster home")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        count += 1
    if not count:
        return 0
    shutil.rmtree(root, ignore_errors=True)  # at most a dagster.yaml, of which the backup has one
    aside.rename(root)
    return count


def _version(path: Path) -> str:
    parts = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            found = file.stat()
        except FileNotFoundError:
            if file == path:
                raise
            continue
        parts.append(f"{found.st_mtime_ns}-{found.st_size}")
    return "+".join(parts)
