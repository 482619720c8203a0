"""The sensor of quality: when something has settled and was not judged as it is now, it asks for one run of `check_settled`.

Level-triggered: the job computes anew what is due. One run at a time; after failures it waits longer and longer. Thin: what is
due stands in `quality.due`, what has settled in `engagement.waiting.settled`.
"""

from datetime import UTC, datetime
from typing import Any

from dagster import (
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunRequest,
    RunsFilter,
    SensorDefinition,
    SensorEvaluationContext,
    SkipReason,
    sensor,
)

from engagement.tables.context import open_tables
from engagement.waiting import recent
from quality import due
from resources import tags
from resources.tables import Tables
from sensors.arrivals import FINISHED, UNDER_WAY
from sensors.planning import retry_delay

LANE = "quality"
REMEMBERED = 10


def settled_sensor(job: Any) -> SensorDefinition:
    """The sensor's definition, over the job; it needs the `tables` resource."""

    @sensor(
        name="settled",
        job=job,
        minimum_interval_seconds=due.TURN_SECONDS,
        default_status=DefaultSensorStatus.RUNNING,
        description="Asks for a run of the suites when hours or days have settled and were not judged as they are now.",
    )
    def settled(context: SensorEvaluationContext, tables: Tables) -> RunRequest | SkipReason:
        return evaluate(context.instance, tables, job.name, datetime.now(UTC))

    return settled


def evaluate(instance: DagsterInstance, tables: Tables, job_name: str, now: datetime) -> RunRequest | SkipReason:
    """One tick: a run, or why none."""
    if instance.get_runs(RunsFilter(job_name=job_name, statuses=UNDER_WAY), limit=1):
        return SkipReason("a run is under way")
    wait = resting(instance, job_name, now)
    if wait > 0:
        return SkipReason(f"the last run failed: the next one in {wait:.0f} s")
    with open_tables(tables.settings()) as opened:
        found = due.pairs(opened, recent.compute(opened, now), now)
    if not found:
        return SkipReason("nothing has settled that was not judged as it is now")
    return RunRequest(tags={tags.LANE: LANE, "dagster/priority": "-10"})


def resting(instance: DagsterInstance, job_name: str, now: datetime) -> float:
    """Seconds until the next run may be asked for: none, or a delay that grows with the failures in a row."""
    failures = 0
    ended = None
    for record in instance.get_run_records(RunsFilter(job_name=job_name, statuses=FINISHED), limit=REMEMBERED):
        if record.dagster_run.status == DagsterRunStatus.SUCCESS:
            break
        failures += 1
        ended = ended or datetime.fromtimestamp(record.end_time or record.update_timestamp.timestamp(), UTC)
    return 0.0 if ended is None else (ended + retry_delay(failures) - now).total_seconds()
