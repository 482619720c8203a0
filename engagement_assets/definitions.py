"""Everything Dagster loads, put together. Settings are read when Dagster asks, not at import."""

from __future__ import annotations

from datetime import date

from dagster import Definitions, definitions, in_process_executor

from engagement.freshness import sla
from engagement.lake import open_lake
from engagement.model import declared
from engagement_assets import (
    archive,
    catalog,
    checks,
    engagement,
    events,
    jobs,
    maintenance,
    partitions,
    quality,
    raw,
    rebuilds,
    schedules,
    sessions,
)
from engagement_assets.common import with_columns, with_freshness
from resources.tables import Tables
from sensors.arrivals import arrivals_sensor
from sensors.settled import settled_sensor


def build_definitions(history_start: date, tables: Tables) -> Definitions:
    """Fresh definitions for a lake whose history starts on this day."""
    cut = partitions.build(history_start)
    refresh_jobs, audit_job, maintain_job, check_job = jobs.jobs(), jobs.audit_job(), maintenance.maintain_job(), quality.check_job()
    model = declared.load(tables.settings())
    slas = sla.load(tables.settings())
    table_assets = [with_columns(asset, model) for asset in (*events.assets(cut), *sessions.assets(cut), *engagement.assets(cut))]
    return Definitions(
        assets=[
            *with_freshness([*raw.specs(cut), *archive.specs(cut)], slas),
            *with_freshness([*table_assets, *catalog.assets()], slas),
        ],
        asset_checks=[*raw.checks(), *checks.checks(cut, model)],
        jobs=[*refresh_jobs, audit_job, maintain_job, check_job],
        schedules=[*schedules.schedules(audit_job), maintenance.schedule(maintain_job), *rebuilds.schedules(*refresh_jobs)],
        sensors=[arrivals_sensor(refresh_jobs), settled_sensor(check_job)],
        resources={"tables": tables},
        executor=in_process_executor,
    )


@definitions
def defs() -> Definitions:
    """The code location's definitions, with the process's own settings."""
    tables = Tables()
    _, lake_format = open_lake(tables.settings())
    return build_definitions(lake_format.history_start, tables)
