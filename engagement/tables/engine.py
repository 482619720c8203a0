"""The engine: one in-memory DuckDB connection in UTC, and the SQL files it runs (docs/how-sessions-work.md)."""

from __future__ import annotations

import glob
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engagement.settings import Settings
from engagement.tables import schemas

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_SQL = Path(__file__).parent / "sql"
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


@cache
def sql(name: str) -> str:
    """Text of `sql/NAME.sql`."""
    return (_SQL / f"{name}.sql").read_text()


@cache
def reference_version() -> str:
    """Tells versions of the reference tables apart; stands in the footers of what was made with them (R10)."""
    digest = hashlib.sha256()
    for path in sorted(REFERENCE.glob("*.csv")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def relation(paths: list[Path], table: str) -> str:
    """A FROM-clause over a table's objects, by name and with the table's types; typed and empty without objects."""
    columns = schemas.TABLES[table]
    if not paths:
        typed = ", ".join(f"CAST(NULL AS {schemas.DUCKDB_TYPES[kind]}) AS {name}" for name, kind in columns.items())
        return f"(SELECT {typed} WHERE false)"
    return f"(SELECT {', '.join(columns)} FROM read_parquet({literal(paths)}, union_by_name = true, hive_partitioning = false))"


def literal(paths: list[Path]) -> str:
    """A SQL list of file names, whatever characters they have."""
    return "[" + ", ".join("'" + glob.escape(str(path)).replace("'", "''") + "'" for path in paths) + "]"


def table_of(con: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, Any], table: str) -> pa.Table:
    """The query's rows as an Arrow table with exactly the table's columns and types."""
    return con.sql(query, params=parameters).to_arrow_table().cast(schemas.arrow_schema(table))


def scalar(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    """The one value of a one-row query; the result is read to its end, so that the connection is free again."""
    return con.execute(query).fetchall()[0][0]
