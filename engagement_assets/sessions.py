"""`sessions`: fragments stitched across slots, hours and midnights (R7)."""

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, asset

from engagement.tables import sessions, units
from engagement_assets.common import BACKFILL, LIVE_SLA, column_schema
from engagement_assets.events import by_slot
from engagement_assets.partitions import SESSIONS_REACH, Partitions
from resources.tables import Tables


def assets(partitions: Partitions) -> list[AssetsDefinition]:
    """The sessions asset."""

    @asset(
        name="sessions",
        partitions_def=partitions.hours,
        deps=[AssetDep("session_fragments", partition_mapping=SESSIONS_REACH)],
        group_name="processed",
        backfill_policy=BACKFILL,
        freshness_policy=LIVE_SLA,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(units.SESSIONS),
        description="Fragments of one owner joined wherever the gap is at most 30 minutes. By event hour of the start.",
    )
    def sessions_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, sessions.refresh)

    return [sessions_asset]
