"""What all table assets share: their freshness SLAs, backfill policy, and column schemas as Dagster shows them."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from dagster import AssetDep, AssetsDefinition, BackfillPolicy, FreshnessPolicy, PartitionsDefinition, TableColumn, TableSchema, asset

from engagement.model import schemas
from engagement.model.model import Model

LIVE_SLA = FreshnessPolicy.time_window(fail_window=timedelta(minutes=10), warn_window=timedelta(minutes=5))
"""Raw and hourly assets: refreshed about every minute while events arrive."""

DAY_SLA = FreshnessPolicy.time_window(fail_window=timedelta(minutes=20), warn_window=timedelta(minutes=10))
"""Day rows: at most one run a minute, after the hours."""

TABLE_NAME = "dagster/table_name"

BACKFILL = BackfillPolicy.multi_run(max_partitions_per_run=24)
"""A backfill from the UI runs in chunks of a day of hours, each one contiguous range run."""


def table_asset(
    name: str,
    table: str,
    *,
    deps: Sequence[str | AssetDep],
    partitions_def: PartitionsDefinition[str],
    group: str,
    description: str,
    sla: FreshnessPolicy = LIVE_SLA,
) -> Callable[[Callable[..., None]], AssetsDefinition]:
    """The `@asset` of one of our tables."""
    return asset(
        name=name,
        deps=deps,
        partitions_def=partitions_def,
        group_name=group,
        description=description,
        backfill_policy=BACKFILL,
        freshness_policy=sla,
        kinds={"duckdb", "parquet"},
        metadata={TABLE_NAME: table},
    )


def with_columns(found: AssetsDefinition, model: Model) -> AssetsDefinition:
    """The asset with its table's columns, as the declared model makes them, in its metadata."""
    return found.map_asset_specs(lambda spec: spec.merge_attributes(metadata=column_schema(spec.metadata[TABLE_NAME], model)))


def column_schema(table: str, model: Model) -> dict[str, Any]:
    """Asset metadata with the table's columns."""
    columns = [
        TableColumn(name, schemas.DUCKDB_TYPES[column.kind], description=column.comment)
        for name, column in schemas.columns(table, model).items()
    ]
    return {"dagster/column_schema": TableSchema(columns=columns)}
