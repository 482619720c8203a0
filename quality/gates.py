"""Gates: cheap structural checks of a candidate before its publication (design §7).

Each takes the rows of one unit as an Arrow table and what its footer will say. Only structural rules gate:
keys, accounting, sums. A unit that fails keeps its last good object.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engagement.model import units
from engagement.tables import engine
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Held

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate measured: the number of violations (0 passes), and what to do about any."""

    gate: str
    violations: int
    hint: str

    @property
    def passed(self) -> bool:
        """Whether the unit may be published."""
        return self.violations == 0


Check = Callable[[TableContext, "pa.Table", Mapping[str, Any]], int]


@dataclass(frozen=True, slots=True)
class Gate:
    """One check of one table; `count` returns the number of violations."""

    name: str
    table: str
    count: Check
    description: str
    hint: str
    of_footer: bool = False
    """Whether it judges what the unit's footer says too; all others look at rows alone, which many units can give together."""


def _repeated_events(context: TableContext, rows: pa.Table, _facts: Mapping[str, Any]) -> int:
    context.con.register("candidate", rows)
    # Hashes first: pairs of 64-bit numbers group many times faster than texts, and only doubles are looked at.
    return int(engine.scalar(context.con, """
        WITH doubtful AS (SELECT hash(event_id) AS h, event_time AS t FROM candidate GROUP BY ALL HAVING count(*) > 1)
        SELECT count(*) FROM (
            SELECT event_id FROM candidate AS c SEMI JOIN doubtful AS d ON d.h = hash(c.event_id) AND d.t = c.event_time
            GROUP BY c.event_id, c.event_time HAVING count(*) > 1
        )"""))  # fmt: skip


def _unaccounted_events(_context: TableContext, rows: pa.Table, facts: Mapping[str, Any]) -> int:
    return abs(int(facts["rows_in"]) - int(rows.num_rows) - int(facts["duplicates"]))


def _repeated_sessions(context: TableContext, rows: pa.Table, _facts: Mapping[str, Any]) -> int:
    context.con.register("candidate", rows)
    return int(engine.scalar(context.con, "SELECT count(*) - count(DISTINCT session_key) FROM candidate"))


def _wrong_all_rows(context: TableContext, rows: pa.Table, facts: Mapping[str, Any]) -> int:
    import pyarrow.compute as pc

    context.con.register("candidate", rows)
    # Rows of an older model stand only over all values of a dimension that is new.
    present = facts.get("model", context.model.digest) == context.model.digest
    words = {name: word for name, word in context.model.all_words.items() if present or pc.any(pc.not_equal(rows[name], word)).as_py()}
    additive = context.model.additive
    sums = ", ".join(f"sum({name}) AS {name}" for name in additive)
    names = ", ".join(("hour", *words, *additive))
    leaf = " AND ".join(f"{name} <> '{word}'" for name, word in words.items())
    levels = ", ".join(f"coalesce({name}, '{word}') AS {name}" for name, word in words.items())
    return int(engine.scalar(context.con, f"""
        WITH leaves AS (SELECT * FROM candidate WHERE {leaf}),
        added AS (SELECT hour, {levels}, {sums} FROM leaves GROUP BY hour, CUBE ({", ".join(words)}) HAVING count(*) > 0)
        SELECT count(*) FROM (
            (SELECT {names} FROM candidate EXCEPT ALL SELECT {names} FROM added)
            UNION ALL (SELECT {names} FROM added EXCEPT ALL SELECT {names} FROM candidate)
        )"""))  # fmt: skip


GATES = (
    Gate("no_repeated_events", units.EVENTS, _repeated_events, "No (event_id, event_time) stands twice (R6).",
         "look at the copies with `engagement query`; rebuild the hour with `engagement backfill`"),
    Gate("events_accounted_for", units.EVENTS, _unaccounted_events,
         "Good rows that the raw footers count are events or dropped copies, none else (R11).",
         "a raw object holds other rows than its footer says: compare them before you rebuild", of_footer=True),
    Gate("no_repeated_sessions", units.SESSIONS, _repeated_sessions, "No session stands twice (R7).",
         "rebuild the day with `engagement backfill`"),
    Gate("all_rows_add_up", units.BIG_TABLE, _wrong_all_rows, "Additive metrics of every ALL row equal the sum of their parts (R8).",
         "rebuild the day with `engagement backfill`"),
)  # fmt: skip


def judge(context: TableContext, table: str, candidate: Candidate) -> list[GateResult]:
    """Run a table's gates over a candidate."""
    return [
        GateResult(gate.name, gate.count(context, candidate.table, candidate.facts), gate.hint) for gate in GATES if gate.table == table
    ]


def judge_all(context: TableContext, table: str, candidates: Sequence[Candidate]) -> list[list[GateResult]]:
    """Run a table's gates over many candidates, a list of results for each.

    Rows are looked at together: what stands once among all of them stands once in each, and only where something is
    wrong is each looked at alone.
    """
    import pyarrow as pa

    results: list[list[GateResult]] = [[] for _ in candidates]
    rows = pa.concat_tables([candidate.table for candidate in candidates])
    for gate in (gate for gate in GATES if gate.table == table):
        clean = not gate.of_footer and gate.count(context, rows, candidates[0].facts) == 0
        for candidate, found in zip(candidates, results, strict=True):
            violations = 0 if clean else gate.count(context, candidate.table, candidate.facts)
            found.append(GateResult(gate.name, violations, gate.hint))
    return results


def require(results: list[GateResult]) -> None:
    """Raises Held where a gate failed."""
    if held := verdict(results):
        raise held


def verdict(results: list[GateResult]) -> Held | None:
    """Why a unit is held, None where every gate passed."""
    failed = [f"{result.gate} ({result.violations} violations)" for result in results if not result.passed]
    return Held(", ".join(failed)) if failed else None
