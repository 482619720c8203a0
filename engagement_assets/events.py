"""`events`, `session_fragments`, `user_activity`: what one hour's records say."""

from collections.abc import Callable
from datetime import datetime

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, asset

from engagement.tables import activity, events, fragments, units
from engagement.tables.objects import Outcome
from engagement_assets import steps
from engagement_assets.common import BACKFILL, LIVE_SLA, column_schema
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

    @asset(
        name="events",
        partitions_def=partitions.hours,
        deps=[AssetDep("raw_events", partition_mapping=RAW_REACH)],
        group_name="processed",
        backfill_policy=BACKFILL,
        freshness_policy=LIVE_SLA,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(units.EVENTS),
        description="One row per event: typed, enriched, copies dropped (R6). By event hour.",
    )
    def events_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, events.refresh)

    @asset(
        partitions_def=partitions.hours,
        deps=["events"],
        group_name="processed",
        backfill_policy=BACKFILL,
        freshness_policy=LIVE_SLA,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(units.FRAGMENTS),
        description="What one slot alone says about one owner's session: start, end, counts, ordered path (R7).",
    )
    def session_fragments(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, fragments.refresh)

    @asset(
        partitions_def=partitions.hours,
        deps=["events"],
        group_name="processed",
        backfill_policy=BACKFILL,
        freshness_policy=LIVE_SLA,
        kinds={"duckdb", "parquet"},
        metadata=column_schema(units.ACTIVITY),
        description="One row per user, dimensions and slot, with counts: what distinct counts are made from (R8).",
    )
    def user_activity(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, activity.refresh)

    return [events_asset, session_fragments, user_activity]
