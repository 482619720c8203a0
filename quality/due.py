"""What is to be checked: settled hours and days whose rows are others than those that were judged last.

Computed from the lake, never from a cursor: each result holds a digest of the object versions it was judged on. An hour that
stragglers still change with each flush, the previous one, is judged when it settles, and again when it has left the live lane
(R9): else Spark would run without a pause. The last days are looked at each time, older ones within the lateness horizon in
turns; what lies before is checked when somebody asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from engagement.lake import Entry
from engagement.model import units
from engagement.tables.context import TableContext
from engagement.verdicts import records
from engagement.verdicts.result import Period
from engagement.waiting import settled
from engagement.waiting.waits import Waiting
from quality import looking
from quality.checking import suites_of
from quality.constraints import Suite

RECENT_DAYS = 2
"""Days before today that every look takes in."""
TURN_SECONDS = 30
RAW = "raw_events"
TABLES = (units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS, units.BIG_TABLE)

Pair = tuple[Period, Suite]


def pairs(context: TableContext, waiting: Waiting, now: datetime, *, ask_broker: bool = True) -> list[Pair]:
    """The suites that are due, newest periods first. Hours and days that wait for a refresh are not: it will change them."""
    days = looked_at(now, context.settings.lateness_days)
    read = settled.read_to(context, now, ask_broker=ask_broker)
    hours = settled.settled_hours(days, read, now)
    checked = _checked(context, days)
    sources, stat = context.index.sources(), _listed(context, days)
    found: list[tuple[Period, str]] = []
    for period in sorted([*map(Period, hours), *_settled_days(days, read, now)], key=lambda item: (item.start, item.kind), reverse=True):
        if _is_new(_tables(context, period, waiting, stat), checked.get((period, "tables"), ()), live=_is_live(period, now)):
            found.append((period, "tables"))
        if period.kind == "hour" and _is_new(looking.raw_inputs(context, period, sources), checked.get((period, RAW), ())):
            found.append((period, RAW))
    suites = suites_of(context)
    return [
        (period, suite)
        for period, group in found
        for suite in suites
        if suite.period == period.kind and (suite.asset == RAW) == (group == RAW)
    ]


def looked_at(now: datetime, horizon_days: int) -> list[date]:
    """The UTC days of this look: the last ones, and one of those before in its turn."""
    today = now.astimezone(UTC).date()
    recent = [today - timedelta(days=number) for number in range(RECENT_DAYS + 1)]
    older = max(0, horizon_days - RECENT_DAYS)
    turn = int(now.timestamp()) // TURN_SECONDS
    return sorted([*recent, *([today - timedelta(days=RECENT_DAYS + 1 + turn % older)] if older else [])])


def bounded(found: Collection[Pair], most_periods: int) -> list[Pair]:
    """The suites of the first so many periods: one start of Spark serves them all, and none waits for a long history."""
    chosen: dict[Period, None] = {}
    for period, _ in found:
        if period in chosen or len(chosen) < most_periods:
            chosen[period] = None
    return [(period, suite) for period, suite in found if period in chosen]


def _settled_days(days: Iterable[date], read: dict[str, datetime | None], now: datetime) -> list[Period]:
    ends = [(day, datetime(day.year, day.month, day.day, tzinfo=UTC) + units.DAY) for day in days]
    return [Period.of_day(day) for day, end in ends if settled.is_settled(end, read.values(), now)]


def _listed(context: TableContext, days: Iterable[date]) -> Callable[[str], Entry | None]:
    """What lies in the tables of these days, by one listing a table and day."""
    folders = [f"{table}/year={day:%Y}/month={day:%m}/day={day:%d}" for day in days for table in TABLES]
    return {entry.key: entry for folder in folders for entry in context.lake.list(folder)}.get


def _tables(context: TableContext, period: Period, waiting: Waiting, stat: Callable[[str], Entry | None]) -> str:
    """Digest of a period's tables; empty while it waits for a refresh."""
    day = period.start.date()
    if period.kind == "day":
        waits = day in waiting.days or any(hour.date() == day for hour in waiting.hours)
    else:
        waits = period.start in waiting.hours
    return "" if waits else looking.table_inputs(context, period, stat)


def _is_live(period: Period, now: datetime) -> bool:
    """Whether each flush may still change it."""
    return not units.is_late(period.start if period.kind == "hour" else units.hours_of(period.start.date())[-1], now)


def _is_new(inputs: str, judged: Collection[str], *, live: bool = False) -> bool:
    """Whether what is there now was never judged; of what is live, whether nothing was."""
    return inputs != "" and inputs not in judged and not (live and judged)


def _checked(context: TableContext, days: list[date]) -> Mapping[tuple[Period, str], set[str]]:
    """Period and group -> digests of all that was judged."""
    found: defaultdict[tuple[Period, str], set[str]] = defaultdict(set)
    for day in days:
        for result in records.results(context.lake, day, day):
            if result.inputs and result.engine in ("deequ", "duckdb"):
                found[result.period, RAW if result.asset == RAW else "tables"].add(result.inputs)
    return found
