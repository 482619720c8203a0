"""History from files: a file is a chain, its hash the topic id, its rows the offsets (R3).

The file is read to its end before the first object is written, so a truncated one leaves nothing behind.
A killed import resumes its chain; the same bytes again find it complete.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

from engagement.contract import TimeWindow
from engagement.errors import PermanentError
from engagement.lake import AlreadyExists, Lake, LakeFormat
from engagement.raw import files, rows
from engagement.raw.names import IMPORT_TOPIC, import_chain
from engagement.settings import Settings

ROWS_PER_OBJECT = 500_000
"""Never changed by a setting: where a file is cut is part of its claims."""


class BadFile(PermanentError):
    """The file cannot be imported; nothing of it was."""


@dataclass(frozen=True, slots=True)
class Source:
    """A readable file, its lines counted and hashed."""

    path: Path
    sha256: str
    lines: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import found and did; `written` counts new raw objects."""

    rows: int
    rejects: int
    written: int


def inspect(path: Path) -> Source:
    """Read the file to its end; raises BadFile where it is missing, empty, truncated or not text lines of JSON."""
    digest, lines, last = hashlib.sha256(), 0, b"\n"
    try:
        with _opened(path) as handle:
            while block := handle.read(1 << 20):
                digest.update(block)
                lines += block.count(b"\n")
                last = block
    except (OSError, EOFError, zlib.error) as error:
        text = getattr(error, "strerror", None) or str(error) or "truncated"
        raise BadFile(f"{path}: {text}") from error
    lines += not last.endswith(b"\n")
    if not lines:
        raise BadFile(f"{path}: empty")
    _require_json_lines(path)
    return Source(path, digest.hexdigest(), lines)


def import_file(source: Source, lake: Lake, lake_format: LakeFormat, settings: Settings, now: datetime | None = None) -> Imported:
    """Write what the lake does not have of the file; raises LakeUnavailable, then safe to run again."""
    chain = import_chain(source.sha256)
    where = rows.Coordinates(IMPORT_TOPIC, source.sha256, 0)
    window = TimeWindow.of(lake_format.history_start, settings.clock_skew_seconds, None)
    received = now or datetime.now(UTC)
    last = files.last_link(lake, chain)
    start = 0 if last is None else last.end
    written = 0
    with _opened(source.path) as handle:
        for _ in islice(handle, start):
            pass
        for records in _cuts(handle, start, received):
            batch = rows.build(where, records, window, lake_format.slot_minutes)
            with suppress(AlreadyExists):  # another import of the same bytes makes the same claims
                files.write(lake, chain, records[0].offset, records[-1].offset + 1, batch, source.path.name)
                written += 1
    done = [files.read_footer(lake, *found) for found in files.names(lake) if found[0] == chain]
    return Imported(sum(raw.rows for raw in done), sum(sum(raw.rejects.values()) for raw in done), written)


def _cuts(handle: IO[bytes], start: int, received: datetime) -> Iterator[list[rows.Record]]:
    number = start
    while lines := list(islice(handle, ROWS_PER_OBJECT)):
        yield [rows.Record(number + place, received, None, line.rstrip(b"\r\n")) for place, line in enumerate(lines)]
        number += len(lines)


def _opened(path: Path) -> Any:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")


def _require_json_lines(path: Path) -> None:
    """A file none of whose first lines is a JSON object is the wrong file, not a file of bad rows."""
    import msgspec

    with _opened(path) as handle:
        first = list(islice(handle, 100))
    for line in first:
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if isinstance(msgspec.json.decode(line), dict):
                return
    raise BadFile(f"{path}: not JSON lines: none of its first {len(first)} lines is a JSON object")
