"""All tables of an hour or a day in order, without Dagster: what the assets do step by step, for tests and benches.

The assets call the same builders one by one; this module only fixes their order in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from itertools import groupby

from engagement.model import units
from engagement.tables import activity, big_table, bulk, events, fragments, sessions
from engagement.tables.context import TableContext
from engagement.waiting import waits


def hours(context: TableContext, wanted: Sequence[datetime], *, rebuild: bool = False) -> None:
    """Refresh (or rebuild from raw) every table of these hours."""
    slots = [slot for hour in wanted for slot in units.slots_of(hour, context.format.slot_minutes)]
    for table in (events, fragments, activity, sessions):
        bulk.required(table.refresh_all(context, slots, rebuild=rebuild))
    for day, found in groupby(sorted(wanted), key=lambda hour: hour.date()):
        big_table.refresh_hours(context, day, list(found), rebuild=rebuild)


def days(context: TableContext, wanted: Sequence[date], *, rebuild: bool = False) -> None:
    """Refresh (or rebuild from raw) every table of these UTC days, day rows too."""
    hours(context, [hour for day in wanted for hour in units.hours_of(day)], rebuild=rebuild)
    for day in wanted:
        big_table.refresh_day(context, day, rebuild=rebuild)


def until_nothing_waits(context: TableContext, rounds: int = 20) -> int:
    """Refresh what waits, round by round; returns the rounds it took. Stops after `rounds`."""
    for number in range(rounds):
        waiting = waits.compute(context)
        if not waiting:
            return number
        hours(context, list(waiting.hours))
        for day in {*waiting.days, *(hour.date() for hour in waiting.hours)}:
            big_table.refresh_day(context, day)
    return rounds
