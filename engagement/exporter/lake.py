"""What the lake says: freshness of every asset, what waits, what a gate holds. Looked at every few seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from engagement.exporter import series
from engagement.exporter.series import Sample, sample
from engagement.freshness import ages
from engagement.freshness.ages import Log, Seen
from engagement.freshness.sla import Sla
from engagement.model import units
from engagement.tables.context import TableContext
from engagement.verdicts import quarantine
from engagement.waiting import backlog, recent
from engagement.waiting.waits import Waiting


def look(context: TableContext, log: Log, slas: Mapping[str, Sla], seen: Seen, now: datetime) -> Iterator[Sample]:
    """One look; `log` is what the broker said last. Raises what the lake raises."""
    waiting = recent.compute(context, now)
    yield from freshness(ages.judge(ages.lacking(context, waiting, now, seen), log, slas, now), slas)
    yield from _waits(context, waiting, now)
    newest = context.index.newest_received_at()
    yield from sample(series.NEWEST, newest.timestamp() if newest else None)
    yield from _newest_event(context, now)
    held = Counter(incident.unit.partition("/")[0] for incident in quarantine.held(context.lake))
    for asset in ("events", "session_fragments", "user_activity", "sessions", "hourly_engagement", "daily_engagement"):
        yield from sample(series.HELD, held[asset], asset)


def freshness(found: Iterable[ages.Age], slas: Mapping[str, Sla]) -> Iterator[Sample]:
    """Ages, bounds and states."""
    for item in found:
        yield from sample(series.AGE, None if item.age is None else item.age.total_seconds(), item.asset, item.lane)
        yield from sample(series.STATE, int(item.state), item.asset, item.lane)
        for level, bound in zip(("warn", "fail"), slas[item.asset].bounds(late=item.lane == "late"), strict=True):
            yield from sample(series.SLA, None if bound is None else bound.total_seconds(), item.asset, item.lane, level)


def _waits(context: TableContext, waiting: Waiting, now: datetime) -> Iterator[Sample]:
    for lane in ("live", "late"):
        hours = [hour for hour in waiting.hours if units.is_late(hour, now) == (lane == "late")]
        days = [day for day in waiting.days if units.is_late(units.hours_of(day)[-1], now) == (lane == "late")]
        yield from sample(series.WAITING, len(hours), "hour", lane)
        yield from sample(series.WAITING, len(days), "day", lane)
        yield from sample(series.WAITING_ROWS, backlog.measure(context, hours).rows, lane)
    yield from sample(series.TOO_LATE, len(waiting.final))


def _newest_event(context: TableContext, now: datetime) -> Iterator[Sample]:
    """From the footers of the events of the live hours and of the next, for phones whose clocks are ahead."""
    found = []
    for hour in (units.floor_hour(now) + number * units.HOUR for number in (-1, 0, 1)):
        for slot in units.slots_of(hour, context.format.slot_minutes):
            facts = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, slot)))
            found += [datetime.fromisoformat(facts["max_event_time"])] if facts.get("max_event_time") else []
    yield from sample(series.NEWEST_EVENT, max(found).timestamp() if found else None)
