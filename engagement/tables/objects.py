"""Objects of processed tables: what a footer says, and the one way they are published (R4, R10).

A footer names the inputs the rows were made from, so that what waits is computed from the lake alone.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from engagement.errors import TransientError
from engagement.lake import Changed, Entry, Lake
from engagement.lake.together import together
from engagement.model import units
from engagement.tables import finality
from engagement.tables.known import Known

if TYPE_CHECKING:
    import pyarrow as pa

FOOTER_KEY = b"engagement"
CODE_VERSION = 1
"""Raised when a change of SQL or reference data changes rows; older units then count as outdated (R10)."""
ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """Rows of one unit before publication, with the facts its footer will hold (JSON values).

    `hour` tells the hour where one object holds several (the hour rows of a day), `unit` the key of the object that it is for;
    gates need both, publication neither.
    """

    table: pa.Table
    facts: dict[str, Any]
    hour: datetime | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one unit.

    `published` is False where nothing had to change, or where a gate held it (`held` says which).
    """

    key: str
    rows: int
    size: int
    published: bool
    facts: dict[str, Any] = field(default_factory=dict)
    held: str | None = None


class Held(Exception):
    """A gate refused the candidate; the text names the failed checks. The old object stays."""


class Footers:
    """Footers of objects, each read once per version, by all processes that share `known`."""

    def __init__(self, lake: Lake, known: Known | None = None) -> None:
        self._lake = lake
        self._disk = known or Known(lake)
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}

    def of(self, entry: Entry | None) -> dict[str, Any]:
        """The facts in an object's footer; empty where there is no object."""
        return {} if entry is None else self.all([entry])[entry.key]

    def all(self, entries: Iterable[Entry]) -> dict[str, dict[str, Any]]:
        """Key -> the facts in the object's footer; what is not known is read at once."""
        asked = list(entries)
        wanted = [entry for entry in asked if self._known.get(entry.key, ("",))[0] != entry.version]
        missing = []
        for entry in wanted:
            facts = self._disk.facts(entry)
            if facts is None:
                missing.append(entry)
            else:
                self._known[entry.key] = (entry.version, facts)
        kept = []
        for entry, (facts, exact) in zip(missing, together(self._lake, self._facts, missing), strict=True):
            self._known[entry.key] = (entry.version, facts)
            kept += [(entry, facts)] if exact else []
        self._disk.keep_facts(kept)
        return {entry.key: self._known[entry.key][1] for entry in asked}

    def _facts(self, entry: Entry) -> tuple[dict[str, Any], bool]:
        """The facts, and whether they are of this version: an object that was replaced meanwhile shows its present ones."""
        with contextlib.suppress(FileNotFoundError), self._lake.open_version(entry) as file:
            return _facts_in(file), True
        return _read(self._lake, entry.key), False

    def listing(self, prefix: str) -> dict[str, Entry]:
        """All units below a folder by key."""
        return {entry.key: entry for entry in self._lake.list(prefix) if units.is_key(entry.key)}


