"""A lake that fails, waits or is slow at named points of a raw object's publication, when it is told to.

Everything else is the product's own lake: what a fault leaves behind on disk is what a crash there would leave.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from engagement.lake import AlreadyExists, Entry, LakeUnavailable, LocalLake
from engagement.raw.names import RAW

Reach = Callable[[str, str], None]
"""(point, key): returns, or raises OSError, or never returns."""
Report = Callable[..., None]
"""(event, key=…): tells the harness."""


class FaultyLake(LocalLake):
    """Calls `reach` at each point (`plan.Point`) and reports every claim made and every claim refused."""

    def __init__(self, root: Path, reach: Reach, report: Report, *, overwrites: bool = False) -> None:
        super().__init__(root)
        self._reach, self._report = reach, report
        self._overwrites = overwrites
        """A planted defect: the fence is missing. The harness must find what it does."""

    def list(self, prefix: str, after: str | None = None) -> Iterator[Entry]:
        if prefix.startswith(RAW):
            self._at("list", prefix)
        yield from super().list(prefix, after)

    def put_new(self, key: str, data: bytes) -> Entry:
        if not key.startswith(RAW):
            return super().put_new(key, data)
        self._at("before", key)
        if self._overwrites:
            with self._temporary(key, data) as temp:
                temp.rename(self.path(key))
                return self._published(key)
        try:
            return super().put_new(key, data)
        except AlreadyExists:
            self._report("refused", key=key)
            raise

    @contextlib.contextmanager
    def _temporary(self, key: str, data: bytes) -> Iterator[Path]:
        with super()._temporary(key, data) as temp:
            if key.startswith(RAW):
                self._reach("written", key)
            yield temp

    def _fill(self, handle: IO[bytes], data: bytes) -> None:
        half = len(data) // 2
        handle.write(data[:half])
        handle.flush()
        key = Path(handle.name).name.split("-", 2)[2].replace("~", "/")
        if key.startswith(RAW):
            self._reach("half", key)
        handle.write(data[half:])
        handle.flush()
        os.fsync(handle.fileno())

    def _published(self, key: str) -> Entry:
        if key.startswith(RAW):
            self._report("claimed", key=key)
            self._reach("linked", key)
        return super()._published(key)

    def _at(self, point: str, key: str) -> None:
        try:
            self._reach(point, key)
        except OSError as error:
            raise LakeUnavailable(f"{key}: {error.strerror}") from error
