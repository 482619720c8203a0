"""Published units under suspicion: what they show is on the page, and a check says it may be wrong (design §7).

Suites and anomalies judge what is published already and never take it back; here is what people are told meanwhile. What is
held (`quarantine`) is another thing: it shows its last good rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime

from engagement.lake import Lake
from engagement.verdicts import accepted, records
from engagement.verdicts.result import Period, Result, Severity, Status

ENGINES = ("deequ", "duckdb", "anomaly")


@dataclass(frozen=True, slots=True)
class Suspect:
    """A unit, since when it is suspect, and the results that say so, errors first."""

    asset: str
    period: Period
    since: datetime
    results: tuple[Result, ...]

    @property
    def unit(self) -> str:
        """How people name it: `sessions/2026-03-11-10:00`."""
        return f"{self.asset}/{self.period.key}"


def suspects(lake: Lake, first: date, last: date) -> list[Suspect]:
    """Units of these days that are under suspicion, newest period first."""
    said = {(item.unit, item.check) for item in accepted.read(lake)}
    return of(records.latest(lake, first, last), said)


def of(standings: Mapping[records.Key, records.Standing], said: set[tuple[str, str]]) -> list[Suspect]:
    """The same of these newest results; `said` are the unit and check of what was accepted."""
    found: dict[tuple[str, Period], list[records.Standing]] = {}
    for standing in standings.values():
        result = standing.result
        if _is_suspicion(result) and (f"{result.asset}/{result.period.key}", result.check) not in said:
            found.setdefault((result.asset, result.period), []).append(standing)
    made = [
        Suspect(asset, period, min(item.since for item in items), tuple(item.result for item in sorted(items, key=_rank)))
        for (asset, period), items in found.items()
    ]
    return sorted(made, key=lambda suspect: (suspect.period.start, suspect.asset), reverse=True)


def _is_suspicion(result: Result) -> bool:
    if result.status is not Status.FAILED or result.engine not in ENGINES:
        return False
    return result.severity is Severity.ERROR or result.engine == "anomaly"


def _rank(standing: records.Standing) -> tuple[bool, str]:
    return standing.result.severity is not Severity.ERROR, standing.result.check
