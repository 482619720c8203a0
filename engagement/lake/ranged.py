"""An object of S3 as a seekable file that fetches what is read of it: for Parquet footers, whose tail comes with the first request."""

from __future__ import annotations

import io
from collections.abc import Callable

TAIL_BYTES = 64 << 10
"""Holds the whole footer of all but very wide or very many row groups."""
Fetch = Callable[[int, int], bytes]
"""(start, end) -> the bytes of that range, of the version that the tail is of."""


class RangedFile(io.RawIOBase):
    """Reads `size` bytes, of which the last are known already; `fetch` brings the others."""

    def __init__(self, size: int, tail: bytes, fetch: Fetch) -> None:
        super().__init__()
        self._size, self._tail, self._fetch, self._at = size, tail, fetch, 0

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        self._at = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """As of any file; fewer bytes only at the end."""
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        start, self._at = self._at, max(self._at, end)
        if start >= end:
            return b""
        known_from = self._size - len(self._tail)
        if start >= known_from:
            return self._tail[start - known_from : end - known_from]
        return self._fetch(start, end)

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """As of any file."""
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)
