"""Suites judged over periods of the published lake: Deequ where it can, its DuckDB twin otherwise, samples of what failed.

Deequ and the twin judge the very same rows: the engine writes what a suite looks at to a file, once, and Spark reads it. So
what is compared across tables is joined by DuckDB, and the numbers are Deequ's own. Nothing is stored and nothing sent to
Dagster here; candidates before their publication are the matter of `gates`.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engagement.errors import EngagementError
from engagement.tables import arrivals
from engagement.tables.context import TableContext
from engagement.verdicts.records import Metric
from engagement.verdicts.result import Period, Result, Severity, Status
from quality import looking, samples, twin
from quality import suites as declared
from quality.constraints import Constraint, Kind, Suite
from quality.deequ import DeequMetric
from quality.measured import Measured, status

Engine = Literal["all", "deequ", "duckdb", "gates"]
Tell = Callable[[str], None]
Keep = Callable[[Sequence[Metric]], None]
PUBLIC_ROWS = 20
SHARES = (Kind.COMPLETENESS, Kind.UNIQUENESS, Kind.COMPLIANCE, Kind.PATTERN)
DEEQU_RAN = "deequ_ran"
"""Check of the result that says that Deequ could not judge."""


def suites_of(context: TableContext) -> tuple[Suite, ...]:
    """All suites under a lake's model and the limits of its settings."""
    settings = context.settings
    return declared.suites(context.model, skew_seconds=settings.clock_skew_seconds, lateness_days=settings.lateness_days)


def check(
    context: TableContext,
    periods: Sequence[Period],
    *,
    engine: Engine = "all",
    suites: Sequence[Suite] | None = None,
    tell: Tell | None = None,
) -> Iterator[Result]:
    """Judge every constraint on each period, in the order of the suites. Never raises for what is in the lake.

    `all`: Deequ, and where it cannot run the twin, beside one broken result that says why. `deequ`: Deequ alone. `duckdb`: the
    twin alone. `gates`: what judges candidates too, by the twin. A period without rows gives `empty` results.
    """
    wanted = suites or suites_of(context)
    yield from check_pairs(context, [(period, suite) for period in periods for suite in wanted], engine=engine, tell=tell)


def check_pairs(
    context: TableContext,
    pairs: Sequence[tuple[Period, Suite]],
    *,
    engine: Engine = "all",
    tell: Tell | None = None,
    keep: Keep | None = None,
) -> Iterator[Result]:
    """The same for these suites of these periods; a suite of days is left out of an hour. `keep` gets all that Deequ measured."""
    context.index.sync()
    asked = [(period, chosen) for period, suite in pairs if suite.period == period.kind for chosen in _wanted([suite], engine)]
    if not asked:
        return
    if engine in ("duckdb", "gates"):
        for period, suite in asked:
            _say(tell, f"{suite.name} {period.key}")
            yield from _looked(context, period, suite, "gate" if engine == "gates" else "duckdb")
        return
    yield from _by_deequ(context, asked, fall_back=engine == "all", tell=tell, keep=keep)


def _wanted(suites: Sequence[Suite], engine: Engine) -> list[Suite]:
    if engine != "gates":
        return list(suites)
    gates = [(suite, tuple(item for item in suite.constraints if item.gate)) for suite in suites]
    return [Suite(suite.name, suite.asset, suite.rows, suite.grain, chosen, suite.period) for suite, chosen in gates if chosen]


def _looked(context: TableContext, period: Period, suite: Suite, engine: str) -> list[Result]:
    """One suite by the twin."""
    try:
        return arrivals.looking_again(lambda: _Look(context, period, suite).by_twin(engine))
    except Exception as error:  # noqa: BLE001 - whatever is in the lake, it is this suite's result and no other's
        return [_broken(suite, constraint, period, engine, error) for constraint in suite.constraints]


