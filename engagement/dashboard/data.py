"""What the page shows, as plain data: rows of the big table read through the views, and how fresh they are.

Every number is read as it stands, from the row of its ALL_… level; nothing is summed (R8).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import TypeVar

import duckdb
import pandas as pd
import pyarrow as pa

from engagement.dashboard import freshness
from engagement.dashboard.freshness import Consumer, Facts, Status
from engagement.errors import EngagementError
from engagement.lake import LAKE_JSON, connect
from engagement.model import declared, schemas, units
from engagement.settings import Settings
from engagement.tables.context import TableContext, open_tables
from engagement.tables.objects import Footers
from engagement.tables.views import open_views
from engagement.waiting import recent, waits

T = TypeVar("T")

ALL = {"device_type": "ALL_DEVICES", "app_version": "ALL_VERSIONS", "country": "ALL_COUNTRIES"}
"""Dimension -> the value of its rows over all values."""

SERIES_HOURS = 24

MEASURES = {
    "active_users": "active_users",
    "sessions": "total_sessions",
    "installs": "total_installs",
    "click_through": "notification_ctr",
    "median_session_seconds": "median_session_seconds",
    "bounce_rate": "bounce_rate",
}
"""What the page calls a number -> its column of the big table."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """One row of the big table; a period without a row has no events."""

    active_users: int = 0
    sessions: int = 0
    installs: int = 0
    click_through: float | None = None
    median_session_seconds: float | None = None
    bounce_rate: float | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one look at the lake shows. `series` has one row an hour, oldest first, the current hour last."""

    taken_at: datetime
    hour: datetime
    status: Status
    this_hour: Numbers = field(default_factory=Numbers)
    previous_hour: Numbers = field(default_factory=Numbers)
    today: Numbers = field(default_factory=Numbers)
    series: pd.DataFrame | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {name: (value,) for name, value in ALL.items()})


def choices(settings: Settings, now: datetime) -> Mapping[str, tuple[str, ...]]:
    """Dimension -> its values today and yesterday, ALL first, then by events; ALL alone where the lake cannot be read."""
    try:
        if _has_lake(settings):
            further = _further(settings)
            return _reading(settings, lambda con: _choices(con, further, now))
    except _unreadable():
        pass
    return {name: (value,) for name, value in ALL.items()}


def snapshot(
    settings: Settings,
    device: str,
    version: str,
    country: str,
    now: datetime,
    *,
    consumer: Consumer | None = None,
    footers: Footers | None = None,
) -> Snapshot:
    """One look at the lake; never raises for a lake that cannot be read, the status says it.

    `footers` may be kept between looks at the same lake, so that each footer is read once a version.
    """
    hour = units.floor_hour(now)
    try:
        if not _has_lake(settings):
            return Snapshot(now, hour, freshness.empty_lake(settings))
        # What waits before the numbers: they may then be newer than the status says, never older.
        with open_tables(settings) as context:
            if footers is not None:
                context.footers = footers
            status = freshness.judge(facts_of(context, consumer), settings, now)
        if status.kind == "empty":
            return Snapshot(now, hour, status)
        levels = _further(settings) | {"device_type": device, "app_version": version, "country": country}
        return _reading(settings, lambda con: _numbers(con, levels, now, status))
    except _unreadable() as error:
        return Snapshot(now, hour, freshness.failed(error))


def facts_of(context: TableContext, consumer: Consumer | None) -> Facts:
    """What the lake says about freshness: footers of the newest hour rows, what waits, the raw index."""
    waiting = recent.compute(context)
    keys = sorted(key for key in context.footers.listing(units.BIG_TABLE) if key.endswith("/hours.parquet"))
    covered = [
        datetime.fromisoformat(made["newest_received_at"])
        for key in keys[-2:]
        for made in context.footers.of(context.lake.stat(key)).get("hours", {}).values()
        if made.get("newest_received_at")
    ]
    newest = max(covered, default=None)
    return Facts(
        covered=newest,
        arrived=context.index.newest_received_at(),
        hours=waiting.hours,
        days=waiting.days,
        pending_since=_pending_since(context, waiting, newest),
        consumer=consumer,
    )


def _pending_since(context: TableContext, waiting: waits.Waiting, covered: datetime | None) -> datetime | None:
    """When the first raw object came that the newest waiting hours lack: told from objects received after `covered`."""
    hours = [hour for hour, why in waiting.hours.items() if why == "raw"][-2:]
    slots = [slot for hour in hours for slot in units.slots_of(hour, context.format.slot_minutes)]
    return min(
        (
            raw.first_received_at
            for slot in slots
            for raw in context.index.touching(slot)
            if raw.first_received_at and raw.last_received_at and (covered is None or raw.last_received_at > covered)
        ),
        default=None,
    )


