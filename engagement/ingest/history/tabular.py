"""Columns to JSON documents: one a row, the event that an app would have sent (docs/importing.md).

What a row says is then decided by the event contract, as for every other record, and these bytes are what a reject
keeps. Documents are put together column by column; a null is an absent field.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from engagement.contract import MANDATORY
from engagement.ingest.history.mapping import HOLDERS, Renames, is_text, split

if TYPE_CHECKING:
    import pyarrow as pa

_any_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_any_value = msgspec.json.Decoder(msgspec.Raw)
_encode = msgspec.json.Encoder(enc_hook=str).encode
_SPECIAL = re.compile(rb'[\x00-\x1f"\\]')
_BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class BadColumns(Exception):
    """These columns make no events; the text goes on from the file's name."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which column is which field: our names, in the order of the file's columns."""

    columns: tuple[str, ...]
    ours: tuple[str, ...]

    @staticmethod
    def of(columns: Sequence[str], renames: Renames) -> Plan:
        """The plan of a file's columns; raises BadColumns where two are one field, or a mandatory one is not there."""
        sources: dict[str, str] = {}
        for column in columns:
            ours = renames.of(column)
            if ours in sources:
                raise BadColumns(f"columns {sources[ours]!r} and {column!r} are both {ours}; rename one by --map theirs=ours")
            sources[ours] = column
        missing = [name for name in MANDATORY if name not in sources]
        if missing:
            shown = ", ".join(columns[:12]) + (", …" if len(columns) > 12 else "")
            raise BadColumns(f"no events: no column {', '.join(missing)} among {shown}; give the file's own names by --map theirs=ours")
        return Plan(tuple(columns), tuple(sources))


def documents(plan: Plan, arrays: Sequence[pa.Array]) -> list[bytes]:
    """The JSON document of each row. Texts may be binary arrays, whose bytes need not be UTF-8: the contract judges them."""
    top: list[pa.Array] = []
    nested: dict[str, list[tuple[str, _Json]]] = {}
    whole: dict[str, pa.Array] = {}
    for name, values in zip(plan.ours, arrays, strict=True):
        holder, field = split(name)
        if holder is not None:
            nested.setdefault(holder, []).append((field, _json(name, values)))
        elif name in HOLDERS:
            whole[name] = values
        else:
            top.append(_member(name, _json(name, values)))
    for holder in HOLDERS:
        top += _holder(holder, whole.get(holder), nested.get(holder, []))
    made: list[bytes] = _braced(_together(top)).to_pylist()
    return made


def text_of(value: bytes) -> bytes:
    """Some bytes as JSON text. Bytes that are no UTF-8 stay as they are, so that the contract says so."""
    try:
        return _encode(value.decode())
    except UnicodeDecodeError:
        return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode("utf-8", "surrogateescape")


def _holder(holder: str, whole: pa.Array | None, fields: Sequence[tuple[str, _Json]]) -> list[pa.Array]:
    """Members of a nested object: of its own column, if there is one, and of its fields' columns."""
    import pyarrow.compute as pc

    inner = [_member(field, values) for field, values in fields]
    if whole is None:
        bodies = _together(inner) if inner else None
        return [] if bodies is None else [_object(holder, pc.if_else(pc.equal(bodies, b""), None, bodies))]
    if not inner:
        return [_member(holder, _Json(_kept(whole)))]
    bodies, others = _taken_apart(whole)
    # What is no object has no place for fields: they stand beside it, and the contract rejects the row.
    free = pc.is_null(others)
    fitting = [pc.if_else(free, values, None) for values in inner]
    beside = [pc.if_else(free, None, _member(f"{holder}.{field}", values)) for field, values in fields]
    merged = _together([bodies, *fitting])
    merged = pc.if_else(pc.or_(pc.is_valid(bodies), pc.greater(pc.binary_length(merged), 0)), merged, None)
    return [_object(holder, merged), _member(holder, _Json(others)), *beside]


def _kept(whole: pa.Array) -> pa.Array:
    """Whole values as JSON, as they are written where they are JSON."""
    import pyarrow as pa

    return pa.array([None if value is None else _valid(value.strip()) for value in _documents_of(whole)], pa.binary())


