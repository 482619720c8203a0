"""Reads tables with Spark by the columns, types and places that Glue gave (JSON); leaves the rows as Parquet. Run in its own packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pyspark.sql import SparkSession

given, folder = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    .config("spark.sql.shuffle.partitions", "1")
    .getOrCreate()
)
for name, table in json.loads(Path(given).read_text()).items():
    rows = spark.read.schema(table["columns"]).option("basePath", table["place"]).parquet(*table["partitions"])
    rows.coalesce(1).write.parquet(f"{folder}/{name}.parquet")
spark.stop()
