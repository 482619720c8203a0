"""Constraints as Deequ's analyzers: one for the number, one for how many rows it was measured on.

Deequ shares one scan among all that can; only uniqueness groups. The bound is compared by us (`quality.measured`), so that both
engines judge alike and no Python function is called from Java.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from quality.constraints import Constraint, Kind

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from quality.measured import Measured


def measure(session: SparkSession, rows: DataFrame, constraints: list[Constraint]) -> tuple[list[Measured], list[dict[str, Any]]]:
    """The number of each constraint, in their order, and all numbers of Deequ's repository as (entity, instance, name, value)."""
    from pydeequ.analyzers import AnalysisRunner

    from quality.measured import Measured

    unfit = {constraint.name: problem for constraint in constraints if (problem := _unfit(rows, constraint))}
    if unfit:  # one of them would fail the scan that all share
        fit, metrics = (
            measure(session, rows, [item for item in constraints if item.name not in unfit]) if len(unfit) < len(constraints) else ([], [])
        )
        known = {item.name: item for item in fit}
        return [known.get(item.name) or Measured(item.name, None, problem=unfit[item.name]) for item in constraints], metrics
    wanted = [(constraint, analyzer(constraint), counted(constraint)) for constraint in constraints]
    run = AnalysisRunner(session).onData(rows)
    for different in {_words(asked): asked for _, *both in wanted for asked in both}.values():  # Deequ refuses the same twice
        run = run.addAnalyzer(different)
    found = run.run()
    measured = []
    for constraint, number, count in wanted:
        value, problem = _value(session, found, number)
        size, _ = _value(session, found, count)
        total = int(size or 0)
        if total == 0:  # Deequ calls it a failure: "Empty state for analyzer"
            value, problem = None, "" if _binds(problem) else problem
        elif value is None and _binds(problem):  # rows, but none with a value: a predicate that is null in every row holds in none
            value, problem = (0.0 if constraint.kind is Kind.COMPLIANCE else None), ""
        measured.append(Measured(constraint.name, value, total, None, problem))
    return measured, _metrics(session, found)


def _unfit(rows: DataFrame, constraint: Constraint) -> str:
    """Why the rows do not fit a constraint, as for a column that they lack; only the plan is looked at."""
    from pyspark.errors import PySparkException

    try:
        rows.where(constraint.where or "true").selectExpr(
            *constraint.columns, *([constraint.predicate] if constraint.kind is Kind.COMPLIANCE else [])
        )
    except PySparkException as error:
        return " ".join(str(error).split())[:300]
    return ""


def analyzer(constraint: Constraint) -> Any:  # noqa: PLR0911 - one line a kind
    """The analyzer of a constraint's number."""
    from pydeequ import analyzers

    where = constraint.where or None
    match constraint.kind:
        case Kind.SIZE:
            return analyzers.Size(where)
        case Kind.COMPLETENESS:
            return analyzers.Completeness(constraint.columns[0], where)
        case Kind.UNIQUENESS:
            return analyzers.Uniqueness(list(constraint.columns), where)
        case Kind.COMPLIANCE:
            return analyzers.Compliance(constraint.name, constraint.predicate, where)
        case Kind.PATTERN:
            return analyzers.PatternMatch(constraint.columns[0], constraint.predicate, where=where)
        case Kind.MINIMUM:
            return analyzers.Minimum(constraint.columns[0], where)
        case Kind.MAXIMUM:
            return analyzers.Maximum(constraint.columns[0], where)
        case Kind.MEAN:
            return analyzers.Mean(constraint.columns[0], where)
        case Kind.SUM:
            return analyzers.Sum(constraint.columns[0], where)


def counted(constraint: Constraint) -> Any:
    """The analyzer of how many rows the number was measured on; of a uniqueness those that are not null altogether."""
    from pydeequ import analyzers

    where = f"({constraint.where})" if constraint.where else ""
    if constraint.kind is Kind.UNIQUENESS:
        some = " OR ".join(f"{column} IS NOT NULL" for column in constraint.columns)
        where = f"{where} AND ({some})" if where else f"({some})"
    return analyzers.Size(where or None)


def _words(asked: Any) -> str:
    """Tells analyzers apart."""
    return f"{type(asked).__name__} {sorted((name, str(value)) for name, value in vars(asked).items() if name != '_jvm')}"


def _value(session: SparkSession, found: Any, asked: Any) -> tuple[float | None, str]:
    """An analyzer's number, or why there is none."""
    jvm = session._jvm  # noqa: SLF001 - pydeequ's own way
    asked._set_jvm(jvm)  # noqa: SLF001
    metric = found.metric(asked._analyzer_jvm)  # noqa: SLF001
    if not metric.isDefined():
        return None, "Deequ returned no number"
    tried = metric.get().value()
    if tried.isSuccess():
        return float(tried.get()), ""
    return None, " ".join(str(tried.failed().get().getMessage()).split())[:300]


def _binds(problem: str) -> bool:
    """Whether the rows fit the analyzer, so that only their absence kept it from a number."""
    return problem == "" or "Empty state" in problem


def _metrics(session: SparkSession, found: Any) -> list[dict[str, Any]]:
    from pydeequ.analyzers import AnalyzerContext

    return list(AnalyzerContext.successMetricsAsJson(session, found))
