"""CSV as RFC 4180 has it: a header, commas, quotes doubled inside quotes, line ends inside quotes allowed.

A row ends at the first line end outside quotes, which a count of quotes tells; so the number of rows does not
depend on what is in them. A row that does not fit the header is a bad row: its record is a JSON array of its values.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engagement.ingest.history import tabular
from engagement.ingest.history.mapping import Renames
from engagement.ingest.history.streams import MAX_ROW, Advance, BadFile, Hashed, Inspected, chunks, kind_of_bytes, opened, past_bom, silent


@dataclass(frozen=True, slots=True)
class Delimited:
    """Reads CSV of one header; travels to the processes that decode."""

    plan: tabular.Plan

    @property
    def columns(self) -> Sequence[str]:
        """Names of the header."""
        return self.plan.columns

    def chunks(self, path: Path, start: int, sizes: Iterator[int]) -> Iterator[list[bytes]]:
        """Rows from `start` on, as many at once as the sizes say, to the file's end."""
        with opened(path) as handle:
            yield from chunks(_rows(path, past_bom(handle)), start + 1, sizes)  # the header is no row

    def documents(self, chunk: list[bytes]) -> list[bytes]:
        """The record of each row."""
        try:
            return self._documents([row.decode() for row in chunk], "utf-8")
        except UnicodeDecodeError:  # somewhere; one character a byte keeps all bytes apart, and the contract finds the bad ones
            return self._documents([row.decode("latin-1") for row in chunk], "latin-1")

    def _documents(self, texts: list[str], encoding: str) -> list[bytes]:
        width = len(self.plan.columns)
        parsed = _parsed(texts)
        places = [place for place, fields in enumerate(parsed) if len(fields) == width]
        made = tabular.documents(self.plan, _columns([parsed[place] for place in places], width, encoding))
        if len(places) == len(parsed):
            return made
        records = [_misfit(fields, encoding) for fields in parsed]
        for place, document in zip(places, made, strict=True):
            records[place] = document
        return records


def inspect(path: Path, renames: Renames, advance: Advance = silent) -> Inspected:
    """A file, read to its end; raises BadFile, and what `streams.as_bad_file` understands."""
    with opened(path, advance) as handle:
        hashed = Hashed(handle)
        found = _rows(path, past_bom(hashed.stream))
        header = next(found, None)
        if header is None:
            raise BadFile(f"{path}: empty")
        plan = _plan(path, header, renames)
        rows = sum(1 for _ in found)
    if not rows:
        raise BadFile(f"{path}: no rows below the header")
    return Inspected(hashed.hexdigest(), rows, hashed.size, Delimited(plan))


def _plan(path: Path, header: bytes, renames: Renames) -> tabular.Plan:
    try:
        names = next(csv.reader([header.decode()], strict=True), [])
        return tabular.Plan.of(names, renames)
    except (UnicodeDecodeError, csv.Error) as error:
        told = kind_of_bytes(path)
        looks = f"; by its first bytes it is {told}" if told and path.suffix == ".csv" else ""
        raise BadFile(f"{path}: its first line is no CSV header in UTF-8 ({error}){looks}") from error
    except tabular.BadColumns as error:
        raise BadFile(f"{path}: {error}") from error


def _rows(path: Path, stream: IO[bytes]) -> Iterator[bytes]:
    """Rows, the header the first, each with its line end; raises BadFile at a quote that never closes."""
    number, held = 0, b""
    while line := stream.readline(MAX_ROW):
        if len(line) == MAX_ROW or len(held) > MAX_ROW:
            raise BadFile(f"{path}: row {number} is longer than {MAX_ROW >> 20} MiB: no CSV, or a quote that never closes")
        row = held + line if held else line
        if row.count(b'"') & 1:
            held = row
            continue
        yield row
        number, held = number + 1, b""
    if held:
        raise BadFile(f"{path}: row {number}: a quote that never closes: the file is truncated, or a quote is not doubled")


def _parsed(texts: list[str]) -> list[list[str]]:
    """Fields of each row; none for an empty row, the row itself where quotes stand inside of an unquoted field."""
    csv.field_size_limit(2 * MAX_ROW)
    try:
        found = list(csv.reader(texts, strict=True))
    except csv.Error:
        found = []
    return found if len(found) == len(texts) else [_parsed_alone(text) for text in texts]


def _parsed_alone(text: str) -> list[str]:
    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        return [text.rstrip("\r\n")]
    return fields


def _columns(rows: Iterable[Sequence[str]], width: int, encoding: str) -> list[object]:
    """Columns of rows as binary arrays, the empty text null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = list(zip(*rows, strict=True)) or [()] * width
    if encoding == "utf-8":
        arrays = [pa.array(values, pa.string()).cast(pa.binary()) for values in columns]
    else:
        arrays = [pa.array([value.encode(encoding) for value in values], pa.binary()) for values in columns]
    return [pc.if_else(pc.equal(values, b""), None, values) for values in arrays]


def _misfit(fields: Sequence[str], encoding: str) -> bytes:
    return b"[" + b",".join(tabular.text_of(field.encode(encoding)) for field in fields) + b"]" if fields else b""
