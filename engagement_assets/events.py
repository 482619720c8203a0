"""`events`, `session_fragments`, `user_activity`: what one hour's records say."""

from collections.abc import Callable
from datetime import datetime

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition

from engagement.tables import activity, bulk, events, fragments, units
from engagement.tables.context import TableContext
from engagement.tables.objects import Outcome
from engagement_assets import steps
from engagement_assets.common import table_asset
from engagement_assets.partitions import RAW_REACH, Partitions, parse_hours
from resources.tables import Tables

Refresh = Callable[[TableContext, datetime], Outcome]
Rebuild = Callable[[TableContext, list[datetime]], bulk.Results]


def by_slot(context: AssetExecutionContext, tables: Tables, refresh: Refresh, rebuild: Rebuild) -> None:
    """Make every slot of the run's hours: an hour at a time, or all in one pass where they are rebuilt.

    One hour's failure stops no other.
    """
    keys = steps.asked_keys(context)
    slots = {key: units.slots_of(hour, tables.context.format.slot_minutes) for key, hour in zip(keys, parse_hours(keys), strict=True)}
    results: bulk.Results = {}
    if steps.is_rebuild(context):
        with steps.judged(context, tables, None) as opened:
            results = rebuild(opened, [slot for found in slots.values() for slot in found])
    for key, wanted in slots.items():
        with steps.contained(context, tables, key), steps.judged(context, tables, key) as opened:
            made = bulk.required({slot: results[slot] for slot in wanted if slot in results})
            steps.report(context, tables, key, [made[slot] if slot in made else refresh(opened, slot) for slot in wanted])
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
        by_slot(context, tables, events.refresh, events.rebuild)

    @table_asset(
        "session_fragments",
        units.FRAGMENTS,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="What one slot alone says about one owner's session: start, end, counts, ordered path (R7).",
    )
    def fragments_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, fragments.refresh, fragments.rebuild)

    @table_asset(
        "user_activity",
        units.ACTIVITY,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="One row per user, dimensions and slot, with counts: what distinct counts are made from (R8).",
    )
    def activity_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, activity.refresh, activity.rebuild)

    return [events_asset, fragments_asset, activity_asset]
