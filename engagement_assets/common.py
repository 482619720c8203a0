"""What all assets share: their freshness policies, backfill policy, and column schemas as Dagster shows them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from dagster import (
    AssetDep,
    AssetsDefinition,
    AssetSpec,
    BackfillPolicy,
    FreshnessPolicy,
    PartitionsDefinition,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
    asset,
    map_asset_specs,
)

from engagement.freshness.sla import Sla
from engagement.model import schemas, units
from engagement.model.model import Model
from engagement.tables import lineage

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
) -> Callable[[Callable[..., None]], AssetsDefinition]:
    """The `@asset` of one of our tables."""
    return asset(
        name=name,
        deps=deps,
        partitions_def=partitions_def,
        group_name=group,
        description=description,
        backfill_policy=BACKFILL,
        kinds={"duckdb", "parquet"},
        metadata={TABLE_NAME: table},
    )


Defined = TypeVar("Defined", AssetsDefinition, AssetSpec)


def with_freshness(found: Sequence[Defined], slas: Mapping[str, Sla]) -> list[Defined]:
    """The assets with the policy of their SLA: how long after the last materialization Dagster's badge turns."""

    def policy(spec: AssetSpec) -> AssetSpec:
        sla = slas[spec.key.to_user_string()]
        return spec.replace_attributes(freshness_policy=FreshnessPolicy.time_window(fail_window=sla.made_fail, warn_window=sla.made_warn))

    return list(map_asset_specs(policy, found))


def with_columns(found: AssetsDefinition, model: Model) -> AssetsDefinition:
    """The asset with its table's columns, as the declared model makes them, and what each is made from, in its metadata."""

    def described(spec: AssetSpec) -> AssetSpec:
        table = spec.metadata[TABLE_NAME]
        behind = column_lineage(table, spec.key.to_user_string(), model)
        return spec.merge_attributes(metadata=column_schema(table, model, behind) | {"dagster/column_lineage": behind})

    return found.map_asset_specs(described)


ASSETS = {
    lineage.RAW: "raw_events", units.EVENTS: "events", units.FRAGMENTS: "session_fragments", units.ACTIVITY: "user_activity",
    units.SESSIONS: "sessions",
}  # fmt: skip
"""Where columns come from -> the asset that has them."""


def column_lineage(table: str, asset_name: str, model: Model) -> TableColumnLineage:
    """What each column is made from, read from the SQL; day rows are made from what hour rows are made from."""
    found = {
        name: [TableColumnDep(ASSETS[source], column) for source, column in behind if source in ASSETS and ASSETS[source] != asset_name]
        for name, behind in lineage.columns(table, model).items()
    }
    return TableColumnLineage(found)


def column_schema(table: str, model: Model, behind: TableColumnLineage) -> dict[str, Any]:
    """Asset metadata with the table's columns. What each is made from is in its description: the free UI draws no lineage of columns."""

    def described(name: str, comment: str) -> str:
        found = sorted(f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in behind.deps_by_column.get(name, ()))
        return f"{comment} ← {', '.join(found)}" if found else comment

    columns = [
        TableColumn(name, schemas.DUCKDB_TYPES[column.kind], description=described(name, column.comment))
        for name, column in schemas.columns(table, model).items()
    ]
    return {"dagster/column_schema": TableSchema(columns=columns)}
