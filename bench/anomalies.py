"""How well anomalies are told: injected failures found, how soon, and how many alerts a week were false, beside other ways to tell.

    .venv/bin/python bench/anomalies.py [--seeds 4] [--weeks 14] [--no-deequ]

Weeks of hourly numbers of a simulated app, by country, version and device: growth, day and week, holidays, releases that roll
out, users that come by chance. From the seventh week on things go wrong, one after another, at hours drawn by the seed: spikes,
drops to half, outages, days that slide away, one country, one version. A finding counts where it names the hour and the scope, or a
more general one; every other alert is false, those on holidays apart. The seeds are not those the bounds were chosen with.
The other ways see the same numbers: a z-score by hour of day, and Deequ's own strategies, run by Deequ (on total_events of
each scope; Holt-Winters on daily sums, for it knows no hours).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import measure
import numpy as np

from quality.anomalies import judging
from quality.anomalies.incidents import Incidents, left_out
from quality.anomalies.judging import ALL, Scope
from quality.anomalies.robust import HISTORY

WEEK, DAY = 168, 24
FIRST_SEED = 1000
QUIET_WEEKS = 6
COUNTRIES = {"US": 0.38, "DE": 0.2, "FR": 0.15, "JP": 0.12, "BR": 0.1, "FI": 0.05}
DEVICES = {"iPhone": 0.8, "iPad": 0.17, "iPod": 0.03}
KINDS = ("spike", "drop of half", "outage", "one country", "one version", "bad release")
"""What is scored. The slide at the end is not: an alert within it cannot be told from one of it by its hour and scope alone."""
HOLIDAYS = (24, 67, 80)
"""Days of the simulation on which a third fewer people come."""
EVENTS_A_SESSION = 12.0
WANTED_RECALL, WANTED_FALSE = 0.95, 1.0
Alerts = dict[int, list[Scope]]
"""Hour -> scopes that an incident began with."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What goes wrong: hours [start, end), on which scope."""

    kind: str
    start: int
    end: int
    scope: Scope = ALL


@dataclass
class World:
    """The numbers of all scopes, and what went wrong in them."""

    series: dict[Scope, dict[str, np.ndarray]]
    failures: list[Failure]
    hours: int


@dataclass
class Score:
    """What one way of telling was worth."""

    found: dict[str, int] = field(default_factory=dict)
    delays: dict[str, list[int]] = field(default_factory=dict)
    injected: dict[str, int] = field(default_factory=dict)
    false: int = 0
    on_holidays: int = 0
    weeks: float = 0.0


