"""One hour of all series judged together, and what of it is one cause: pure, over arrays, for the lake and for the bench.

A failure that all users see moves every number of every country and version. So the most general scope speaks for those below
it, and of a scope all its numbers are one finding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quality.anomalies import robust
from quality.anomalies.robust import Finding

if TYPE_CHECKING:
    import numpy as np

Scope = tuple[str, str]
"""Dimension and value; ALL is `("", "")`."""
ALL: Scope = ("", "")
VOLUMES = ("total_events", "total_sessions", "active_users", "total_installs", "notification_views")
RATES = {"bounce_rate": "total_sessions"}
"""Shares of a count, judged beside all others in the same hour too."""
RATIOS = {
    **RATES, "avg_session_seconds": "total_sessions", "avg_events_per_session": "total_sessions", "notification_ctr": "notification_views",
}  # fmt: skip
ROLLED_OUT = "app_version"
"""The dimension whose values come and go by themselves."""
Series = Mapping[str, "np.ndarray"]
"""Column -> its hours, oldest first, the judged one last; NaN where nothing is known."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One scope that is out of line: its worst number, and the others that are."""

    scope: Scope
    metric: str
    finding: Finding
    others: tuple[str, ...] = ()
    pages: bool = True
    """Volumes page, and rates that moved far; other means that moved are told and page nobody."""

    @property
    def cause(self) -> str:
        """Names the incident: the same scope and direction is the same cause."""
        return f"{'='.join(self.scope) if self.scope != ALL else 'all'} {self.finding.direction}{'' if self.pages else ' ' + self.metric}"

    @property
    def text(self) -> str:
        """One line for people."""
        where = f" of {self.scope[0]} {self.scope[1]}" if self.scope != ALL else ""
        also = f"; also {', '.join(self.others)}" if self.others else ""
        found = self.finding
        return f"{self.metric}{where}: {_number(found.value)}, expected {_number(found.low)} to {_number(found.high)} ({found.why}){also}"


def judge(series: Mapping[Scope, Series]) -> list[Deviation]:
    """What is out of line in the last hour, worst first; one deviation a scope, none below one that speaks for it."""
    whole = series.get(ALL)
    if whole is None:
        return []
    found = [deviation for scope, columns in series.items() if (deviation := _scope(scope, columns, whole))]
    general = [item.finding.direction for item in found if item.scope == ALL and item.pages]
    kept = [item for item in found if item.scope == ALL or not item.pages or item.finding.direction not in general]
    if any(item.scope == ALL and not item.pages for item in kept):
        kept = [item for item in kept if item.scope == ALL or item.pages]
    return sorted(kept, key=lambda item: (not item.pages, -abs(item.finding.spreads), item.scope))


def _scope(scope: Scope, columns: Series, whole: Series) -> Deviation | None:
    volumes = {name: found for name in VOLUMES if name in columns and (found := _volume(scope, name, columns, whole))}
    if scope == ALL and not volumes and "total_events" in columns and (slid := robust.drift(columns["total_events"])):
        volumes = {"total_events": slid}
    if volumes:
        return _worst(scope, volumes, pages=True)
    ratios = {name: found for name, of in RATIOS.items() if name in columns and (found := robust.ratio(columns[name], columns[of]))}
    if scope[0] == ROLLED_OUT:
        rivals = {
            name: found for name, of in RATES.items() if name in columns and (found := robust.rival(*_beside(columns, whole, name, of)))
        }
        if rivals:
            return _worst(scope, rivals, pages=True)
        return None
    pages = any(name in RATES and abs(found.change) >= robust.RATIO_PAGES for name, found in ratios.items())
    return _worst(scope, ratios, pages=pages) if ratios else None


def _beside(columns: Series, whole: Series, name: str, of: str) -> tuple[float, float, float]:
    """A rate of this hour, the count below it, and the rate of all others."""
    rate, count = float(columns[name][-1]), float(columns[of][-1])
    others = float(whole[of][-1]) - count
    if not others >= 1:
        return rate, 0.0, 0.0
    return rate, min(count, others), (float(whole[name][-1]) * float(whole[of][-1]) - rate * count) / others


def _volume(scope: Scope, name: str, columns: Series, whole: Series) -> Finding | None:
    if scope[0] == ROLLED_OUT:
        return robust.share(columns[name], whole[name]) if name == "total_sessions" else None
    return robust.volume(columns[name])


def _worst(scope: Scope, found: Mapping[str, Finding], *, pages: bool) -> Deviation:
    first, *others = sorted(found, key=lambda name: -abs(found[name].spreads))
    return Deviation(scope, first, found[first], tuple(sorted(others)), pages)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
