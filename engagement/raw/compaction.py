"""The rows of many raw objects as one archive part: copied in total order, a row group at a time, and counted (R5).

Rows keep the order of their chain's label and of their offsets. While one row group is being encoded the objects of the
next are decoded, two at a time; two groups and a few objects are in memory at most, however large the part is.
Not here: which objects (`choosing`), what the footer says (`ranges`), and the name (`archive`).
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from engagement.lake import Changed, Lake
from engagement.raw.coverage import Part
from engagement.raw.erasures import Erasures
from engagement.raw.footers import FOOTER_KEY, RawFile
from engagement.raw.ranges import Ranges, UnreadableObject
from engagement.raw.sources import require_same

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

GROUP_ROWS = 1_000_000
GROUP_BYTES = 192 << 20
"""A row group ends at so many rows, or bytes in memory where rows are large."""
AT_ONCE = 64
"""Objects that are brought to this machine at once, where the store is elsewhere."""
AHEAD = 3
"""Objects that are decoded before it is their turn; each may hold a whole flush."""
_REPEATING = ("kafka_topic", "kafka_topic_id", "event_type", "device_type", "device_model", "os_version", "locale", "app_version",
              "country", "region", "city")  # fmt: skip
"""Columns of few values: read, held and written as dictionaries, never as texts."""
_DICTIONARIES = (*_REPEATING, "user_id", "session_id", "properties", "reject_reason", "headers.list.element.name")
_ENCODINGS = {
    "kafka_offset": "DELTA_BINARY_PACKED", "received_at": "DELTA_BINARY_PACKED", "event_time": "DELTA_BINARY_PACKED",
    "event_id": "DELTA_LENGTH_BYTE_ARRAY",
}  # fmt: skip
"""Numbers that rise by little, and ids that never repeat and are all of one length."""


class _Wider(Exception):
    """An object has columns that the part's schema lacks: a newer program wrote it. The part is begun anew with them."""

    def __init__(self, schema: pa.Schema) -> None:
        super().__init__()
        self.schema = schema


def compact(lake: Lake, files: Sequence[RawFile], erasures: Erasures, slot_minutes: int, sink: IO[bytes]) -> Part:
    """Write the rows of these objects, in their order, as a Parquet file; returns what its footer says.

    Raises UnreadableObject; Changed where an object is gone or another version than was listed.
    """
    from engagement.raw import rows

    schema = rows.schema()
    while True:
        try:
            return _compact(lake, files, erasures, slot_minutes, sink, schema)
        except _Wider as wider:
            schema = wider.schema
            sink.seek(0)
            sink.truncate()


def _compact(
    lake: Lake, files: Sequence[RawFile], erasures: Erasures, slot_minutes: int, sink: IO[bytes], schema: pa.Schema
) -> Part:  # fmt: skip
    ranges = Ranges(slot_minutes)
    with _plain_memory(), writer_of(sink, schema) as writer, ThreadPoolExecutor(1) as encoder:
        before: Future[None] | None = None
        for group in _groups(_tables(lake, files, erasures, schema, ranges)):
            if before is not None:
                before.result()
            before = encoder.submit(_write, writer, group)
        if before is not None:
            before.result()
        part = Part(ranges.found, erasures.length)
        writer.add_key_value_metadata(footer(part, schema))
    return part


@contextmanager
def _plain_memory() -> Iterator[None]:
    """Arrow's memory from the C library meanwhile.

    Arrow's own allocator hands large blocks back at once and faults them in again: a third of the time was the kernel's.
    """
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def footer(part: Part, schema: pa.Schema) -> dict[bytes, bytes]:
    """What a part's footer says; plain types, however the columns were held here."""
    return {FOOTER_KEY: part.to_json().encode(), b"ARROW:schema": base64.b64encode(schema.serialize().to_pybytes())}


def writer_of(sink: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    """Writes rows that are `fitted` as every part has them."""
    import pyarrow.parquet as pq

    return pq.ParquetWriter(
        sink, _held(schema), compression="zstd", use_dictionary=list(_DICTIONARIES), store_schema=False,
        column_encoding=_ENCODINGS,
    )  # fmt: skip


def _held(schema: pa.Schema) -> pa.Schema:
    """The schema as columns are held in memory: few values as a dictionary."""
    import pyarrow as pa

    kind = pa.dictionary(pa.int32(), pa.string())
    return pa.schema([field.with_type(kind) if field.name in _REPEATING else field for field in schema])


def _write(writer: pq.ParquetWriter, group: Sequence[pa.Table]) -> None:
    import pyarrow as pa

    table = pa.concat_tables(group).unify_dictionaries()
    writer.write_table(table, row_group_size=table.num_rows)


def _groups(tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    group: list[pa.Table] = []
    rows, size = 0, 0
    for table in tables:
        group.append(table)
        rows, size = rows + table.num_rows, size + table.nbytes
        if rows >= GROUP_ROWS or size >= GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def _tables(lake: Lake, files: Sequence[RawFile], erasures: Erasures, schema: pa.Schema, ranges: Ranges) -> Iterator[pa.Table]:
    """The rows of each object with the part's columns, counted into `ranges`."""
    for begin in range(0, len(files), AT_ONCE):
        few = files[begin : begin + AT_ONCE]
        try:
            paths = lake.local(raw.entry for raw in few)
        except FileNotFoundError as error:
            raise Changed(f"one of {few[0].key} and {len(few) - 1} others was deleted before it was read") from error
        for raw, found in zip(few, _decoded(few, paths, as_dictionaries=not erasures.numbers), strict=True):
            require_same(lake, [raw.entry])
            rows = erasures.erase(found)
            ranges.add(raw, rows, erasures.length if rows is not found else 0)
            if rows.num_rows:
                yield fitted(rows, schema)


def _decoded(files: Sequence[RawFile], paths: Sequence[Path], *, as_dictionaries: bool) -> Iterator[pa.Table]:
    """The rows of each object, in this order; two are decoded at a time."""
    with ThreadPoolExecutor(2) as readers:
        under_way: deque[Future[pa.Table]] = deque()
        try:
            for raw, path in zip(files, paths, strict=True):
                under_way.append(readers.submit(_read, raw, path, as_dictionaries=as_dictionaries))
                if len(under_way) > AHEAD:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _read(raw: RawFile, path: Path, *, as_dictionaries: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, read_dictionary=list(_REPEATING) if as_dictionaries else None) as file:
            return file.read()
    except KeyError:  # an older program's object lacks one of the columns
        return _read(raw, path, as_dictionaries=False)
    except FileNotFoundError as error:
        raise Changed(f"{raw.key} was deleted before it was read") from error
    except (pa.ArrowException, OSError) as error:
        raise UnreadableObject(raw.key, f"cannot be read: {' '.join(str(error).split())}") from error


def fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with exactly the columns of the part; raises _Wider where they have more."""
    import pyarrow as pa

    if more := [field for field in rows.schema if field.name not in schema.names]:
        plain = [field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field for field in more]
        raise _Wider(pa.schema([*schema, *plain]))
    held = _held(schema)
    columns = []
    for field in held:
        if field.name not in rows.schema.names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows[field.name]
        if pa.types.is_dictionary(field.type) and not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=held)
