"""`sessions`: fragments stitched across slots, hours and midnights (R7)."""

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition

from engagement.model import units
from engagement.tables import sessions
from engagement_assets.common import table_asset
from engagement_assets.events import by_slot
from engagement_assets.partitions import SESSIONS_REACH, Partitions
from resources.tables import Tables


def assets(partitions: Partitions) -> list[AssetsDefinition]:
    """The sessions asset."""

    @table_asset(
        "sessions",
        units.SESSIONS,
        deps=[AssetDep("session_fragments", partition_mapping=SESSIONS_REACH)],
        partitions_def=partitions.hours,
        group="processed",
        description="Fragments of one owner joined wherever the gap is at most 30 minutes. By event hour of the start.",
    )
    def sessions_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, sessions.refresh_all)

    return [sessions_asset]
