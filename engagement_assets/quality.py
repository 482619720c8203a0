"""`check_settled`: the suites over everything that has settled, in one run and with one start of Spark (design §7).

What is judged and found stands in `quality`; here results become records of the lake and evaluations of their partitions.
It never holds up the live path: the run yields the processor and Spark lives in a child that does so even more. A run succeeds
when it could do its work, whatever the checks say.
"""

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from dagster import Failure, JobDefinition, MetadataValue, OpExecutionContext, in_process_executor, job, op

from engagement.tables.context import TableContext
from engagement.verdicts import records
from engagement.verdicts.result import Period, Result, Status
from engagement.waiting import recent
from engagement_assets import evaluations
from quality import checking, drift, due, profile
from quality.anomalies import judge as judge_anomalies
from resources import tags
from resources.tables import Tables

CHECK_JOB = "check_settled"
PERIODS = 26
"""A day of hours and its day rows; what is more is left to the next run."""
QUIET_SECONDS = 60.0


def check_job() -> JobDefinition:
    """The job that the sensor `settled` asks for."""

    @op(name="judge_settled", description="Deequ suites, anomalies, drift and profiles of what has settled; results by partition.")
    def judge_settled(context: OpExecutionContext, tables: Tables) -> None:
        tables.give_way()
        opened = tables.context
        now = datetime.now(UTC)
        pairs = due.bounded(due.pairs(opened, recent.compute(opened, now), now), PERIODS)
        measured: list[records.Metric] = []
        found = list(checking.check_pairs(opened, pairs, tell=_logged(context), keep=measured.extend))
        periods = sorted({period for period, _ in pairs})
        problems: list[str] = []
        for name, look in (("anomalies", judge_anomalies), ("drift", drift.look)):
            found += _guarded(context, problems, name, lambda look=look: look(opened, periods, now))  # type: ignore[misc]
        records.append_results(opened.lake, found)
        records.append_metrics(opened.lake, measured)
        for result in found:
            evaluations.record(context.instance, context.run, result)
        _profiles(context, opened, periods, problems)
        context.add_output_metadata(summary(found, periods))
        if problems:
            raise Failure("; ".join(problems), allow_retries=False)

    @job(
        name=CHECK_JOB,
        executor_def=in_process_executor,
        tags={tags.LANE: "quality", "dagster/priority": "-10"},
        description="Judge what has settled: Deequ suites, anomalies, schema drift, column profiles.",
    )
    def check_settled() -> None:
        judge_settled()

    return check_settled


def summary(found: Iterable[Result], periods: Iterable[Period]) -> dict[str, MetadataValue]:
    """What a run judged, and the failures by name (R11)."""
    results = list(found)
    counts = {status.value: sum(result.status is status for result in results) for status in Status}
    wrong = [result for result in results if result.status in (Status.FAILED, Status.BROKEN)]
    lines = [f"- {result.asset}/{result.period.key} {result.check}: {result.message}" for result in wrong[:100]]
    return {
        "periods": MetadataValue.text(", ".join(period.key for period in periods)),
        **{name: MetadataValue.int(count) for name, count in counts.items()},
        "failures": MetadataValue.md("\n".join(lines) or "none"),
    }


def _guarded(context: OpExecutionContext, problems: list[str], name: str, look: Callable[[], list[Result]]) -> list[Result]:
    """What one part found; a part that fails stops no other and fails the run at its end."""
    try:
        return look()
    except Exception as error:
        context.log.exception("%s failed", name)
        problems.append(f"{name}: {' '.join(str(error).split())}")
        return []


def _profiles(context: OpExecutionContext, opened: TableContext, periods: Iterable[Period], problems: list[str]) -> None:
    for period in periods:
        if period.kind == "day":
            try:
                records.append_metrics(opened.lake, profile.profile(opened, period.start.date()))
            except Exception as error:
                context.log.exception("profile of %s failed", period.key)
                problems.append(f"profile {period.key}: {' '.join(str(error).split())}")


def _logged(context: OpExecutionContext) -> checking.Tell:
    """A listener that logs what is being done, now and then: a run without events looks dead."""
    last = 0.0

    def tell(what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            context.log.info("check_settled: %s", what)

    return tell
