"""What all assets share: their groups, freshness SLAs and column schemas as Dagster shows them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from dagster import BackfillPolicy, FreshnessPolicy, TableColumn, TableSchema

from engagement.tables import schemas

LIVE_SLA = FreshnessPolicy.time_window(fail_window=timedelta(minutes=10), warn_window=timedelta(minutes=5))
"""Raw and hourly assets: refreshed about every minute while events arrive."""

DAY_SLA = FreshnessPolicy.time_window(fail_window=timedelta(minutes=20), warn_window=timedelta(minutes=10))
"""Day rows: at most one run a minute, after the hours."""

BACKFILL = BackfillPolicy.multi_run(max_partitions_per_run=24)
"""A backfill from the UI runs in chunks of a day of hours, each one contiguous range run."""


def column_schema(table: str) -> dict[str, Any]:
    """Asset metadata with the table's columns."""
    columns = [TableColumn(name, schemas.DUCKDB_TYPES[kind]) for name, kind in schemas.TABLES[table].items()]
    return {"dagster/column_schema": TableSchema(columns=columns), "dagster/table_name": table}
