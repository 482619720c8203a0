"""`maintain`: the maintenance run as a job on a schedule, in a lane of its own, with what each step did as metadata.

What the steps are stands in `engagement.maintenance`; `engagement maintain` runs the same. The job has one step, because a
step of the run that fails must not skip those behind it: the run fails at its end and names what failed.
"""

import time
from datetime import UTC, datetime, timedelta

from dagster import (
    DefaultScheduleStatus,
    Failure,
    JobDefinition,
    MetadataValue,
    OpExecutionContext,
    ScheduleDefinition,
    TableRecord,
    in_process_executor,
    job,
    op,
)

from engagement.maintenance.report import Tell
from engagement.maintenance.run import Result, maintain_opened
from engagement_assets import archive, run_records
from resources import tags
from resources.tables import Tables

MAINTAIN_JOB = "maintain"
CRON = "20 * * * *"
"""An ingest hour is closed an hour after its end at the earliest; the full hours are busy with other people's cron jobs."""
LISTED = 100
"""So many objects of a step are listed in the metadata; the counts are of all."""
QUIET_SECONDS = 60.0
"""Progress is logged so often at most, and often enough that the run does not look dead (`sensors.arrivals.SILENT_AFTER`)."""


def maintain_job() -> JobDefinition:
    """The job."""

    @op(
        name="maintain_lake",
        description="Archive, expire raw, retention, lifecycle, sweep, catalog, run records; a part that fails stops no other.",
    )
    def maintain_lake(context: OpExecutionContext, tables: Tables) -> None:
        tables.give_way()
        now, tell = datetime.now(UTC), _logged(context)
        keep = timedelta(days=tables.settings().run_days)
        more = {run_records.NAME: lambda: run_records.step(context.instance, keep, now, tell=tell)}
        result = maintain_opened(tables.context, now, tell=tell, more=more)
        for written in archive.materializations(result.parts):
            context.log_event(written)
        found = metadata(result)
        if result.problems:
            raise Failure("; ".join(result.problems), metadata=found, allow_retries=False)
        context.add_output_metadata(found)

    @job(
        name=MAINTAIN_JOB,
        executor_def=in_process_executor,
        tags={tags.LANE: "maintenance", "dagster/priority": "-5"},
        description="Upkeep of the lake: archive closed hours, expire raw, apply retention, sweep left-overs, mend the catalog.",
    )
    def maintain() -> None:
        maintain_lake()

    return maintain


def schedule(of: JobDefinition) -> ScheduleDefinition:
    """The schedule of the job."""
    return ScheduleDefinition(
        name="maintain_every_hour",
        job=of,
        cron_schedule=CRON,
        execution_timezone="UTC",
        default_status=DefaultScheduleStatus.RUNNING,
        description="Runs the upkeep of the lake.",
    )


def metadata(result: Result) -> dict[str, MetadataValue]:
    """What each step did, what a person should know, and how big each layer is (R11)."""
    found: dict[str, MetadataValue] = {}
    for step in result.steps:
        found[f"{step.name}_objects"] = MetadataValue.int(step.objects)
        found[f"{step.name}_bytes"] = MetadataValue.int(step.bytes)
        lines = [*step.notes, *step.problems, *step.items[:LISTED]]
        if lines:
            found[f"{step.name}_what"] = MetadataValue.md("\n".join(f"- {line}" for line in lines))
    found["layers"] = MetadataValue.table(
        [
            TableRecord({"layer": size.layer, "objects": size.objects, "bytes": size.bytes, "small objects": size.small})
            for size in result.sizes
        ]
    )
    return found


def _logged(context: OpExecutionContext) -> Tell:
    """A listener that logs what is being done, now and then."""
    last = 0.0

    def tell(what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= QUIET_SECONDS:
            last = time.monotonic()
            context.log.info("maintain: %s", what)

    return tell