def main() -> int:
    """Simulate, judge, compare; 1 where recall or false alerts miss what is wanted."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=4)
    options.add_argument("--weeks", type=int, default=14)
    options.add_argument("--no-deequ", action="store_true")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    seeds = [FIRST_SEED + number for number in range(asked.seeds)]
    with ProcessPoolExecutor() as pool:
        worlds = list(pool.map(partial(simulate, weeks=asked.weeks), seeds))
        ours = list(pool.map(alerts_of_ours, worlds))
    ways: dict[str, list[Alerts]] = {"ours": ours, "z-score by hour of day, 3": [alerts_of_z(world) for world in worlds]}
    if not asked.no_deequ:
        ways |= deequs(worlds)
    scores = {name: together([scored(world, alerts) for world, alerts in zip(worlds, found, strict=True)]) for name, found in ways.items()}
    print(
        json.dumps({name: vars(score) for name, score in scores.items()})
        if asked.json
        else "\n".join(lines(scores, asked.weeks, len(seeds)))
    )
    half, false = recall(scores["ours"], "drop of half"), scores["ours"].false / scores["ours"].weeks
    return 0 if half >= WANTED_RECALL and false <= WANTED_FALSE else 1


def simulate(seed: int, weeks: int = 14) -> World:
    """One app for so many weeks."""
    chance = np.random.default_rng(seed)
    hours = weeks * WEEK
    clock = np.arange(hours)
    day = 0.55 - 0.4 * np.cos(2 * np.pi * (clock % DAY - 3) / DAY) + 0.12 * np.cos(4 * np.pi * (clock % DAY - 20) / DAY)
    week = np.where((clock // DAY) % 7 >= 5, 1.25, 1.0)
    trend = np.exp(chance.normal(0.015, 0.01) * clock / WEEK)
    weather = np.exp(_smooth(chance.normal(0, 0.035, hours // DAY + 2), hours))
    holiday = np.isin(clock // DAY, HOLIDAYS)
    base = chance.uniform(3000, 6000) * day * week * trend * weather * np.where(holiday, 0.66, 1.0)
    failures = list(_failures(chance, hours))
    versions = _rollout(chance, hours)
    leaves: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for country, part in COUNTRIES.items():
        for version, share in versions.items():
            rate = base * part * share * np.exp(chance.normal(0, 0.02, hours))
            bounce = np.full(hours, 0.22) + (0.02 if country == "BR" else 0.0)
            for failure in failures:
                rate, bounce = _broken(failure, country, version, rate, bounce)
            leaves[country, version] = _counts(chance, rate, bounce)
    return World(dict(_scopes(chance, leaves)), failures, hours)


def _smooth(knots: np.ndarray, hours: int) -> np.ndarray:
    return np.interp(np.arange(hours) / DAY, np.arange(len(knots)), knots)


def _rollout(chance: np.random.Generator, hours: int) -> dict[str, np.ndarray]:
    """Share of each version by hour: every three weeks one takes over within days, a rest of old ones remains."""
    starts = [-10 * DAY, *(start + int(chance.integers(0, 3 * DAY)) for start in range(2 * WEEK, hours, 3 * WEEK))]
    clock = np.arange(hours)
    taken = [0.95 / (1 + np.exp(-(clock - start - 48) / 18.0)) * (clock >= start) for start in starts]
    shares: dict[str, np.ndarray] = {}
    left = np.ones(hours)
    for number in range(len(starts) - 1, -1, -1):
        shares[f"4.{number}.0"] = left * (taken[number] if number else 1.0)
        left = left * (1 - (taken[number] if number else 1.0))
    return shares


def _failures(chance: np.random.Generator, hours: int) -> Iterator[Failure]:
    """One after another, with time between to forget; the slow one last."""
    at, number = QUIET_WEEKS * WEEK, 0
    while at < hours - 3 * WEEK:
        kind = KINDS[number % len(KINDS)]
        start = at + int(chance.integers(0, 20))
        while not 7 <= start % DAY <= 22:  # by night there is nobody whom a failure could hit
            start += 1
        length = 6 if kind == "bad release" else 3
        scope = {
            "one country": ("country", str(chance.choice(list(COUNTRIES)[:5]))),
            "one version": ("app_version", ""),
            "bad release": ("app_version", ""),
        }
        yield Failure(kind, start, start + length, scope.get(kind, ALL))
        at, number = start + 30, number + 1
    yield Failure("slow drift", hours - 18 * DAY, hours)


def _broken(failure: Failure, country: str, version: str, rate: np.ndarray, bounce: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    span = slice(failure.start, failure.end)
    rate, bounce = rate.copy(), bounce.copy()
    match failure.kind:
        case "spike":
            rate[span] *= 2.0
        case "drop of half":
            rate[span] *= 0.5
        case "outage":
            rate[span] = 0.0
        case "slow drift":
            rate[span] *= np.exp(-0.03 * np.arange(failure.end - failure.start) / DAY)
        case "one country" if failure.scope[1] == country:
            rate[span] *= 0.2
        case "one version" if version == _hit(failure):
            rate[span] *= 0.2
        case "bad release" if version == _hit(failure):
            bounce[span] = 0.6
        case _:
            pass
    return rate, bounce


def _hit(failure: Failure) -> str:
    """The version that most people have then: the newest one that is three days old."""
    return f"4.{max(0, (failure.start - 3 * DAY - 2 * WEEK - 3 * DAY) // (3 * WEEK) + 1)}.0"


def _counts(chance: np.random.Generator, rate: np.ndarray, bounce: np.ndarray) -> dict[str, np.ndarray]:
    sessions = chance.poisson(np.maximum(rate, 0.0))
    bounced = chance.binomial(sessions, np.clip(bounce, 0, 1))
    events = chance.poisson(np.maximum(chance.gamma(np.maximum(sessions, 1e-9) * 1.5, EVENTS_A_SESSION / 1.5) * (sessions > 0), 0.0))
    return {
        "total_sessions": sessions, "total_events": events, "active_users": chance.binomial(sessions, 0.85), "bounces": bounced,
        "total_installs": chance.binomial(sessions, 0.02), "notification_views": chance.binomial(sessions, 0.3),
        "notification_clicks": chance.binomial(sessions, 0.03), "seconds": chance.gamma(np.maximum(sessions, 1e-9) * 0.8, 240.0),
    }  # fmt: skip


def _scopes(
    chance: np.random.Generator, leaves: Mapping[tuple[str, str], Mapping[str, np.ndarray]]
) -> Iterator[tuple[Scope, dict[str, np.ndarray]]]:
    groups: dict[Scope, list[Mapping[str, np.ndarray]]] = {ALL: list(leaves.values())}
    for (country, version), columns in leaves.items():
        groups.setdefault(("country", country), []).append(columns)
        groups.setdefault(("app_version", version), []).append(columns)
    for scope, found in groups.items():
        sums = {name: np.sum([columns[name] for columns in found], axis=0).astype(float) for name in found[0]}
        yield scope, _shown(sums)
        if scope == ALL:
            for device, part in DEVICES.items():
                yield (
                    ("device_type", device),
                    _shown({name: chance.binomial(values.astype(int), part).astype(float) for name, values in sums.items()}),
                )


def _shown(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    with np.errstate(divide="ignore", invalid="ignore"):
        sessions = sums["total_sessions"]
        return {
            **{name: sums[name] for name in judging.VOLUMES},
            "bounce_rate": sums["bounces"] / sessions, "avg_session_seconds": sums["seconds"] / sessions,
            "avg_events_per_session": sums["total_events"] / sessions,
            "notification_ctr": sums["notification_clicks"] / sums["notification_views"],
        }  # fmt: skip


def alerts_of_ours(world: World) -> Alerts:
    """Incidents that page, as the judgement of each hour begins them."""
    found: Alerts = {}
    incidents = Incidents()
    series = {scope: {name: values.copy() for name, values in columns.items()} for scope, columns in world.series.items()}
    for hour in range(QUIET_WEEKS * WEEK - WEEK, world.hours):
        rows = {
            scope: {name: values[max(0, hour + 1 - HISTORY) : hour + 1] for name, values in columns.items()}
            for scope, columns in series.items()
        }
        for deviation, incident, told in incidents.take(hour, judging.judge(rows)):
            if deviation.pages and told:
                found.setdefault(hour, []).append(deviation.scope)
            if (scope := left_out(deviation, incident, hour)) is not None:
                for values in (values for of, columns in series.items() if scope in (ALL, of) for values in columns.values()):
                    values[hour] = np.nan
    return found


def alerts_of_z(world: World, bound: float = 3.0) -> Alerts:
    """The same hour of the day over four weeks: mean and standard deviation, of total_events of each scope."""

    def odd(values: np.ndarray) -> Iterator[int]:
        for hour in range(QUIET_WEEKS * WEEK - WEEK, len(values)):
            past = values[hour - DAY : hour - 29 * DAY : -DAY]
            if past.mean() >= 50 and abs(values[hour] - past.mean()) > bound * max(past.std(), 1.0):
                yield hour

    return _incidents({scope: odd(columns["total_events"]) for scope, columns in world.series.items()})


def _incidents(odd: Mapping[Scope, Iterable[int]]) -> Alerts:
    """Odd hours of a scope within three hours are one incident; where the whole is odd, its parts say nothing new."""
    whole: set[int] = set()
    found: Alerts = {}
    for scope, hours in odd.items():
        last = -99
        for hour in hours:
            if scope == ALL:
                whole.add(hour)
            if hour - last > 3 and (scope == ALL or hour not in whole):
                found.setdefault(hour, []).append(scope)
            last = hour
    return found


def deequs(worlds: list[World]) -> dict[str, list[Alerts]]:
    """Deequ's own strategies over the same numbers, run by Deequ itself."""
    from engagement.stack import jars, java
    from quality.deequ.session import spark

    with spark(jars.deequ_jar(), java.executable()) as session:
        jvm = session._jvm  # noqa: SLF001 - pydeequ's own way
        return {name: [_of_deequ(jvm, made, name, world) for world in worlds] for name, made in STRATEGIES.items()}


