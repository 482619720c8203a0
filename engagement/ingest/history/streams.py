"""Bytes of a file, uncompressed where its name ends in .gz or .zst; what cannot be read is one clear line."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from engagement.errors import PermanentError

if TYPE_CHECKING:
    from engagement.ingest.history.decoding import Reader

BLOCK = 1 << 20
MAX_ROW = 64 << 20
"""A longer row is no event but a file of another kind, or a quote that never closes; bytes."""
BOM = b"\xef\xbb\xbf"
Advance = Callable[[int], None]
"""Told how many bytes of the file, as it lies on the disk, were read."""
MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PAR1": "Parquet"}


class BadFile(PermanentError):
    """The file cannot be imported; nothing of it was."""


def silent(_: int) -> None:
    """Nobody watches."""


class _Read(io.RawIOBase):
    """Hands a stream on and tells what passed."""

    def __init__(self, stream: Any, tell: Callable[[memoryview], None]) -> None:
        self._stream, self._tell = stream, tell

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._stream.readinto(buffer) or 0)
        if count:
            self._tell(memoryview(buffer)[:count])
        return count

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def opened(path: Path, advance: Advance = silent) -> IO[bytes]:
    """The file's uncompressed bytes; reading raises what `as_bad_file` understands."""
    if not path.is_file() and path.exists():
        raise BadFile(f"{path}: {'a folder' if path.is_dir() else 'no regular file'}; an import reads its files twice")
    raw = io.BufferedReader(_Read(path.open("rb", buffering=0), lambda block: advance(len(block))), BLOCK)
    if path.suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))
    if path.suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(cast("Any", _Read(pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd"), lambda _: None)), BLOCK)
    return raw


@dataclass(frozen=True, slots=True)
class Inspected:
    """A file that was read to its end; `size` in uncompressed bytes, `reader` gives its rows again."""

    sha256: str
    rows: int
    size: int
    reader: Reader


class Hashed:
    """A stream that knows the SHA-256 and the number of the bytes that were read of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._digest = hashlib.sha256()
        self.size = 0
        self.stream: IO[bytes] = io.BufferedReader(cast("Any", _Read(stream, self._passed)), BLOCK)

    def _passed(self, block: memoryview) -> None:
        self._digest.update(block)
        self.size += len(block)

    def hexdigest(self) -> str:
        """The hash so far, of the whole file once it was read to its end."""
        return self._digest.hexdigest()


def blocks(stream: IO[bytes]) -> Iterator[bytes]:
    """The stream to its end."""
    while block := stream.read(BLOCK):
        yield block


def past_bom(stream: IO[bytes]) -> IO[bytes]:
    """The stream behind a byte order mark, if it begins with one; it has a `peek`."""
    if cast("Any", stream).peek(len(BOM))[: len(BOM)] == BOM:
        stream.read(len(BOM))
    return stream


def chunks(rows: Iterable[bytes], start: int, sizes: Iterable[int]) -> Iterator[list[bytes]]:
    """Rows from number `start` on, as many at once as the sizes say, to their end."""
    left = islice(rows, start, None)
    for size in sizes:
        chunk = list(islice(left, size))
        if not chunk:
            return
        yield chunk


@contextmanager
def as_bad_file(path: Path) -> Iterator[None]:
    """Whatever a file that is missing, truncated or damaged raises, as a BadFile of one line."""
    import pyarrow as pa

    try:
        yield
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        text = getattr(error, "strerror", None) or " ".join(str(error).split()) or "truncated"
        raise BadFile(f"{path}: {text}") from error


def kind_of_bytes(path: Path) -> str | None:
    """What the file is by its first bytes, None where they tell nothing; for the error of a file that was misnamed."""
    with path.open("rb") as handle:
        head = handle.read(4)
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), None)
