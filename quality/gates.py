"""Gates: the structural constraints of the suites, judged on the candidate of a unit before its publication (design §7).

The twin measures them over the candidate's rows and over what its footer will say. A unit that fails is not published: its
candidate goes to quarantine, its last good object stays. A unit that passes leaves quarantine. What a person released passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engagement.model import units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Held
from engagement.verdicts import quarantine
from engagement.verdicts.result import Result, Severity, Status
from quality import looking, samples, twin
from quality.checking import PUBLIC_ROWS, suites_of
from quality.constraints import Constraint, Suite
from quality.measured import Measured, status

if TYPE_CHECKING:
    import pyarrow as pa

FACTS = "facts"
SHOWS = {units.EVENTS: ("events", "events"), units.SESSIONS: ("sessions", "sessions")}
"""Table -> its view, and the asset whose gates judge it."""
JUDGED = (*SHOWS, units.BIG_TABLE)
RELEASED = "released by hand"


@dataclass
class Gates:
    """The gates of one process over an open lake; `judge` and `judge_all` are what builders call (`TableContext.judge`)."""

    context: TableContext
    tell: Callable[[Result], None] | None = None
    """Hears every result."""
    _held: set[str] | None = None

    def judge(self, _context: TableContext, table: str, candidate: Candidate) -> None:
        """Raises Held where the candidate is refused."""
        (verdict,) = self.judge_all(_context, table, [candidate])
        if verdict:
            raise verdict

    def judge_all(self, _context: TableContext, table: str, candidates: Sequence[Candidate]) -> list[Held | None]:
        """For each candidate why it is refused, or None. Of a table without gates none is."""
        if table not in JUDGED:
            return [None for _ in candidates]
        verdicts = []
        for candidate, results in zip(candidates, judge_all(self.context, table, candidates), strict=True):
            settled = self._settled(table, candidate, results)
            if self.tell:
                for result in settled:
                    self.tell(result)
            verdicts.append(verdict(settled))
        return verdicts

    def _settled(self, table: str, candidate: Candidate, results: list[Result]) -> list[Result]:
        """Into quarantine or out of it; results of a released unit are warnings."""
        lake, failed = self.context.lake, {result.check: result.violations or 0 for result in results if _fails(result)}
        key, _, _ = quarantine.place(table, candidate)
        if failed:
            release = quarantine.released(lake, key)
            if release is None or not release.covers(quarantine.digest(candidate.facts), failed):
                incident = quarantine.hold(lake, table, candidate, failed)
                self._in_quarantine().add(key)
                return [replace(result, message=_since(result, incident)) if _fails(result) else result for result in results]
            results = [
                replace(result, severity=Severity.WARNING, message=f"{result.message}, {RELEASED} {release.at:%Y-%m-%d %H:%M} UTC")
                if _fails(result)
                else result
                for result in results
            ]
        if key in self._in_quarantine():
            quarantine.heal(lake, [key])
            self._in_quarantine().discard(key)
        return results

    def _in_quarantine(self) -> set[str]:
        """Listed once: normally nothing is there, and each unit would ask."""
        if self._held is None:
            self._held = quarantine.keys(self.context.lake)
        return self._held


def _since(result: Result, incident: quarantine.Incident) -> str:
    return f"{result.message}; held since {incident.since:%Y-%m-%d %H:%M} UTC, judged {incident.times} times"


def judge(context: TableContext, table: str, candidate: Candidate) -> list[Result]:
    """Run a table's gates over a candidate; nothing is put anywhere."""
    return judge_all(context, table, [candidate])[0]


def judge_all(context: TableContext, table: str, candidates: Sequence[Candidate]) -> list[list[Result]]:
    """Run a table's gates over many candidates, a list of results for each.

    Their rows are looked at together: what holds in all of them holds in each, and only where something is wrong is each
    looked at alone.
    """
    import pyarrow as pa

    found: list[list[Result]] = [[] for _ in candidates]
    together = pa.concat_tables([candidate.table for candidate in candidates])
    for suite in gate_suites(context, table, by_hour=bool(candidates and candidates[0].hour)):
        measured = _measured(context, table, suite, together, candidates)
        clean = all(_clean(constraint, item) for constraint, item in zip(suite.constraints, measured, strict=True))
        for candidate, results in zip(candidates, found, strict=True):
            if clean or len(candidates) == 1:
                alone = [replace(item, rows=candidate.table.num_rows) for item in measured] if clean else measured
            else:
                alone = _measured(context, table, suite, candidate.table, [candidate])
            results.extend(_results(context, table, suite, candidate, alone))
    return found