def _bounded(known: np.ndarray) -> object:
    from pydeequ.anomaly_detection import SimpleThresholdStrategy

    return SimpleThresholdStrategy(float(known.min()) / 2, float(known.max()) * 2)


def _rate_of_change(_known: np.ndarray) -> object:
    from pydeequ.anomaly_detection import RelativeRateOfChangeStrategy

    return RelativeRateOfChangeStrategy(0.5, 2.0)


def _online_normal(_known: np.ndarray) -> object:
    from pydeequ.anomaly_detection import OnlineNormalStrategy

    return OnlineNormalStrategy(3.0, 3.0)


def _holt_winters(_known: np.ndarray) -> object:
    from pydeequ.anomaly_detection import HoltWinters, MetricInterval, SeriesSeasonality

    return HoltWinters(MetricInterval.Daily, SeriesSeasonality.Weekly)


DAILY = "Deequ HoltWinters, days"
STRATEGIES = {
    "Deequ RelativeRateOfChange, half to double": _rate_of_change,
    "Deequ OnlineNormal, 3": _online_normal,
    "Deequ SimpleThreshold, half of the least to double the most": _bounded,
    DAILY: _holt_winters,
}


def _of_deequ(jvm: object, made: object, name: str, world: World) -> Alerts:
    odd = {}
    for scope, columns in world.series.items():
        values = columns["total_events"]
        start = QUIET_WEEKS * WEEK - WEEK
        if name == DAILY:
            days = values[: len(values) // DAY * DAY].reshape(-1, DAY).sum(axis=1)
            usable = days[: start // DAY].min() > 0
            odd[scope] = [day * DAY + 23 for day in _detected(jvm, made(days), days, start // DAY)] if usable else []
        else:
            odd[scope] = _detected(jvm, made(values[:start]), values, start)
    return _incidents(odd)


def _detected(jvm: object, strategy: object, values: np.ndarray, start: int) -> list[int]:
    from py4j.protocol import Py4JJavaError

    numbers = jvm.java.util.ArrayList()
    for value in values:
        numbers.add(float(value))
    series = jvm.scala.collection.JavaConverters.asScalaBuffer(numbers).toVector()
    strategy._set_jvm(jvm)  # noqa: SLF001
    try:
        found = strategy._anomaly_jvm.detect(series, jvm.scala.Tuple2(start, len(values)))  # noqa: SLF001
    except Py4JJavaError:  # its optimizer gives up on some series: nothing is told then
        return []
    places = jvm.scala.collection.JavaConverters.seqAsJavaList(found)
    return sorted(int(pair.productElement(0)) for pair in places)


def scored(world: World, alerts: Alerts) -> Score:
    """What these alerts were worth in this world."""
    score = Score(weeks=(world.hours - QUIET_WEEKS * WEEK + WEEK) / WEEK)
    explained: set[int] = set()
    for failure in world.failures:
        score.injected[failure.kind] = score.injected.get(failure.kind, 0) + 1
        until = failure.end + (1 if failure.kind != "slow drift" else 0)
        hits = [hour for hour in range(failure.start, until) if any(_names(scope, failure) for scope in alerts.get(hour, []))]
        if hits:
            score.found[failure.kind] = score.found.get(failure.kind, 0) + 1
            score.delays.setdefault(failure.kind, []).append(hits[0] - failure.start)
        explained.update(range(failure.start, failure.end + 4))  # its end, too, is a jump
    for hour, scopes in alerts.items():
        if hour in explained:
            continue
        if hour // DAY in HOLIDAYS or (hour - 3) // DAY in HOLIDAYS:
            score.on_holidays += len(scopes)
        else:
            score.false += len(scopes)
    return score


def _names(scope: Scope, failure: Failure) -> bool:
    """Whether an alert tells of the failure: its scope, or for one of all users any."""
    if ALL in (failure.scope, scope):
        return True
    return scope[0] == failure.scope[0] and (failure.scope[1] or _hit(failure)) == scope[1]


def together(scores: list[Score]) -> Score:
    """The sum over worlds."""
    found = Score()
    for score in scores:
        for kind in KINDS:
            found.found[kind] = found.found.get(kind, 0) + score.found.get(kind, 0)
            found.injected[kind] = found.injected.get(kind, 0) + score.injected.get(kind, 0)
            found.delays.setdefault(kind, []).extend(score.delays.get(kind, []))
        found.false, found.on_holidays, found.weeks = (
            found.false + score.false,
            found.on_holidays + score.on_holidays,
            found.weeks + score.weeks,
        )
    return found


def recall(score: Score, kind: str) -> float:
    """Share of the failures of a kind that were told."""
    return score.found[kind] / score.injected[kind] if score.injected[kind] else 1.0


def lines(scores: Mapping[str, Score], weeks: int, seeds: int) -> Iterator[str]:
    """The tables for people."""
    yield f"{measure.machine()}, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {seeds} apps of {weeks} weeks"
    first = next(iter(scores.values()))
    yield measure.table(
        [
            {
                "told": name,
                **{f"{kind} ({first.injected[kind]})": f"{recall(score, kind):.2f}" for kind in KINDS},
                "false a week": f"{score.false / score.weeks:.2f}",
                "on holidays": f"{score.on_holidays}",
            }
            for name, score in scores.items()
        ]
    )
    delays = ", ".join(f"{kind} {_median(first.delays[kind])}" for kind in KINDS)
    yield f"hours from the failure to its alert, median, ours: {delays}"
    half, false = recall(first, "drop of half"), first.false / first.weeks
    verdict = "met" if half >= WANTED_RECALL and false <= WANTED_FALSE else "MISSED"
    yield f"wanted: recall {WANTED_RECALL} of drops of half, at most {WANTED_FALSE:g} false alert a week and app: {verdict}"


def _median(values: list[int]) -> str:
    return f"{float(np.median(values)):g}" if values else "-"


if __name__ == "__main__":
    sys.exit(main())
