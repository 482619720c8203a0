"""Plain compaction: many Parquet files become one, by other means. No order of chains, no footer, no claim, no fsync.

    python bench/peers/compaction.py polars|duckdb|pyarrow|iceberg FOLDER TARGET

The files are taken in the order of their names. `iceberg` appends them to a table of a catalog in SQLite, a million rows at
a time, as its Python library writes them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

GROUP = 1_000_000
BEGUN = "begun"


def main() -> None:
    """Compact with one of them."""
    name, folder, target = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    PEERS[name]([str(path) for path in sorted(folder.rglob("*.parquet"))], target)


def _begun() -> None:
    print(BEGUN, flush=True)


def polars(files: list[str], target: Path) -> None:
    """The streaming engine, two threads where there are two cores."""
    import polars as pl

    _begun()
    pl.scan_parquet(files).sink_parquet(target, compression="zstd", compression_level=1, row_group_size=GROUP, maintain_order=True)


def duckdb(files: list[str], target: Path) -> None:
    """COPY, the order kept."""
    import duckdb

    con = duckdb.connect(config={"memory_limit": "2GB"})
    _begun()
    con.read_parquet(files).to_view("files")
    con.execute(f"COPY files TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {GROUP})")


def pyarrow(files: list[str], target: Path) -> None:
    """Read until a row group is full, write it."""
    import pyarrow.parquet as pq

    _begun()
    writer: Any = None
    for table in _groups(files):
        writer = writer or pq.ParquetWriter(target, table.schema, compression="zstd")
        writer.write_table(table, row_group_size=table.num_rows)
    writer.close()


def iceberg(files: list[str], target: Path) -> None:
    """What an Iceberg table makes of the same rows."""
    from pyiceberg.catalog.sql import SqlCatalog

    target.mkdir()
    catalog = SqlCatalog("bench", uri=f"sqlite:///{target}/catalog.db", warehouse=f"file://{target}/warehouse")
    catalog.create_namespace("raw")
    _begun()
    made: Any = None
    for table in _groups(files):
        made = made or catalog.create_table("raw.archive", schema=table.schema)
        made.append(table)


def _groups(files: list[str]) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: list[pa.Table] = []
    for path in files:
        found.append(pq.read_table(path, partitioning=None))
        if sum(table.num_rows for table in found) >= GROUP:
            yield pa.concat_tables(found)
            found = []
    if found:
        yield pa.concat_tables(found)


PEERS: dict[str, Callable[[list[str], Path], None]] = {"polars": polars, "duckdb": duckdb, "pyarrow": pyarrow, "iceberg": iceberg}

if __name__ == "__main__":
    main()