def _taken_apart(whole: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Of values that should be JSON objects: their members behind a comma, and what is none, as JSON."""
    import pyarrow as pa

    bodies: list[bytes | None] = []
    others: list[bytes | None] = []
    for value in _documents_of(whole):
        body, other = None, None
        if value is not None and value.strip() != b"null":
            text = value.strip()
            try:
                _any_object.decode(text)
                inside = text[1:-1].strip()
                body = b"," + inside if inside else b""
            except _BROKEN:
                other = _valid(text)
        bodies.append(body)
        others.append(other)
    return pa.array(bodies, pa.binary()), pa.array(others, pa.binary())


def _documents_of(values: pa.Array) -> list[bytes | None]:
    """Values of a column of whole objects: texts are JSON already, the rest becomes it."""
    import pyarrow as pa

    if is_textual(values.type):
        found: list[bytes | None] = values.cast(pa.binary()).to_pylist()
        return found
    return [None if value is None else _encode(value) for value in _plain(values)]


def _valid(text: bytes) -> bytes:
    """The text itself where it is JSON, else a JSON text that holds it."""
    try:
        _any_value.decode(text)
    except _BROKEN:
        return text_of(text)
    return text


def _object(holder: str, bodies: pa.Array) -> pa.Array:
    """The member `,"holder":{…}` of bodies that begin with a comma, or are empty."""
    return _member(holder, _Json(_braced(bodies)))


def _braced(bodies: pa.Array) -> pa.Array:
    """Objects of members that each begin with a comma."""
    import pyarrow.compute as pc

    # Not by binary_slice: it fails on some arrays.
    return pc.replace_substring(_joined([b"{", bodies, b"}"]), b"{,", b"{", max_replacements=1)


@dataclass(frozen=True, slots=True)
class _Json:
    """Values as JSON, but for a mark that stands before and after each: the quote of texts that need no escape."""

    values: pa.Array
    mark: bytes = b""


def _member(name: str, found: _Json) -> pa.Array:
    return _joined([b"," + _encode(name) + b":" + found.mark, found.values, found.mark])


def _json(name: str, values: pa.Array) -> _Json:
    """A column's values as JSON; numbers become texts where the contract wants a text."""
    import pyarrow as pa
    import pyarrow.types as is_

    kind = values.type
    if is_textual(kind):
        return _quoted(values.cast(pa.binary()))
    if is_.is_timestamp(kind):
        return _quoted(_instants(values))
    if is_.is_integer(kind) or is_.is_boolean(kind):
        plain = values.cast(pa.string()).cast(pa.binary())
        return _quoted(plain) if is_text(name) and is_.is_integer(kind) else _Json(plain)
    if is_.is_date(kind) or is_.is_time(kind) or is_.is_decimal(kind):
        return _quoted(values.cast(pa.string()).cast(pa.binary()))
    return _Json(pa.array([None if value is None else _encode(value) for value in _plain(values)], pa.binary()))


def _plain(values: pa.Array) -> list[Any]:
    import pyarrow.types as is_

    found: list[Any] = values.to_pylist(maps_as_pydicts="lossy") if is_.is_nested(values.type) else values.to_pylist()
    return found


def _instants(values: pa.Array) -> pa.Array:
    """Timestamps as RFC 3339 in UTC; those without a time zone are taken as UTC."""
    import pyarrow as pa
    import pyarrow.compute as pc

    unit = values.type.unit
    texts = values.cast(pa.int64()).cast(pa.timestamp(unit)).cast(pa.string())
    return _joined([pc.replace_substring(texts, " ", "T", max_replacements=1).cast(pa.binary()), b"Z"])


def _quoted(values: pa.Array) -> _Json:
    import pyarrow as pa

    if _SPECIAL.search(_bytes_of(values)) is None:
        return _Json(values, b'"')
    return _Json(pa.array([None if value is None else text_of(value) for value in values.to_pylist()], pa.binary()))


def _bytes_of(values: pa.Array) -> memoryview:
    """All bytes of a binary array, one value after the other."""
    import numpy as np

    _, offsets, data = values.buffers()
    if data is None or not len(values):
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(data)[int(ends[values.offset]) : int(ends[values.offset + len(values)])]


def is_textual(kind: pa.DataType) -> bool:
    """Whether values of an Arrow type are texts, or bytes that may be one."""
    import pyarrow.types as is_

    texts = (is_.is_string, is_.is_large_string, is_.is_string_view, is_.is_binary, is_.is_large_binary, is_.is_binary_view)
    return any(check(kind) for check in texts)


def _joined(parts: Sequence[pa.Array | bytes]) -> pa.Array:
    """Parts one after the other, null where any of them is."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*parts, b"")


def _together(parts: Sequence[pa.Array]) -> pa.Array:
    """Parts one after the other, nulls left out."""
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(*parts, b"", null_handling="replace", null_replacement=b"")
