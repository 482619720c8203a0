"""Reads every table of a Glue database with awswrangler, rows from S3, and leaves them as Parquet. Run in its own packages."""

from __future__ import annotations

import sys

import awswrangler as wr

database, folder, *tables = sys.argv[1:]
for table in tables:
    assert wr.catalog.get_partitions(database, table)
    wr.s3.read_parquet_table(database=database, table=table).to_parquet(f"{folder}/{table}.parquet", coerce_timestamps="us")