def _by_deequ(
    context: TableContext, asked: Sequence[tuple[Period, Suite]], *, fall_back: bool, tell: Tell | None, keep: Keep | None
) -> Iterator[Result]:
    from quality import deequ

    parent = context.settings.state_dir / "cache"
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="deequ-", dir=parent))
    try:
        exported: list[_Look] = []
        unreadable: dict[int, list[Result]] = {}
        for place, (period, suite) in enumerate(asked):
            _say(tell, f"reading {suite.name} {period.key}")
            look = _Look(context, period, suite)
            try:
                arrivals.looking_again(lambda look=look, place=place: look.export(folder / f"{place}.parquet"))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - as above
                unreadable[place] = [_broken(suite, constraint, period, "deequ", error) for constraint in suite.constraints]
            exported.append(look)
        requests = [
            deequ.Request(str(place), (look.file,), look.suite)
            for place, look in enumerate(exported)
            if place not in unreadable and look.rows
        ]
        _say(tell, f"Deequ judges {len(requests)} suites")
        answers = {answer.label: answer for answer in deequ.run(requests, context.settings, tell=tell)} if requests else {}
        problems = {answer.problem for answer in answers.values() if answer.problem}
        if problems:
            yield _not_run(asked[0], min(problems))
        for place, look in enumerate(exported):
            answer = answers.get(str(place))
            if place in unreadable:
                yield from unreadable[place]
            elif answer is None:
                yield from look.empty("deequ")
            elif not answer.problem:
                if keep:
                    keep(look.metrics(answer.metrics))
                yield from look.by_deequ(answer.results)
            elif fall_back:
                yield from _looked(context, look.period, look.suite, "duckdb")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Look:
    """One suite on one period."""

    context: TableContext
    period: Period
    suite: Suite
    rows: int = 0
    file: Path = Path()
    inputs: str = ""

    def by_twin(self, engine: str) -> list[Result]:
        """Measure and judge by the twin."""
        views = self._open()
        return self._results(twin.measure(self.context.con, self.suite.rows, self.suite.constraints), engine, views)

    def by_deequ(self, found: Sequence[Measured]) -> list[Result]:
        """What Deequ measured, judged; the file that it read still lies there, so samples are of the same rows."""
        con = self.context.con
        con.execute(f"CREATE OR REPLACE TEMP VIEW judged_rows AS SELECT * FROM read_parquet('{self.file}')")
        views = looking.views(self.context, self.period, looking.named_in(self.suite.rows, self.period.kind))
        return self._results(found, "deequ", views, rows="judged_rows")

    def metrics(self, found: Sequence[DeequMetric]) -> list[Metric]:
        """What Deequ measured, for the repository."""
        suite, period = self.suite, self.period
        return [
            Metric(suite.name, suite.asset, period, "deequ", item.entity, item.instance, item.name, item.value, inputs=self.inputs)
            for item in found
        ]

    def empty(self, engine: str) -> list[Result]:
        """Of a period without a row."""
        return self._results([Measured(item.name, None) for item in self.suite.constraints], engine, {})

    def export(self, file: Path) -> None:
        """Write the columns that the suite speaks of, and where rows stand, to a file that Spark reads."""
        self._open()
        con = self.context.con
        names = [column[0] for column in con.execute(f"SELECT * FROM {self.suite.rows} LIMIT 0").description or []]
        spoken = {name for constraint in self.suite.constraints for name in samples.used(constraint, names)}
        chosen = [name for name in names if name in spoken or (name in samples.PLACES and name not in samples.NEVER)] or names[:1]
        self.file = file
        query = f"COPY (SELECT {', '.join(chosen)} FROM {self.suite.rows}) TO '{file}' (FORMAT parquet, COMPRESSION snappy)"
        self.rows = int(con.execute(query).fetchall()[0][0])

    def _open(self) -> Mapping[str, looking.View]:
        self.inputs = looking.inputs(self.context, self.period, self.suite.asset)
        return looking.open_views(self.context, self.period, looking.named_in(self.suite.rows, self.period.kind))

    def _results(self, found: Sequence[Measured], engine: str, views: Mapping[str, looking.View], rows: str | None = None) -> list[Result]:
        return [
            self._result(constraint, measured, engine, views, rows or self.suite.rows)
            for constraint, measured in zip(self.suite.constraints, found, strict=True)
        ]

    def _result(self, constraint: Constraint, found: Measured, engine: str, views: Mapping[str, looking.View], rows: str) -> Result:
        state = status(constraint, found)
        failed = state is Status.FAILED
        violations = found.violations
        if failed and violations is None and (broken := twin.offending(constraint)):
            violations = int(self.context.con.execute(f"SELECT count(*) FROM (SELECT 1 FROM {rows} WHERE {broken})").fetchall()[0][0])
        return Result(
            self.suite.name, constraint.name, self.suite.asset, self.period, engine, constraint.severity, state, found.value,
            str(constraint.threshold), constraint.hint,
            message=found.problem or _message(constraint, found, violations),
            rows=found.rows,
            violations=violations if failed else 0 if state is Status.PASSED else None,
            sample=samples.sample(self.context.con, rows, constraint, self.context.settings.hash_keys) if failed else (),
            query=public_query(self.suite, constraint, views) if failed else "",
            inputs=self.inputs,
        )  # fmt: skip


def public_query(suite: Suite, constraint: Constraint, views: Mapping[str, looking.View]) -> str:
    """A SELECT for `engagement query` that shows the offending rows; empty where people cannot read what the suite looks at."""
    offending = twin.offending(constraint)
    if offending is None or not views or not all(view.public for view in views.values()):
        return ""
    named = ", ".join(f"{name} AS ({view.public})" for name, view in views.items())
    return f"WITH {named} SELECT * FROM {suite.rows} WHERE {offending} LIMIT {PUBLIC_ROWS}"


def _message(constraint: Constraint, found: Measured, violations: int | None) -> str:
    if found.value is None:
        return "no row to look at"
    if constraint.kind is Kind.SIZE:
        return f"{found.rows:,} rows"
    if violations:
        return f"{violations:,} of {found.rows:,} rows"
    if violations == 0 or constraint.kind in SHARES:
        return f"{found.rows:,} rows"
    return f"{found.value:g}"


def _broken(suite: Suite, constraint: Constraint, period: Period, engine: str, error: Exception) -> Result:
    why = " ".join(str(error).split()) if isinstance(error, EngagementError) else f"{type(error).__name__}: {' '.join(str(error).split())}"
    return Result(
        suite.name, constraint.name, suite.asset, period, engine, constraint.severity, Status.BROKEN, None, str(constraint.threshold),
        constraint.hint, message=_cut(why),
    )  # fmt: skip


def _not_run(first: tuple[Period, Suite], why: str) -> Result:
    period, suite = first
    return Result(
        "deequ", DEEQU_RAN, suite.asset, period, "deequ", Severity.ERROR, Status.BROKEN, None, "runs",
        "mend what the message says; the DuckDB twin of each constraint is judged meanwhile", message=_cut(why),
    )  # fmt: skip


def _cut(text: str, longest: int = 500) -> str:
    return re.sub(r"\s+", " ", text)[:longest]


def _say(tell: Tell | None, what: str) -> None:
    if tell:
        tell(what)
