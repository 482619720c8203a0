"""JSON lines: a row is a line, whatever is in it. Names are given anew only where `--map` asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from engagement.contract import MANDATORY
from engagement.ingest.history.found import CODECS
from engagement.ingest.history.mapping import HOLDERS, NO_RENAMES, Renames, split
from engagement.ingest.history.streams import (
    MAX_ROW,
    Advance,
    BadFile,
    Hashed,
    Inspected,
    blocks,
    chunks,
    kind_of_bytes,
    opened,
    past_bom,
    silent,
)

SAMPLE = 100
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True)
class JsonLines:
    """Reads JSON lines; travels to the processes that decode."""

    renames: Renames = NO_RENAMES
    columns: None = None

    def chunks(self, path: Path, start: int, sizes: Iterator[int]) -> Iterator[list[bytes]]:
        """Lines from row `start` on, as many at once as the sizes say, to the file's end."""
        with opened(path) as handle:
            yield from chunks(past_bom(handle), start, sizes)

    def documents(self, chunk: list[bytes]) -> list[bytes]:
        """The record of each line: its bytes without the line's end, with our names where some were given."""
        stripped = [line.rstrip(b"\r\n") for line in chunk]
        return [self._renamed(line) for line in stripped] if self.renames else stripped

    def _renamed(self, line: bytes) -> bytes:
        """The document under our names; as it is where it is no object or has nothing to rename.

        A field that the document has already is not overwritten.
        """
        try:
            document: dict[str, Any] = dict(_object.decode(line))
            for theirs, ours in self.renames.ours.items():
                _move(document, theirs, ours)
            return msgspec.json.encode(document)
        except _BROKEN:
            return line


def inspect(path: Path, renames: Renames, advance: Advance = silent) -> Inspected:
    """A file, read to its end; raises BadFile, and what `streams.as_bad_file` understands."""
    with opened(path, advance) as handle:
        hashed = Hashed(handle)
        rows = _count(path, hashed.stream)
    if not rows:
        raise BadFile(f"{path}: empty")
    reader = JsonLines(renames)
    _require_events(path, reader)
    return Inspected(hashed.hexdigest(), rows, hashed.size, reader)


def _count(path: Path, stream: IO[bytes]) -> int:
    rows, length, last = 0, 0, b"\n"
    for block in blocks(stream):
        ends = block.count(b"\n")
        length = len(block) - block.rfind(b"\n") - 1 if ends else length + len(block)
        if length > MAX_ROW:
            raise BadFile(f"{path}: not JSON lines: line {rows + ends + 1} is longer than {MAX_ROW >> 20} MiB")
        rows += ends
        last = block
    return rows + (not last.endswith(b"\n"))


def _require_events(path: Path, reader: JsonLines) -> None:
    """A file none of whose first lines is a JSON object with an event's fields is the wrong file, not a file of bad rows."""
    count, missing = 0, None
    for chunk in reader.chunks(path, 0, iter([1] * SAMPLE)):
        count += 1
        with suppress(*_BROKEN):
            lacks = [name for name in MANDATORY if name not in _object.decode(reader.documents(chunk)[0])]
            if not lacks:
                return
            missing = lacks if missing is None or len(lacks) < len(missing) else missing
    if missing is None:
        told = kind_of_bytes(path)
        looks = f"; by its first bytes it is {told}" if told and path.suffix not in CODECS else ""
        raise BadFile(f"{path}: not JSON lines: none of its first {count} lines is a JSON object{looks}")
    raise BadFile(
        f"{path}: no events: none of its first {count} lines has all of {', '.join(MANDATORY)} (missing: {', '.join(missing)}); "
        f"give the file's own names by --map theirs=ours"
    )


def _move(document: dict[str, Any], theirs: str, ours: str) -> None:
    holder, name = split(ours)
    target = document if holder is None else _nested(document, holder)
    if target is None or name in target:
        return
    value = _take(document, theirs)
    if value is None:
        return
    target[name] = value
    if holder is not None:
        document[holder] = target


def _take(document: dict[str, Any], name: str) -> Any:
    """Remove and return a field by its own name, else by a path of names with dots; None where there is none."""
    if name in document:
        return document.pop(name)
    first, dot, rest = name.partition(".")
    inner = _nested(document, first) if dot and first in document else None
    if inner is None:
        return None
    value = _take(inner, rest)
    if value is not None:
        document[first] = inner
    return value


def _nested(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    """The object under a name, an empty one where there is none; None where something else stands there."""
    found = document.get(name)
    if found is None or found == msgspec.Raw(b"null"):
        return {} if name in HOLDERS or found is None else None
    if isinstance(found, dict):
        return found
    try:
        return dict(_object.decode(found))
    except _BROKEN:
        return None
