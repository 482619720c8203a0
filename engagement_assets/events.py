"""`events`, `session_fragments`, `user_activity`: what one hour's records say."""

from collections.abc import Callable
from datetime import datetime

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition

from engagement.tables import activity, events, fragments, units
from engagement.tables.objects import Outcome
from engagement_assets import steps
from engagement_assets.common import table_asset
from engagement_assets.partitions import RAW_REACH, Partitions, parse_hours
from resources.tables import Tables

Refresh = Callable[..., Outcome]


def by_slot(context: AssetExecutionContext, tables: Tables, refresh: Refresh) -> None:
    """Refresh every slot of the run's hours with one builder, an hour at a time; one hour's failure stops no other."""
    keys = steps.asked_keys(context)
    for key, hour in zip(keys, parse_hours(keys), strict=True):
        slots: list[datetime] = units.slots_of(hour, tables.context.format.slot_minutes)
        with steps.contained(context, tables, key), steps.judged(context, tables, key) as opened:
            steps.report(context, tables, key, [refresh(opened, slot, rebuild=steps.is_rebuild(context)) for slot in slots])
    steps.fail_at_the_end(context, tables)


def assets(partitions: Partitions) -> list[AssetsDefinition]:
    """The assets made from one event hour's raw rows alone."""

    @table_asset(
        "events",
        units.EVENTS,
        deps=[AssetDep("raw_events", partition_mapping=RAW_REACH)],
        partitions_def=partitions.hours,
        group="processed",
        description="One row per event: typed, enriched, copies dropped (R6). By event hour.",
    )
    def events_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, events.refresh)

    @table_asset(
        "session_fragments",
        units.FRAGMENTS,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="What one slot alone says about one owner's session: start, end, counts, ordered path (R7).",
    )
    def fragments_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, fragments.refresh)

    @table_asset(
        "user_activity",
        units.ACTIVITY,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="One row per user, dimensions and slot, with counts: what distinct counts are made from (R8).",
    )
    def activity_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, activity.refresh)

    return [events_asset, fragments_asset, activity_asset]
