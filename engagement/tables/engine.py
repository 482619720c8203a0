"""The engine: one in-memory DuckDB connection in UTC, and the SQL files it runs (docs/how-sessions-work.md)."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engagement.model import schemas, units
from engagement.model.model import Model, built_in
from engagement.model.rendering import render
from engagement.settings import Settings

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_SQL = Path(__file__).parent / "sql"
FILES = {
    units.EVENTS: "events", units.FRAGMENTS: "fragments", units.ACTIVITY: "user_activity", units.SESSIONS: "sessions",
    units.BIG_TABLE: "big_table",
}  # fmt: skip
"""Folder of a table -> the SQL file that makes its rows."""
REFERENCE = Path(__file__).parent / "reference"


def connect(settings: Settings) -> duckdb.DuckDBPyConnection:
    """A connection with the memory and threads that the settings allow."""
    import duckdb

    config: dict[str, Any] = {"memory_limit": settings.memory_limit, "TimeZone": "UTC", "autoinstall_known_extensions": False}
    if settings.threads:
        config["threads"] = settings.threads
    folder = settings.state_dir / "cache" / "spill"
    config["temp_directory"] = str(folder)
    return duckdb.connect(":memory:", config=config)


def sql(name: str, model: Model | None = None) -> str:
    """Text of `sql/NAME.sql` as it runs under the model (the built-in one unless given)."""
    return _rendered(name, model or built_in())


@lru_cache(maxsize=64)
def _rendered(name: str, model: Model) -> str:
    return render((_SQL / f"{name}.sql").read_text(), model)


@cache
def reference_version() -> str:
    """Tells versions of the reference tables apart; stands in the footers of what was made with them (R10)."""
    digest = hashlib.sha256()
    for path in sorted(REFERENCE.glob("*.csv")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def relation(
    paths: list[Path],
    table: str,
    model: Model | None = None,
    *,
    keys: Sequence[str] = (),
    retired: Mapping[str, str] | None = None,
    place: bool = False,
) -> str:
    """A FROM-clause over a table's objects, as `relation_of`; typed and empty without objects."""
    return relation_of(literal(paths) if paths else None, table, model, keys=keys, retired=retired, place=place)


def relation_of(
    files: str | None,
    table: str,
    model: Model | None = None,
    *,
    keys: Sequence[str] = (),
    retired: Mapping[str, str] | None = None,
    place: bool = False,
) -> str:
    """A FROM-clause over the files that a SQL literal names, by name and with the table's types; None: typed and empty.

    Objects of any age read together: a column that one does not have is null there, other types become the table's
    own. Of the big table's dimensions a missing one is its ALL word, for such a row is over all its values; of one that
    is declared no more (`retired`, name -> ALL word) only the rows over all its values are read.
    `keys` are the path keys to read as columns. `place` adds a column of this name: the row's number in its object,
    which is its place in the object's total order.
    """
    model = model or built_in()
    columns = schemas.columns(table, model)
    words = model.all_words | dict(retired or {}) if table == units.BIG_TABLE else {}
    types = schemas.duckdb_types(table, model) | dict.fromkeys(keys, "INTEGER") | dict.fromkeys(words, "VARCHAR")
    shown = ", ".join(_as_declared(name, types[name], columns.get(name), words.get(name)) for name in (*columns, *keys))
    if place:
        types, shown = types | {"place": "BIGINT"}, f"{shown}, place"
    dropped = " AND ".join(f"coalesce({name}, '{word}') = '{word}'" for name, word in words.items() if name not in columns)
    return f"(SELECT {shown} FROM ({_union(files, types, keys)}){f' WHERE {dropped}' if dropped else ''})"


def raw_relation(paths: list[Path]) -> str:
    """A FROM-clause over raw objects of any age: the columns of the raw writer, null where an object is older."""
    return f"({_union(literal(paths) if paths else None, schemas.raw(), ())})"


def _union(files: str | None, types: Mapping[str, str], keys: Sequence[str]) -> str:
    """All columns of the objects and at least those of `types`; the planner drops the branch that is always empty."""
    empty = f"SELECT {', '.join(f'CAST(NULL AS {kind}) AS {name}' for name, kind in types.items())} WHERE false"
    if files is None:
        return empty
    hive = ", ".join(f"'{key}': INTEGER" for key in keys)
    options = f"hive_partitioning = true, hive_types = {{{hive}}}" if keys else "hive_partitioning = false"
    place = ", file_row_number AS place" if "place" in types else ""
    return f"{empty} UNION ALL BY NAME SELECT *{place} FROM read_parquet({files}, union_by_name = true, {options})"


def _as_declared(name: str, kind: str, column: schemas.Column | None, word: str | None) -> str:
    """One column in its declared type. Only what the user declares can have had a type that does not fit."""
    if column is None or column.built_in:
        return f"CAST({name} AS {kind}) AS {name}"
    value = f"TRY_CAST({name} AS {kind})"
    return f"coalesce({value}, '{word}') AS {name}" if word else f"{value} AS {name}"


def literal(paths: list[Path]) -> str:
    """A SQL list of file names, whatever characters they have."""
    return "[" + ", ".join("'" + glob.escape(str(path)).replace("'", "''") + "'" for path in paths) + "]"


def table_of(con: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any], table: str, model: Model | None = None) -> pa.Table:
    """The query's rows as an Arrow table with exactly the table's columns and types."""
    schema = schemas.arrow_schema(table, model)
    return con.sql(query, params=parameters).to_arrow_table().select(schema.names).cast(schema)


def scalar(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The one value of a one-row query; the result is read to its end, so that the connection is free again."""
    return con.execute(query).fetchall()[0][0]
