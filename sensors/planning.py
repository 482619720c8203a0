"""Which runs to ask for, as a plain function of what waits, what runs and what failed (design §7, R9)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from engagement.model import units
from engagement.waiting.waits import Waiting

Lane = Literal["live", "late", "day"]

DAY_PACE = timedelta(minutes=1)
"""Day rows are refreshed at most this often, so that they never hold up the live hour."""

QUIET_PACE = timedelta(minutes=4)
"""Where nothing arrives the live window and today are refreshed this often all the same: a green badge means that the path works."""

LATE_RANGES = 10
"""So many contiguous ranges of late hours are asked for at once, the newest first."""

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


@dataclass(frozen=True, slots=True)
class LatePace:
    """How long stragglers are gathered before the hours that they touch are refreshed (R9)."""

    rest: timedelta = timedelta(minutes=15)
    rows: int = 100_000
    """So many waiting rows of old hours end the rest."""


@dataclass(frozen=True, slots=True)
class Stragglers:
    """What waits of the late hours: raw rows, and hours that no row of the big table shows yet."""

    rows: int = 0
    unseen: frozenset[datetime] = frozenset()


def plan(
    waiting: Waiting,
    now: datetime,
    busy: Collection[Request],
    hour_runs: Sequence[PastRun] = (),
    day_runs: Sequence[PastRun] = (),
    stragglers: Stragglers = Stragglers(),
    pace: LatePace = LatePace(),
) -> list[Request]:
    """What to ask for now: at most one run of the lanes live and day, and a gathering of late ranges.

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
    late = [hour for hour in hours if units.is_late(hour, now)]
    if not gathered(now, hour_runs, stragglers, pace):
        late = [hour for hour in late if hour in stragglers.unseen or _has_failed(hour, hour_runs)]
    requests = [
        *_newest("live", [*previous, *(hour for hour in hours if not units.is_late(hour, now))], units.HOUR),
        *_newest("late", late, units.HOUR, LATE_RANGES),
        *_newest("day", days if rested else [], units.DAY),
    ]
    return [request for request in requests if request.lane not in lanes]


def quiet(
    now: datetime,
    requests: Collection[Request],
    busy: Collection[Request],
    hour_runs: Sequence[PastRun] = (),
    day_runs: Sequence[PastRun] = (),
) -> list[Request]:
    """What to ask for besides `requests`, though nothing of it waits: the live hours and today, where no run was over them lately.

    Nothing while live events are worked off: their runs say the same.
    """
    if {request.lane for request in (*requests, *busy)} & {"live", "day"}:
        return []
    hour, today = units.floor_hour(now), units.floor_day(now)
    live = [run.started for run in hour_runs if run.first <= hour <= run.last or run.first <= hour - units.HOUR <= run.last]
    days = [run.started for run in day_runs if run.first <= today <= run.last]
    found: list[Request] = []
    if _rested(now, live) and retry_at(hour, hour_runs) <= now:
        found.append(Request("live", hour - units.HOUR, hour))
    if _rested(now, days) and retry_at(today, day_runs) <= now:
        found.append(Request("day", today, today))
    return found


def _rested(now: datetime, started: Sequence[datetime]) -> bool:
    return all(now - instant >= QUIET_PACE for instant in started)


def gathered(now: datetime, hour_runs: Sequence[PastRun], stragglers: Stragglers, pace: LatePace) -> bool:
    """Whether stragglers have been gathered long enough: the last late run was long ago, or many rows wait.

    What never was on the page is no straggler, nor is what failed; both are asked for without it. A late run
    that failed starts no rest.
    """
    last = max((run.started for run in hour_runs if run.succeeded and units.is_late(run.last, run.started)), default=None)
    return last is None or now - last >= pace.rest or stragglers.rows >= pace.rows


def _has_failed(unit: datetime, runs: Sequence[PastRun]) -> bool:
    """Whether the last run over a unit failed: then its retry delay is its pace."""
    last = max((run for run in runs if run.first <= unit <= run.last), key=lambda run: run.ended, default=None)
    return last is not None and last.failed_on(unit)


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


def _newest(lane: Lane, found: Iterable[datetime], step: timedelta, ranges: int = 1) -> list[Request]:
    return [Request(lane, first, last) for first, last in reversed(units.contiguous(found, step)[-ranges:])]


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
