"""Whether the last hour of a series is out of line: medians of the same hour of earlier weeks, on a level that follows the trend.

Pure: arrays in, a finding out. Everything is judged on logarithms, so that growth is a sum and half is as far as double. The
spread is the series' own, at that time of day, never less than what chance gives counts of that size. Medians throughout:
one holiday or outage in the history moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

WEEK, DAY = 168, 24
WEEKS = 6
"""Earlier weeks that say what is to be expected; more would remember a season that is over."""
LEAST_WEEKS = 3
HISTORY = 9 * WEEK
"""Hours before the judged one that are looked at."""
LEAST = 50.0
"""Expected counts below that are not judged: chance alone halves them."""
FAR, PERSISTENT, CHANGE = 6.5, 4.5, 0.22
"""Spreads of one hour, of each of two hours in a row, and the least change of the logarithm (a fifth): all that pages."""
STARTING = 0.25
"""Least spread while there are fewer weeks than LEAST_WEEKS, and days stand in for weeks."""
LEAST_SPREAD = 0.03
SHARE_CHANGE = 0.5
"""Of a share among the hours before: versions come and go by rollout, but not by half within an hour."""
RATIO_FAR, RATIO_CHANGE = 7.0, 0.25
RATIO_PAGES = 0.5
"""Change of the logarithm of a rate from which it pages: two thirds more."""
RIVAL_CHANGE = 0.5
DRIFT_CHANGE, DRIFT_FAR = 0.25, 5.0
SLIDES = 7
"""Weeks that tell usual growth and a slide apart."""

Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One number that is out of line: how many spreads, what it is, and between what it was expected."""

    spreads: float
    value: float
    low: float
    high: float
    why: str

    @property
    def change(self) -> float:
        """Logarithm of the value by what was expected."""
        import math

        middle = math.sqrt(max(self.low, 1e-12) * max(self.high, 1e-12))
        return math.log(max(self.value, 1e-12) / middle)

    @property
    def direction(self) -> Direction:
        """`up` or `down`."""
        return "up" if self.value > self.high else "down"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What was to be expected of an hour, as a logarithm, with its spread."""

    level: float
    spread: float
    weeks: int
    """Earlier weeks it rests on; 0 while days stand in for them."""


def volume(counts: np.ndarray) -> Finding | None:
    """The last hour of a series of counts, NaN where nothing is known; None where it is in line or cannot be judged."""
    now, before = _deviation(counts, 0), _deviation(counts, 1)
    if now is None:
        return None
    (gone, outlook), value = now, float(counts[-1])
    spreads = gone / outlook.spread
    persists = (
        before is not None and before[0] * gone > 0 and abs(before[0]) / before[1].spread >= PERSISTENT and abs(spreads) >= PERSISTENT
    )
    if abs(gone) < CHANGE or not (abs(spreads) >= FAR or persists):
        return None
    low, high = _range(outlook, PERSISTENT)
    rests = f"same hour of the last {outlook.weeks} weeks" if outlook.weeks else "same hour of the last days"
    return Finding(spreads, value, low, high, rests)


def share(counts: np.ndarray, totals: np.ndarray) -> Finding | None:
    """A part that fell away from the whole within an hour, as a version whose release went wrong; never one that rises."""
    import numpy as np

    if len(counts) < 2 * DAY or not totals[-1] > 0:
        return None
    logs = np.log((counts + 0.5) / (totals + 1.0))
    expected = float(np.median(logs[-4:-1]))
    if not np.exp(expected) * totals[-1] >= 2 * LEAST:
        return None
    steps = logs[3:-1] - np.median(np.stack([logs[:-4], logs[1:-3], logs[2:-2]]), axis=0)
    spread = max(_spread(steps[-3 * DAY :]), LEAST_SPREAD, float(np.sqrt(1.2 / (np.exp(expected) * totals[-1]))))
    gone = float(logs[-1]) - expected
    if gone > -SHARE_CHANGE or gone / spread > -FAR:
        return None
    whole = float(totals[-1])
    low, high = whole * np.exp(expected - PERSISTENT * spread), whole * np.exp(expected + PERSISTENT * spread)
    return Finding(gone / spread, float(counts[-1]), float(low), float(high), "its share in the hours before")


def ratio(values: np.ndarray, weights: np.ndarray) -> Finding | None:
    """A mean or rate out of line with the same hour of earlier weeks; `weights` are the counts below it."""
    import numpy as np

    if not weights[-1] >= LEAST or not values[-1] > 0:
        return None
    usable = np.isfinite(values) & (values > 0)
    logs = np.where(usable, np.log(np.where(usable, values, 1.0)), np.nan)
    past = [logs[-1 - WEEK * week] for week in range(1, WEEKS + 1) if len(logs) > WEEK * week]
    known = [value for value in past if np.isfinite(value)]
    if len(known) < LEAST_WEEKS:
        return None
    recent = logs[-1 - DAY : -1] - _shifted(logs, WEEK)[-1 - DAY : -1]
    level = float(np.median(known)) + (float(np.nanmedian(recent)) if np.isfinite(recent).sum() > DAY // 2 else 0.0)
    steps = (logs - _shifted(logs, WEEK))[-2 * WEEK : -1]
    spread = max(_spread(steps), LEAST_SPREAD, float(np.sqrt(2.0 / weights[-1])))
    gone = float(logs[-1]) - level
    if abs(gone) < RATIO_CHANGE or abs(gone) / spread < RATIO_FAR:
        return None
    low, high = np.exp(level - PERSISTENT * spread), np.exp(level + PERSISTENT * spread)
    return Finding(gone / spread, float(values[-1]), float(low), float(high), "same hour of earlier weeks, at the level of the last day")


def rival(rate: float, weight: float, rate_of_all: float) -> Finding | None:
    """A rate of one part beside that of the whole in the same hour: a release that is bad from its first hour has no history."""
    import numpy as np

    if weight < 2 * LEAST or not 0 < rate < 1 or not 0 < rate_of_all < 1:
        return None
    gone = float(np.log(rate / (1 - rate)) - np.log(rate_of_all / (1 - rate_of_all)))
    spread = float(np.sqrt(1 / (weight * rate_of_all * (1 - rate_of_all)) + 0.08**2))
    if abs(gone) < RIVAL_CHANGE or abs(gone) / spread < FAR:
        return None
    odds = rate_of_all / (1 - rate_of_all)
    low, high = (odds * np.exp(sign * PERSISTENT * spread) for sign in (-1, 1))
    return Finding(gone / spread, rate, float(low / (1 + low)), float(high / (1 + high)), "all others in the same hour")


def drift(counts: np.ndarray) -> Finding | None:
    """What slid away over weeks, each hour too little to be seen: two days beside those two weeks ago and the growth before that."""
    import numpy as np

    if len(counts) < SLIDES * WEEK + 2 * DAY or not np.nanmedian(counts[-2 * DAY :]) >= LEAST:
        return None
    logs = np.log(counts + 0.5)
    back = [np.nanmedian(logs[-2 * DAY :] - logs[-2 * DAY - WEEK * week : len(logs) - WEEK * week]) for week in range(1, SLIDES)]
    weeks = -np.diff([0.0, *back])  # growth from one week to the next, the newest first
    usual, spread = float(np.median(weeks[2:])), max(_spread(weeks[2:]), LEAST_SPREAD)
    gone = float(back[1]) - 2 * -usual
    if abs(gone) < DRIFT_CHANGE or abs(gone) / spread < DRIFT_FAR:
        return None
    value, expected = float(np.nansum(counts[-DAY:])), float(np.log(np.nansum(counts[-DAY:]) + 0.5)) - gone
    low, high = np.exp(expected - PERSISTENT * spread), np.exp(expected + PERSISTENT * spread)
    return Finding(gone / spread, value, float(low), float(high), "24 hours, beside the growth of the weeks before")


def _deviation(counts: np.ndarray, back: int) -> tuple[float, Outlook] | None:
    """How far an hour lies from what was expected of it, and that."""
    import numpy as np

    series = counts[: len(counts) - back] if back else counts
    if not len(series) or not np.isfinite(series[-1]):
        return None
    found = outlook(series)
    if found is None or np.exp(found.level) < LEAST:
        return None
    return float(np.log(series[-1] + 0.5)) - found.level, found


def outlook(counts: np.ndarray) -> Outlook | None:
    """What is expected of the last hour by those before; None without enough of them."""
    import numpy as np

    logs = np.log(counts[-HISTORY:] + 0.5)
    weeks = [logs[-1 - WEEK * week] for week in range(1, WEEKS + 1) if len(logs) > WEEK * week and np.isfinite(logs[-1 - WEEK * week])]
    step = WEEK if len(weeks) >= LEAST_WEEKS else DAY
    past = weeks if step == WEEK else [logs[-1 - DAY * day] for day in range(1, 8) if len(logs) > DAY * day]
    past = [value for value in past if np.isfinite(value)]
    if len(past) < LEAST_WEEKS:
        return None
    changes = logs - _shifted(logs, step)
    growth = (
        float(np.clip(np.nanmedian(changes[-1 - WEEK : -3]), -0.25, 0.25)) if np.isfinite(changes[-1 - WEEK : -3]).sum() > DAY // 2 else 0.0
    )
    level = float(np.median([value + growth * number for number, value in enumerate(past, start=1)]))
    hours = np.arange(len(logs)) - (len(logs) - 1)
    near = (np.abs((hours + 12) % DAY - 12) <= 2) & (hours < -3) & (hours >= -3 * WEEK)
    spread = max(0.9 * _spread(changes[near] - growth), LEAST_SPREAD, float(np.sqrt(1.5 / max(np.exp(level), 1.0))))
    return Outlook(level, spread if step == WEEK else max(spread, STARTING), len(weeks) if step == WEEK else 0)


def _range(found: Outlook, spreads: float) -> tuple[float, float]:
    import numpy as np

    return float(np.exp(found.level - spreads * found.spread)), float(np.exp(found.level + spreads * found.spread))


def _shifted(values: np.ndarray, hours: int) -> np.ndarray:
    """The value so many hours before, NaN where there is none."""
    import numpy as np

    return (
        np.concatenate([np.full(min(hours, len(values)), np.nan), values[:-hours]]) if len(values) > hours else np.full(len(values), np.nan)
    )


def _spread(values: np.ndarray) -> float:
    """The median distance from the median, as a standard deviation of what is normal; large where too little is known."""
    import numpy as np

    known = values[np.isfinite(values)]
    if len(known) < 3:
        return STARTING
    return 1.4826 * float(np.median(np.abs(known - np.median(known))))
