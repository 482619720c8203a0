"""Schedules: what runs by the clock. What waits in the lake is the sensors' matter, never a schedule's."""

from __future__ import annotations

from typing import Any

from dagster import DefaultScheduleStatus, ScheduleDefinition

AUDIT_CRON = "*/15 * * * *"
"""A run costs under a CPU-second; damage of the raw log is known a quarter of an hour later."""


def schedules(audit_job: Any) -> list[ScheduleDefinition]:
    """All schedules, over the jobs they run."""
    return [
        ScheduleDefinition(
            name="audit_raw_every_15_minutes",
            job=audit_job,
            cron_schedule=AUDIT_CRON,
            execution_timezone="UTC",
            default_status=DefaultScheduleStatus.RUNNING,
            description="Runs the chain audit of the raw log.",
        )
    ]
