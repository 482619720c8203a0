"""Parquet files of one row an event: any columns, any nesting; types that cannot be right are refused before a row is read.

A file inside .gz or .zst is unpacked beside, since Parquet is read from its end.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engagement.ingest.history import tabular
from engagement.ingest.history.found import CODECS
from engagement.ingest.history.mapping import HOLDERS, Renames, is_text, split
from engagement.ingest.history.streams import BLOCK, Advance, BadFile, Hashed, Inspected, blocks, kind_of_bytes, opened, silent

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

READ_ROWS = 32_768


@dataclass(frozen=True, slots=True)
class ParquetRows:
    """Reads Parquet of one set of columns; travels to the processes that decode."""

    plan: tabular.Plan

    @property
    def columns(self) -> Sequence[str]:
        """Names of the columns."""
        return self.plan.columns

    def chunks(self, path: Path, start: int, sizes: Iterator[int]) -> Iterator[pa.Table]:
        """Rows from `start` on, as many at once as the sizes say, to the file's end."""
        import pyarrow as pa

        with _file(path) as file:
            first, skipped = _first_group(file, start)
            batches = file.iter_batches(READ_ROWS, row_groups=list(range(first, file.num_row_groups)))
            held, drop = file.schema_arrow.empty_table(), start - skipped
            for size in sizes:
                while held.num_rows < size + drop and (batch := next(batches, None)) is not None:
                    held = pa.concat_tables([held, pa.Table.from_batches([batch])])
                if held.num_rows <= drop:
                    return
                yield held.slice(drop, size)
                held, drop = held.slice(drop + size), 0

    def documents(self, chunk: pa.Table) -> list[bytes]:
        """The record of each row."""
        return tabular.documents(self.plan, [_simple(column) for column in chunk.columns])


def inspect(path: Path, renames: Renames, advance: Advance = silent) -> Inspected:
    """A file, each page read; raises BadFile, and what `streams.as_bad_file` understands."""
    with opened(path, advance) as handle:
        hashed = Hashed(handle)
        empty = not sum(len(block) for block in blocks(hashed.stream))
    if empty:
        raise BadFile(f"{path}: empty")
    with _file(path) as file:
        schema = file.schema_arrow
        try:
            plan = tabular.Plan.of(schema.names, renames)
            _require_types(plan, schema)
        except tabular.BadColumns as error:
            raise BadFile(f"{path}: {error}") from error
        reader = ParquetRows(plan)
        proof = any(_may_fail(column.type) for column in schema)
        rows = 0
        for batch in file.iter_batches(READ_ROWS):
            rows += batch.num_rows
            if proof:
                _require_documents(path, reader, batch)
        size = max(hashed.size, sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)))
    if not rows:
        raise BadFile(f"{path}: no rows")
    return Inspected(hashed.hexdigest(), rows, size, reader)


@contextmanager
def _file(path: Path) -> Iterator[pq.ParquetFile]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _unpacked(path) as plain:
        try:
            file = pq.ParquetFile(plain, page_checksum_verification=True, pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            told = kind_of_bytes(plain)
            looks = f"; by its first bytes it is {told}" if told not in (None, "Parquet") else ""
            text = " ".join(str(error).split())
            raise BadFile(f"{path}: no Parquet file, or a truncated one{looks} ({text})") from error
        with file:
            yield file


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    if path.suffix not in CODECS:
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=".parquet") as temporary, opened(path) as packed:
        shutil.copyfileobj(packed, temporary, BLOCK)
        temporary.flush()
        yield Path(temporary.name)


def _may_fail(kind: pa.DataType) -> bool:
    """Whether values of a type go through Python's own types, which have narrower limits (a date of the year 20000)."""
    import pyarrow.types as is_

    return any(check(kind) for check in (is_.is_nested, is_.is_duration, is_.is_interval))


def _require_documents(path: Path, reader: ParquetRows, batch: pa.RecordBatch) -> None:
    import pyarrow as pa

    try:
        reader.documents(pa.Table.from_batches([batch]))
    except (ValueError, OverflowError, TypeError) as error:
        raise BadFile(f"{path}: a value that no JSON document can hold ({' '.join(str(error).split())})") from error


def _first_group(file: pq.ParquetFile, start: int) -> tuple[int, int]:
    """The row group that holds a row, and the rows before that group."""
    before = 0
    for number in range(file.num_row_groups):
        rows = file.metadata.row_group(number).num_rows
        if start < before + rows:
            return number, before
        before += rows
    return file.num_row_groups, before


def _require_types(plan: tabular.Plan, schema: pa.Schema) -> None:
    """Raises BadColumns where no row could be an event: a field of the contract has a type that is none of its own."""
    import pyarrow.types as is_

    for name, column in zip(plan.ours, schema, strict=True):
        kind = _value_type(column.type)
        texts = tabular.is_textual(kind)
        if name == "timestamp":
            fits, wanted = texts or is_.is_timestamp(kind), "text (RFC 3339) or a timestamp"
        elif is_text(name):
            fits, wanted = texts or is_.is_integer(kind) or is_.is_null(kind), "text or a whole number"
        elif split(name)[0] is None and name in HOLDERS:
            fits, wanted = texts or is_.is_struct(kind) or is_.is_map(kind) or is_.is_null(kind), "JSON text, a struct or a map"
        else:
            continue
        if not fits:
            raise tabular.BadColumns(f"column {column.name!r} is {kind}; as {name} it must be {wanted}")


def _value_type(kind: pa.DataType) -> Any:
    import pyarrow as pa
    import pyarrow.types as is_

    if is_.is_dictionary(kind):
        return kind.value_type
    return pa.string() if str(kind) == "extension<arrow.uuid>" else kind


def _simple(column: pa.ChunkedArray) -> pa.Array:
    """One array of plain values: no dictionary, no extension type; a UUID in its text form."""
    import pyarrow as pa
    import pyarrow.types as is_

    values = column.combine_chunks()
    if str(values.type) == "extension<arrow.uuid>":
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.storage
    if is_.is_dictionary(values.type):
        values = values.dictionary_decode()
    return values
