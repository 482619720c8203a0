"""Jobs: all hourly assets in one process, all daily ones in another. Checks are judged inside, not as steps (design §7).

The audit of the raw log is a job of its own: it judges no partition, and never delays the live path.
"""

from __future__ import annotations

from typing import Any

from dagster import AssetCheckKey, AssetKey, AssetSelection, define_asset_job, in_process_executor

from engagement_assets.raw import CHAINS_WHOLE, RAW_EVENTS
from resources import tags
from resources.names import CATALOG, DAILY_ASSETS, DAYS_JOB, HOURLY_ASSETS, HOURS_JOB

AUDIT_JOB = "audit_raw"


def jobs() -> list[Any]:
    """The jobs that sensors, schedules and the command line run."""
    return [
        define_asset_job(
            name, AssetSelection.assets(*assets, CATALOG).without_checks(), executor_def=in_process_executor, description=description
        )
        for name, assets, description in (
            (HOURS_JOB, HOURLY_ASSETS, "Refresh a contiguous range of hours, raw events to hour rows, in one process."),
            (DAYS_JOB, DAILY_ASSETS, "Refresh the day rows of a contiguous range of days."),
        )
    ]  # fmt: skip


def audit_job() -> Any:
    """The job that a schedule runs: the checks of the raw log, nothing else."""
    return define_asset_job(
        AUDIT_JOB,
        AssetSelection.checks(AssetCheckKey(AssetKey(RAW_EVENTS), CHAINS_WHOLE)),
        executor_def=in_process_executor,
        tags={tags.LANE: "maintenance"},
        description="Audit the chains of the raw log and of the archive, from footers alone.",
    )