def provenance(footers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What a unit carries over from its inputs' footers: raw offsets (the furthest of each chain) and the newest record."""
    offsets: dict[str, int] = {}
    newest: list[str] = []
    for facts in footers:
        for chain, end in facts.get("offsets", {}).items():
            offsets[chain] = max(end, offsets.get(chain, 0))
        if facts.get("newest_received_at"):
            newest.append(facts["newest_received_at"])
    return {"offsets": offsets, "newest_received_at": max(newest, key=datetime.fromisoformat, default=None)}


def publish(lake: Lake, key: str, build: Callable[[Entry | None], Candidate | None]) -> Outcome:
    """Replace one unit's object by what `build` makes of it, atomically and only if nobody else did meanwhile.

    `build` gets the entry of the present object and returns None where nothing has to change; it may
    raise Held. The object of a final day is held as it is. Starts over when another writer was faster, at most ATTEMPTS
    times; then TransientError.
    """
    for _ in range(ATTEMPTS):
        with lake.replacing(key):
            old = lake.stat(key)
            try:
                _require_open(lake, key)
                candidate = build(old)
                if candidate is None:
                    return unchanged(lake, key, old)
                return _replace(lake, key, old, *_encoded(candidate))
            except Held as verdict:
                return _held(key, old, verdict)
            except Changed:
                continue
    msg = f"{key}: replaced by other writers {ATTEMPTS} times in a row"
    raise TransientError(msg)


def publish_made(lake: Lake, key: str, old: Entry | None, candidate: Candidate) -> Outcome | None:
    """Replace one unit's object by a candidate made while `old` lay there; None where another writer was faster.

    `old` must have been noted before the inputs were listed (R4). The key is held for the comparison and the rename
    alone: whoever holds it from listing to rename is never overwritten, for then `old` lies there no more.
    """
    facts, data = _encoded(candidate)
    with lake.replacing(key):
        if lake.stat(key) != old:
            return None
        try:
            return _replace(lake, key, old, facts, data)
        except Held as verdict:
            return _held(key, old, verdict)
        except Changed:
            return None


def unchanged(lake: Lake, key: str, old: Entry | None) -> Outcome:
    """What became of a unit that had not to be made anew."""
    facts = _read(lake, key) if old else {}
    return Outcome(key, int(facts.get("rows", 0)), old.size if old else 0, False, facts)


def _held(key: str, old: Entry | None, verdict: Held) -> Outcome:
    return Outcome(key, 0, old.size if old else 0, False, held=str(verdict))


def _require_open(lake: Lake, key: str) -> None:
    """Raises Held where the day is final. Asked again before each put: retention records a day first and deletes then."""
    if why := finality.refusal(lake, key):
        raise Held(why)


def _encoded(candidate: Candidate) -> tuple[dict[str, Any], bytes]:
    facts = {"code": CODE_VERSION, "rows": candidate.table.num_rows, **candidate.facts}
    return facts, encode(candidate.table, facts)


def _replace(lake: Lake, key: str, old: Entry | None, facts: dict[str, Any], data: bytes) -> Outcome:
    if old and old.size == len(data) and lake.read(key) == data:
        return Outcome(key, facts["rows"], old.size, False, facts)
    _require_open(lake, key)
    entry = lake.replace(key, data, old)
    return Outcome(key, facts["rows"], entry.size, True, facts)


def encode(table: pa.Table, facts: dict[str, Any]) -> bytes:
    """A Parquet object with the facts in its footer."""
    import pyarrow.parquet as pq

    # Rows read from an object bring its footer along as schema metadata, and chunks as they were put together:
    # without both, the same rows make the same bytes.
    table = table.replace_schema_metadata(None).combine_chunks()
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, compression="zstd", **_encodings(table.schema)) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY: json.dumps(facts, sort_keys=True).encode()})
    return sink.getvalue()


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """How columns are written: a dictionary where values repeat, differences where they rise. A third less time, a sixth less bytes."""
    import pyarrow.types as kinds

    rising = [field.name for field in schema if kinds.is_timestamp(field.type) or field.name == "kafka_offset"]
    unique = {"event_id", "session_key", *rising}
    # A list's values are a column of their own in Parquet.
    repeating = [f"{field.name}.list.element" if kinds.is_list(field.type) else field.name for field in schema if field.name not in unique]
    return {"use_dictionary": repeating, "column_encoding": dict.fromkeys(rising, "DELTA_BINARY_PACKED")}


def read_rows(lake: Lake, entry: Entry) -> pa.Table:
    """All rows of an object, without path keys."""
    import pyarrow.parquet as pq

    (path,) = lake.local([entry])
    table: pa.Table = pq.ParquetFile(path).read()
    return table


def _read(lake: Lake, key: str) -> dict[str, Any]:
    try:
        with lake.open(key) as file:
            return _facts_in(file)
    except FileNotFoundError:
        return {}


def _facts_in(file: BinaryIO) -> dict[str, Any]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file).metadata or {}
    facts: dict[str, Any] = json.loads(metadata.get(FOOTER_KEY, b"{}"))
    return facts