def gate_suites(context: TableContext, table: str, *, by_hour: bool = True) -> Iterator[Suite]:
    """The suites of a table, with their gates alone; of the big table those of hour rows or of day rows."""
    asset = SHOWS[table][1] if table in SHOWS else quarantine.HOURLY if by_hour else quarantine.DAILY
    for suite in suites_of(context):
        chosen = tuple(constraint for constraint in suite.constraints if constraint.gate)
        if suite.asset == asset and chosen:
            yield replace(suite, constraints=chosen)


def require(results: Sequence[Result]) -> None:
    """Raises Held where a gate failed."""
    if held := verdict(results):
        raise held


def verdict(results: Sequence[Result]) -> Held | None:
    """Why a unit is held, None where every gate passed."""
    failed = [
        f"{result.check} ({result.violations} violations)" if result.violations else f"{result.check} ({result.message})"
        for result in results
        if _fails(result)
    ]
    return Held(", ".join(failed)) if failed else None


def _fails(result: Result) -> bool:
    return result.is_error


def _clean(constraint: Constraint, measured: Measured) -> bool:
    return status(constraint, measured) in (Status.PASSED, Status.EMPTY)


def _measured(context: TableContext, table: str, suite: Suite, rows: pa.Table, candidates: Sequence[Candidate]) -> list[Measured]:
    _open(context, table, suite, rows, candidates)
    return twin.measure(context.con, suite.rows, suite.constraints)


def _open(context: TableContext, table: str, suite: Suite, rows: pa.Table, candidates: Sequence[Candidate]) -> None:
    """The suite's views over the candidates: their rows, or what their footers will say."""
    if FACTS in looking.named_in(suite.rows, suite.period):
        held = [(item.table.num_rows, item.facts["rows_in"], item.facts["duplicates"], item.facts["rows_in"]) for item in candidates]
        context.con.execute(f"CREATE OR REPLACE TEMP VIEW {FACTS} AS {looking.values(looking.COLUMNS_OF_FACTS, held)}")
    else:
        view = _view(table, candidates)
        context.con.execute(f"CREATE OR REPLACE TEMP VIEW rule AS {looking.rule(strict=_of_present_model(context, candidates))}")
        context.con.register("candidate_rows", rows)
        context.con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM candidate_rows")


def _results(context: TableContext, table: str, suite: Suite, candidate: Candidate, measured: Sequence[Measured]) -> list[Result]:
    found, period = [], quarantine.place(table, candidate)[2]
    for constraint, item in zip(suite.constraints, measured, strict=True):
        state = status(constraint, item)
        failed = state is Status.FAILED
        sample = samples.sample(context.con, suite.rows, constraint, context.settings.hash_keys) if failed else ()
        found.append(
            Result(
                suite.name, constraint.name, suite.asset, period, "gate", constraint.severity, state, item.value,
                str(constraint.threshold), constraint.hint,
                message=item.problem or (f"{item.violations:,} of {item.rows:,} rows" if item.violations else f"{item.rows:,} rows"),
                rows=item.rows,
                violations=item.violations,
                sample=sample,
                query=_query(context, table, suite, constraint, candidate) if failed else "",
            )
        )  # fmt: skip
    return found


def _of_present_model(context: TableContext, candidates: Sequence[Candidate]) -> bool:
    return all(candidate.facts.get("model", context.model.digest) == context.model.digest for candidate in candidates)


def _view(table: str, candidates: Sequence[Candidate]) -> str:
    """The view that shows a table's candidates."""
    return SHOWS[table][0] if table in SHOWS else "hour_rows" if candidates[0].hour else "day_rows"


def _query(context: TableContext, table: str, suite: Suite, constraint: Constraint, candidate: Candidate) -> str:
    """How to see refused rows, with any DuckDB: they are not in the tables. Empty where no rows were refused."""
    offending, view = twin.offending(constraint), _view(table, [candidate])
    if offending is None or not looking.names(suite.rows, view):
        return ""
    file = context.lake.name(quarantine.place(table, candidate)[0])
    views = f"rule AS ({looking.rule(strict=True)}), {view} AS (SELECT * FROM read_parquet('{file}'))"
    return f"WITH {views} SELECT * FROM {suite.rows} WHERE {offending} LIMIT {PUBLIC_ROWS}"
