"""Anomalies of published hours: read from the hour rows, judged by `judging`, one alert an incident.

Only hours of the last days are judged: what a backfill brings is history and alerts nobody. What people accepted is no
anomaly and no history. Nothing is ever taken back because of it: the page says that the hour is suspect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from engagement.model import units
from engagement.tables.context import TableContext
from engagement.verdicts import accepted, records
from engagement.verdicts.result import Period, Result, Severity, Status
from quality.anomalies import judging
from quality.anomalies.incidents import LEFT_OUT, Incident, Incidents, left_out
from quality.anomalies.judging import ALL, Deviation, Scope
from quality.anomalies.robust import FAR, HISTORY

if TYPE_CHECKING:
    import numpy as np

ASSET, SUITE, CHECK = "hourly_engagement", "anomalies", "anomalies"
NEAR = timedelta(hours=48)
"""Older hours are history, and nobody is told of them."""
HINT = "look at the page by this scope, at releases and at campaigns; `engagement anomalies accept UNIT` where it is as it should be"
COLUMNS = tuple(dict.fromkeys((*judging.VOLUMES, *judging.RATIOS)))


def judge(context: TableContext, periods: Sequence[Period], now: datetime, *, history_too: bool = False) -> list[Result]:
    """One result an hour, oldest first; hours older than NEAR are left out unless `history_too`."""
    hours = sorted(period.start for period in periods if period.kind == "hour" and (history_too or now - period.start <= NEAR))
    if not hours:
        return []
    series = _Series(context, hours[0] - HISTORY * units.HOUR, hours[-1])
    incidents = Incidents()
    for earlier in _told_before(context, series.first, hours[0]):
        _take_up(earlier, incidents, series)
    return [_judged(hour, series, incidents) for hour in hours]


def _judged(hour: datetime, series: _Series, incidents: Incidents) -> Result:
    rows = series.until(hour)
    if ALL not in rows:
        return _result(hour, Status.EMPTY, None, "no history yet", ())
    found = incidents.take(series.place(hour), judging.judge(rows))
    if not found:
        return _result(hour, Status.PASSED, 0.0, "in line", ())
    for deviation, incident, _ in found:
        if (scope := left_out(deviation, incident, series.place(hour))) is not None:
            series.leave_out(series.place(hour), scope)
    message = "; ".join(
        f"{item.text}{'' if told else f', since {series.hour(incident.first):%Y-%m-%d %H:%M}'}" for item, incident, told in found[:5]
    )
    pages = any(item.pages and told for item, _, told in found)
    worst = max(abs(item.finding.spreads) for item, _, _ in found)
    rows_told = [_row(item, incident, series) for item, incident, _ in found]
    return _result(hour, Status.FAILED, worst, message, rows_told, Severity.ERROR if pages else Severity.WARNING)


def _row(item: Deviation, incident: Incident, series: _Series) -> dict[str, str]:
    return {
        "cause": item.cause, "since": series.hour(incident.first).isoformat(), "spreads": f"{incident.spreads:.1f}",
        "scope": "=".join(item.scope), "pages": str(item.pages).lower(), "what": item.text,
    }  # fmt: skip


def _told_before(context: TableContext, first: datetime, hour: datetime) -> list[Result]:
    """What was out of line in the hours before, oldest first."""
    standing = records.latest(context.lake, first.date(), hour.date()).values()
    found = [item.result for item in standing if item.result.suite == SUITE and item.result.status is Status.FAILED]
    return sorted((item for item in found if first <= item.period.start < hour), key=lambda item: item.period)


def _take_up(result: Result, incidents: Incidents, series: _Series) -> None:
    """Go on with the incidents of an earlier hour, and leave it out where it is no example."""
    place = series.place(result.period.start)
    for row in result.sample:
        first = series.place(datetime.fromisoformat(row["since"]))
        incidents.known[row["cause"]] = Incident(row["cause"], first, place, float(row["spreads"]))
        if row["pages"] == "true" and place - first < LEFT_OUT:
            name, _, value = row["scope"].partition("=")
            series.leave_out(place, (name, value))


def _result(
    hour: datetime,
    status: Status,
    value: float | None,
    message: str,
    told: Iterable[Mapping[str, str]],
    severity: Severity = Severity.WARNING,
) -> Result:
    query = (
        f"SELECT * FROM daily_aggregates_with_dimensions WHERE year = {hour.year} AND month = {hour.month} AND day = {hour.day}"
        f" AND hour = {hour.hour}"
    )
    return Result(
        SUITE, CHECK, ASSET, Period(hour), "anomaly", severity, status, value, f"<= {FAR:g} spreads", HINT, message=message,
        sample=tuple(told), query=query if status is Status.FAILED else "",
    )  # fmt: skip


class _Series:
    """Hour rows of all values and of each value of each dimension, as arrays of hours."""

    def __init__(self, context: TableContext, first: datetime, last: datetime) -> None:
        self.first = units.floor_hour(first)
        self._count = (last - self.first) // units.HOUR + 1
        self._rows: dict[Scope, dict[str, np.ndarray]] = {}
        self._read(context, last)
        for acceptance in accepted.read(context.lake):
            self._accepted(acceptance.unit)

    def place(self, hour: datetime) -> int:
        """An hour's place in the arrays."""
        return (hour - self.first) // units.HOUR

    def hour(self, place: int) -> datetime:
        """The hour at a place."""
        return self.first + place * units.HOUR

    def leave_out(self, place: int, scope: Scope) -> None:
        """Forget an hour of a scope; of all scopes where it is of ALL."""
        import numpy as np

        for of, columns in self._rows.items():
            if scope in (ALL, of) and 0 <= place < self._count:
                for values in columns.values():
                    values[place] = np.nan

    def until(self, hour: datetime) -> dict[Scope, dict[str, np.ndarray]]:
        """Scope -> column -> its hours up to this one, from the first that is known of anything."""
        import numpy as np

        whole = self._rows.get(ALL)
        known = [] if whole is None else np.flatnonzero(np.isfinite(whole["total_events"])).tolist()
        if not known:
            return {}
        start, end = int(known[0]), self.place(hour) + 1
        return {scope: {name: values[start:end] for name, values in columns.items()} for scope, columns in self._rows.items()}

    def _read(self, context: TableContext, last: datetime) -> None:
        import numpy as np

        model = context.model
        days = range((last.date() - self.first.date()).days + 1)
        keys = [units.hours_key(self.first.date() + timedelta(days=number)) for number in days]
        entries = [entry for key in keys if (entry := context.lake.stat(key))]
        if not entries:
            return
        one = " + ".join(f"CAST({name} <> '{word}' AS INTEGER)" for name, word in model.all_words.items())
        names = [name for name in COLUMNS if name in model.metrics]
        relation = context.relation(entries, units.BIG_TABLE, keys=("year", "month", "day"))
        query = f"""
            SELECT date_diff('hour', TIMESTAMP '{self.first:%Y-%m-%d %H:%M}', make_timestamp(year, month, day, hour, 0, 0)) AS place,
                {", ".join(model.dimensions)}, {", ".join(names)}
            FROM {relation} WHERE {one} <= 1"""
        found = context.con.execute(query).fetchall()
        for place, *rest in found:
            if not 0 <= place < self._count:
                continue
            values = dict(zip(model.dimensions, rest, strict=False))
            scope = next(((name, value) for name, value in values.items() if value != model.all_words[name]), ALL)
            columns = self._rows.setdefault(scope, {name: np.full(self._count, np.nan) for name in names})
            for name, value in zip(names, rest[len(values) :], strict=True):
                columns[name][place] = np.nan if value is None else float(value)
        self._zeros()

    def _zeros(self) -> None:
        """An hour without a row has no events, once the lake has begun; of a scope, once it has."""
        import numpy as np

        for columns in self._rows.values():
            known = np.flatnonzero(np.isfinite(columns["total_events"]))
            for name in judging.VOLUMES:
                if name in columns and len(known):
                    later = columns[name][known[0] :]
                    later[~np.isfinite(later)] = 0.0

    def _accepted(self, unit: str) -> None:
        """An accepted hour teaches nothing, and is not judged again."""
        asset, _, key = unit.partition("/")
        try:
            hour = datetime.strptime(key, "%Y-%m-%d-%H:%M").replace(tzinfo=UTC)
        except ValueError:
            return
        if asset == ASSET:
            self.leave_out(self.place(hour), ALL)
