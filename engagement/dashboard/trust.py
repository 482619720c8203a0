"""What the pages show of quality, as plain data: states of hours, what is held or suspect, profiles of columns over days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import pandas as pd

from engagement.lake import connect
from engagement.model import units
from engagement.settings import Settings
from engagement.verdicts import accepted, quarantine, records, suspects
from engagement.verdicts.quarantine import Incident
from engagement.verdicts.records import Key, Metric, Standing
from engagement.verdicts.result import Period, Severity, Status
from engagement.verdicts.suspects import Suspect

SHOWN_HOURS = 48
HOURLY = ("raw_events", "events", "session_fragments", "user_activity", "sessions", "hourly_engagement")
STATES = ("error", "broken", "warning", "passed", "not judged")
"""Of an hour, the worst first."""
PROFILE = "profile"
MEASURES = ("Completeness", "ApproxCountDistinct", "Minimum", "Maximum", "Mean", "Top")


@dataclass(frozen=True, slots=True)
class Trust:
    """One look: what is held, what is suspect, and the newest result of each check of the last days."""

    held: tuple[Incident, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    standing: Mapping[Key, Standing] | None = None

    @property
    def judged(self) -> bool:
        """Whether anything was ever judged of these days."""
        return bool(self.standing)


def look(settings: Settings, now: datetime, days: int = 3) -> Trust:
    """What is known of the last days; raises what the lake raises."""
    lake = connect(settings)
    last = now.date()
    standing = records.latest(lake, last - timedelta(days=days), last)
    said = {(item.unit, item.check) for item in accepted.read(lake)}
    return Trust(tuple(quarantine.held(lake)), tuple(suspects.of(standing, said)), standing)


def states(standing: Mapping[Key, Standing], now: datetime) -> pd.DataFrame:
    """One row an hourly asset and hour of the last SHOWN_HOURS: `asset`, `hour`, `state` (of STATES), `checks`, `wrong`."""
    found: dict[tuple[str, Period], list[Standing]] = {}
    for item in standing.values():
        if item.result.period.kind == "hour":
            found.setdefault((item.result.asset, item.result.period), []).append(item)
    last = units.floor_hour(now)
    hours = [last - number * units.HOUR for number in reversed(range(SHOWN_HOURS))]
    rows = []
    for asset in HOURLY:
        for hour in hours:
            items = found.get((asset, Period(hour)), [])
            wrong = [item.result.check for item in items if _state([item]) in STATES[:3]]
            rows.append(
                {
                    "asset": asset,
                    "hour": hour,
                    "state": _state(items),
                    "checks": len(items),
                    "wrong": ", ".join(sorted(wrong)[:5]) or "none",
                }
            )
    return pd.DataFrame(rows)


def failures(standing: Mapping[Key, Standing]) -> pd.DataFrame:
    """One row a check that failed, warned or is broken, the newest period first."""
    wrong = [item for item in standing.values() if item.result.status in (Status.FAILED, Status.BROKEN)]
    wrong.sort(key=lambda item: (item.result.is_error, item.result.period.start), reverse=True)
    return pd.DataFrame(
        [
            {
                "unit": f"{item.result.asset}/{item.result.period.key}", "check": item.result.check,
                "state": _state([item]), "found": item.result.message, "wanted": item.result.threshold, "value": item.result.value,
                "since": item.since, "engine": item.result.engine, "what to do": item.result.hint, "query": item.result.query,
            }
            for item in wrong
        ]
    )  # fmt: skip


def metrics(settings: Settings, now: datetime, days: int) -> list[Metric]:
    """Everything that was measured of the last days, oldest first; of what was measured twice the newest."""
    lake = connect(settings)
    newest: dict[tuple[str, Period, str, str, str], Metric] = {}
    for metric in records.metrics(lake, now.date() - timedelta(days=days), now.date()):
        key = (metric.suite, metric.period, metric.asset, metric.instance, metric.name)
        if key not in newest or metric.measured_at >= newest[key].measured_at:
            newest[key] = metric
    return sorted(newest.values(), key=lambda metric: (metric.period.start, metric.asset))


def profiled_days(found: Iterable[Metric]) -> list[date]:
    """Days that have a profile, newest first."""
    return sorted({metric.period.start.date() for metric in found if metric.suite == PROFILE}, reverse=True)


def profile(found: Sequence[Metric], asset: str, day: date) -> pd.DataFrame:
    """One row a column of an asset on a day: how full, how many values, bounds, most frequent."""
    rows: dict[str, dict[str, object]] = {}
    for metric in found:
        if (metric.suite, metric.asset, metric.period.start.date()) == (PROFILE, asset, day) and metric.instance != "*":
            rows.setdefault(metric.instance, {})[metric.name] = metric.text or metric.value
    return pd.DataFrame([{"column": name} | {measure: values.get(measure) for measure in MEASURES} for name, values in rows.items()])


def trend(found: Sequence[Metric], suite: str, asset: str, instance: str, name: str) -> pd.DataFrame:
    """One row a period: `start`, `value`. Several suites may measure a number of the same name, each of its own rows."""
    chosen = [
        metric
        for metric in found
        if (metric.suite, metric.asset, metric.instance, metric.name) == (suite, asset, instance, name) and metric.value is not None
    ]
    return pd.DataFrame([{"start": metric.period.start, "value": metric.value} for metric in chosen])


def sentence(trust: Trust) -> str:
    """One line for the first page; empty where nothing is held or suspect."""
    parts = []
    if trust.held:
        shown = ", ".join(incident.unit for incident in trust.held[:2])
        more = f" and {len(trust.held) - 2} more" if len(trust.held) > 2 else ""
        parts.append(
            f"{shown}{more} held by a gate since {min(item.since for item in trust.held):%d %b %H:%M} UTC: the last good rows are shown"
        )
    if trust.suspects:
        first = trust.suspects[0]
        more = f" and {len(trust.suspects) - 1} more" if len(trust.suspects) > 1 else ""
        parts.append(f"{first.unit}{more} under suspicion: {first.results[0].check}, {first.results[0].message}")
    return "; ".join(parts)


def _state(items: Sequence[Standing]) -> str:
    """The worst of what stands."""
    if not items:
        return "not judged"
    if any(item.result.status is Status.FAILED and item.result.severity is Severity.ERROR for item in items):
        return "error"
    if any(item.result.status is Status.BROKEN for item in items):
        return "broken"
    return "warning" if any(item.result.status is Status.FAILED for item in items) else "passed"