def _has_lake(settings: Settings) -> bool:
    # Opening a lake that is not there would make one; a page must not.
    return connect(settings).stat(LAKE_JSON) is not None


def _reading(settings: Settings, read: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
    """What `read` finds through the views. An object replaced under the reader is read again once."""
    try:
        with open_views(settings, [schemas.NAMES[units.BIG_TABLE]]) as con:
            return read(con)
    except duckdb.Error:
        with open_views(settings, [schemas.NAMES[units.BIG_TABLE]]) as con:
            return read(con)


def _unreadable() -> tuple[type[Exception], ...]:
    """Errors of a lake that cannot be read now. Programming errors are not among them."""
    return EngagementError, OSError, duckdb.Error, sqlite3.Error, pa.ArrowException


def _numbers(con: duckdb.DuckDBPyConnection, levels: Mapping[str, str], now: datetime, status: Status) -> Snapshot:
    hour = units.floor_hour(now)
    hours, today = _rows(con, levels, now)
    return Snapshot(
        now,
        hour,
        status,
        this_hour=hours.get(hour, Numbers()),
        previous_hour=hours.get(hour - units.HOUR, Numbers()),
        today=today,
        series=_series(hours, hour),
        choices=_choices(con, {name: word for name, word in levels.items() if name not in ALL}, now),
    )


def _rows(con: duckdb.DuckDBPyConnection, levels: Mapping[str, str], now: datetime) -> tuple[dict[datetime, Numbers], Numbers]:
    """The hour rows of today and yesterday at these levels, and today's day row."""
    columns = ", ".join(MEASURES.values())
    found = con.execute(
        f"""SELECT year, month, day, hour, {columns} FROM daily_aggregates_with_dimensions
        WHERE {_two_days(now)} AND {" AND ".join(f"{name} = ${name}" for name in levels)}""",
        dict(levels),
    ).fetchall()
    hours: dict[datetime, Numbers] = {}
    today = Numbers()
    for year, month, day, hour, *values in found:
        start = units.floor_day(now).replace(year=year, month=month, day=day)
        numbers = Numbers(**dict(zip(MEASURES, values, strict=True)))
        if hour is not None:
            hours[start + hour * units.HOUR] = numbers
        elif start == units.floor_day(now):
            today = numbers
    return hours, today


def _further(settings: Settings) -> dict[str, str]:
    """Dimensions that the page does not offer, with the word of their rows over all values."""
    return {name: word for name, word in declared.load(settings).all_words.items() if name not in ALL}


def _choices(con: duckdb.DuckDBPyConnection, further: Mapping[str, str], now: datetime) -> dict[str, tuple[str, ...]]:
    found = {}
    for name, all_values in ALL.items():
        others = " AND ".join(f"{other} = '{value}'" for other, value in (ALL | dict(further)).items() if other != name)
        # Hour rows: they are there before the day's. Events are the one measure here that may be added.
        rows = con.execute(
            f"""SELECT {name} FROM daily_aggregates_with_dimensions
            WHERE {_two_days(now)} AND hour IS NOT NULL AND {name} <> '{all_values}' AND {others}
            GROUP BY {name} ORDER BY sum(total_events) DESC, {name}"""
        ).fetchall()
        found[name] = (all_values, *(value for (value,) in rows))
    return found


def _two_days(now: datetime) -> str:
    days: list[date] = [now.date(), now.date() - timedelta(days=1)]
    return "(" + " OR ".join(f"(year = {day.year} AND month = {day.month} AND day = {day.day})" for day in days) + ")"


def _series(hours: Mapping[datetime, Numbers], last: datetime) -> pd.DataFrame:
    """The last 24 hours; hours before the first that has a row are unknown, not zero."""
    starts = [last - number * units.HOUR for number in reversed(range(SERIES_HOURS))]
    first = min(hours, default=last)
    rows = [{"start": start} | asdict(hours.get(start, Numbers())) for start in starts if start >= first]
    frame = pd.DataFrame(rows, columns=["start", *MEASURES])
    for name in MEASURES:
        frame[name] = frame[name].astype("float64")
    frame["so_far"] = frame["start"] == pd.Timestamp(last)
    return frame
