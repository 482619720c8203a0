"""`events`, `session_fragments`, `user_activity`: what one hour's records say."""

import contextlib
from collections.abc import Callable

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition

from engagement.model import units
from engagement.tables import activity, bulk, events, fragments
from engagement_assets import steps
from engagement_assets.common import table_asset
from engagement_assets.partitions import RAW_REACH, Partitions, parse_hours
from resources.tables import Tables

RefreshAll = Callable[..., bulk.Results]
"""`refresh_all` of a table's module: (tables, slots, rebuild=…)."""


def by_slot(context: AssetExecutionContext, tables: Tables, refresh_all: RefreshAll) -> None:
    """Make every slot of the run's hours in one pass, then report hour by hour. One hour's failure stops no other."""
    keys = steps.asked_keys(context)
    slots = {key: units.slots_of(hour, tables.context.format.slot_minutes) for key, hour in zip(keys, parse_hours(keys), strict=True)}
    rebuild = steps.is_rebuild(context)
    results: bulk.Results = {}
    with steps.judged(context, tables) as opened:
        with contextlib.suppress(Exception):  # before any was made, as by a footer that cannot be read: hour by hour it shows whose
            results = refresh_all(opened, [slot for found in slots.values() for slot in found], rebuild=rebuild)
        for key, wanted in slots.items():
            with steps.contained(context, tables, key):
                found = {slot: results[slot] for slot in wanted} if results else refresh_all(opened, wanted, rebuild=rebuild)
                steps.report(context, tables, key, list(bulk.required(found).values()))
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
        by_slot(context, tables, events.refresh_all)

    @table_asset(
        "session_fragments",
        units.FRAGMENTS,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="What one slot alone says about one owner's session: start, end, counts, ordered path (R7).",
    )
    def fragments_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, fragments.refresh_all)

    @table_asset(
        "user_activity",
        units.ACTIVITY,
        deps=["events"],
        partitions_def=partitions.hours,
        group="processed",
        description="One row per user, dimensions and slot, with counts: what distinct counts are made from (R8).",
    )
    def activity_asset(context: AssetExecutionContext, tables: Tables) -> None:
        by_slot(context, tables, activity.refresh_all)

    return [events_asset, fragments_asset, activity_asset]
