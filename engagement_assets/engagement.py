"""`hourly_engagement` and `daily_engagement`: the one big table, hour rows and day rows."""

from datetime import date, datetime
from itertools import groupby

from dagster import AssetExecutionContext, AssetsDefinition

from engagement.model import units
from engagement.tables import big_table
from engagement_assets import steps
from engagement_assets.common import table_asset
from engagement_assets.partitions import Partitions, parse_days, parse_hours
from resources.names import day_key, hour_key
from resources.tables import Tables


def assets(partitions: Partitions) -> list[AssetsDefinition]:
    """The two assets of the big table."""

    @table_asset(
        "hourly_engagement",
        units.BIG_TABLE,
        deps=["sessions", "user_activity"],
        partitions_def=partitions.hours,
        group="aggregated",
        description="Hour rows of daily_aggregates_with_dimensions, every subset of the dimensions also as ALL (R8).",
    )
    def hourly_engagement(context: AssetExecutionContext, tables: Tables) -> None:
        hours = parse_hours(steps.asked_keys(context))
        for day, found in groupby(hours, key=lambda hour: hour.date()):
            with steps.contained(context, tables, day_key(day)):
                _refresh_hours(context, tables, day, list(found))
        steps.fail_at_the_end(context, tables)

    @table_asset(
        "daily_engagement",
        units.BIG_TABLE,
        deps=["sessions", "user_activity"],
        partitions_def=partitions.days,
        group="aggregated",
        description="Day rows of daily_aggregates_with_dimensions; active_users is DAU, counted on user facts (R8).",
    )
    def daily_engagement(context: AssetExecutionContext, tables: Tables) -> None:
        for day in parse_days(steps.asked_keys(context)):
            with steps.contained(context, tables, day_key(day)), steps.judged(context, tables) as opened:
                steps.report(context, tables, day_key(day), [big_table.refresh_day(opened, day, rebuild=steps.is_rebuild(context))])
        steps.fail_at_the_end(context, tables)

    return [hourly_engagement, daily_engagement]


def _refresh_hours(context: AssetExecutionContext, tables: Tables, day: date, hours: list[datetime]) -> None:
    with steps.judged(context, tables) as opened:
        outcomes = big_table.refresh_hours(opened, day, hours, rebuild=steps.is_rebuild(context))
    for hour, outcome in outcomes.items():
        steps.report(context, tables, hour_key(hour), [outcome])
