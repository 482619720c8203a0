"""Which objects of a lake hold bytes of some people: the search and the proof are the same scan.

An object is looked at in the version that a listing shows; what a later listing still shows in that version was looked
at as it is. The engine's questions may say yes too often (bytes of a reject inside a longer name), never no too often;
`people` decides on the rows. Parquet statistics prove nothing here, so the columns are read. What cannot be read is
named: nobody knows what it holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engagement.erasure.people import People
from engagement.lake import Entry, Lake
from engagement.progress import Progress, silent
from engagement.raw.coverage import ARCHIVE
from engagement.raw.names import RAW
from engagement.tables import engine

if TYPE_CHECKING:
    import duckdb

FILES_AT_ONCE = 200
BYTES_AT_ONCE = 512 << 20
FEW = 4
"""So many names are looked for one by one; more of them by one pattern."""
LOG_COLUMNS = {
    "user_id": "VARCHAR", "properties": "VARCHAR", "reject_reason": "VARCHAR", "payload": "BLOB", "key": "BLOB",
    "headers": "STRUCT(name VARCHAR, value BLOB)[]",
}  # fmt: skip
TABLE_COLUMNS = {"user_id": "VARCHAR", "properties": "VARCHAR"}


@dataclass(slots=True)
class Scan:
    """What was looked at, and what was found: keys with their rows, and keys of what cannot be read with why."""

    objects: int = 0
    size: int = 0
    found: dict[str, int] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Scanner:
    """Looks at objects; `con` is an engine of its own."""

    lake: Lake
    con: duckdb.DuckDBPyConnection
    people: People

    def scan(self, entries: Sequence[Entry], what: str, progress: Progress = silent) -> Scan:
        """Look at all of these objects; `found` may name one too many, never one too few."""
        result = Scan()
        total = sum(entry.size for entry in entries)
        for batch in _batches([entry for entry in entries if entry.key.endswith(".parquet")]):
            self._parquet(batch, result)
            result.objects, result.size = result.objects + len(batch), result.size + sum(entry.size for entry in batch)
            progress(what, result.size, total)
        for entry in entries:
            if not entry.key.endswith(".parquet"):
                if self.people.named_in(self.lake.read(entry.key)):
                    result.found[entry.key] = 0
                result.objects, result.size = result.objects + 1, result.size + entry.size
        return result

    def _parquet(self, batch: Sequence[Entry], result: Scan) -> None:
        of_log = [entry for entry in batch if entry.key.startswith((f"{RAW}/", f"{ARCHIVE}/"))]
        of_tables = [entry for entry in batch if entry not in of_log]
        for entries, columns, condition in (
            (of_log, LOG_COLUMNS, self._in_log()),
            (of_tables, TABLE_COLUMNS, self._in_tables()),
        ):
            if entries:
                self._ask(entries, columns, condition, result)

    def _ask(self, entries: Sequence[Entry], columns: dict[str, str], condition: str, result: Scan) -> None:
        """Ask about many at once; where one of them cannot be read, about each."""
        import duckdb

        paths = dict(zip(map(str, self.lake.local(entries)), entries, strict=True))
        empty = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        files = engine.literal([*self.lake.local(entries)])
        query = f"""
            SELECT filename, count(*) FROM (
                SELECT {empty}, CAST(NULL AS VARCHAR) AS filename WHERE false
                UNION ALL BY NAME
                SELECT * FROM read_parquet({files}, union_by_name = true, filename = true, hive_partitioning = false)
            ) WHERE {condition} GROUP BY filename"""
        try:
            rows = self.con.execute(query).fetchall()
        except duckdb.Error as error:
            if len(entries) > 1:
                for entry in entries:
                    self._ask([entry], columns, condition, result)
            elif self.lake.stat(entries[0].key) is not None:
                result.unreadable[entries[0].key] = " ".join(str(error).split())[:200]
            return
        result.found |= {paths[path].key: count for path, count in rows}

    def _in_tables(self) -> str:
        return f"user_id IN ({', '.join(map(_quoted, sorted(self.people.names)))}) OR {_any('properties', self.people.texts)}"

    def _in_log(self) -> str:
        hexed = [text.hex().upper() for text in self.people.inner]
        payload, key, value = (_any(f"hex({column})", hexed) for column in ("payload", "key", "item.value"))
        name = _any("item.name", [text.decode("utf-8", "replace") for text in self.people.inner])
        return f"""{self._in_tables()}
            OR (payload IS NOT NULL AND {payload}) OR (key IS NOT NULL AND {key})
            OR (len(headers) > 0 AND len(list_filter(headers, lambda item: {value} OR {name})) > 0)"""


def _any(column: str, texts: Sequence[str]) -> str:
    """A condition: the column contains one of these texts."""
    if len(texts) <= FEW:
        found = " OR ".join(f"contains({column}, {_quoted(text)})" for text in texts)
    else:
        found = f"regexp_matches({column}, {_quoted('|'.join(map(_pattern, texts)))})"
    return f"coalesce({found}, false)"


def _pattern(text: str) -> str:
    return "".join(re.escape(character) if character.isascii() else character for character in text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        if batch and (len(batch) >= FILES_AT_ONCE or size + entry.size > BYTES_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch
