"""Which runs to ask for, as a plain function of what waits, what runs and what failed (design §7, R9)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from engagement.tables import units
from engagement.tables.waits import Waiting

Lane = Literal["live", "late", "day"]

DAY_PACE = timedelta(minutes=1)
"""Day rows are refreshed at most this often, so that they never hold up the live hour."""

FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Request:
    """One contiguous range run: hours (lanes live and late) or midnights of days (lane day), both ends included."""

    lane: Lane
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class PastRun:
    """A finished run and the units it was asked for, both ends included."""

    first: datetime
    last: datetime
    started: datetime
    ended: datetime
    succeeded: bool
    failed: frozenset[datetime] | None = None
    """The units that failed; None where the run could not tell, then all of them did."""

    def failed_on(self, unit: datetime) -> bool:
        """Whether this unit was not brought up to date."""
        return not self.succeeded and (self.failed is None or unit in self.failed)


def plan(
    waiting: Waiting, now: datetime, busy: Collection[Request], hour_runs: Sequence[PastRun] = (), day_runs: Sequence[PastRun] = ()
) -> list[Request]:
    """What to ask for now, at most one run a lane.

    The current and the previous hour (and the next, for clocks ahead) are live, older ones late. A lane with a
    run under way (`busy`) gets nothing more, and no hour is asked for twice: a live hour may have become a late
    one while its run goes on. Units whose last runs failed wait until `retry_at`.
    """
    lanes = {request.lane for request in busy}
    taken = [(request.first, request.last) for request in busy if request.lane != "day"]
    live_from = units.floor_hour(now) - units.HOUR
    free = [hour for hour in waiting.hours if not any(first <= hour <= last for first, last in taken)]
    hours = [hour for hour in free if retry_at(hour, hour_runs) <= now]
    # A running session usually began in the hour before: take it along, unchanged tables cost nothing.
    along = live_from + units.HOUR in hours and live_from not in waiting.hours
    previous = [live_from] if along and retry_at(live_from, hour_runs) <= now else []
    days = [day for day in map(_midnight, waiting.days) if retry_at(day, day_runs) <= now]
    rested = all(now - run.started >= DAY_PACE for run in day_runs)
    requests = [
        _newest("live", [*previous, *(hour for hour in hours if hour >= live_from)], units.HOUR),
        _newest("late", [hour for hour in hours if hour < live_from], units.HOUR),
        _newest("day", days if rested else [], units.DAY),
    ]
    return [request for request in requests if request and request.lane not in lanes]


def retry_at(unit: datetime, runs: Sequence[PastRun]) -> datetime:
    """When a unit may be asked for again: at once, or after a delay that doubles with each failure in a row."""
    at, failures = datetime.min.replace(tzinfo=UTC), 0
    for run in sorted(runs, key=lambda run: run.ended):
        if run.first <= unit <= run.last:
            failures = failures + 1 if run.failed_on(unit) else 0
            at = run.ended + retry_delay(failures)
    return at


def retry_delay(failures: int) -> timedelta:
    """Delay after so many failures in a row."""
    return min(FIRST_DELAY * 2 ** min(failures - 1, 20), LONGEST_DELAY) if failures else timedelta(0)


def _newest(lane: Lane, found: list[datetime], step: timedelta) -> Request | None:
    if not found:
        return None
    first, last = units.contiguous(found, step)[-1]
    return Request(lane, first, last)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
