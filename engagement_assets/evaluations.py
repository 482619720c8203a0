"""Results of checks as Dagster shows them: one evaluation an hour or day, under the run's own id (design §7).

Dagster keeps one result a check and run where checks run as steps; an event of the run's own keeps one a partition. A check
that had no row to look at leaves no evaluation: it neither passed nor failed.
"""

from __future__ import annotations

import json
from typing import Any

from dagster import (
    AssetCheckEvaluation,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
    DagsterRun,
    MetadataValue,
    TableRecord,
)
from dagster._core.events import DagsterEvent, DagsterEventType

from engagement.verdicts.result import Result, Severity, Status


def record(instance: DagsterInstance, run: DagsterRun, result: Result, *, blocking: bool = False) -> None:
    """Report one result as an evaluation of its partition; nothing for an empty one."""
    if result.status is Status.EMPTY:
        return
    evaluation = AssetCheckEvaluation(
        asset_key=AssetKey(result.asset),
        check_name=result.check,
        passed=result.passed,
        severity=severity(result),
        metadata=metadata(result),
        blocking=blocking,
        partition=result.period.key,
        description=result.message or None,
    )
    event = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value, job_name=run.job_name, event_specific_data=evaluation
    )
    instance.report_dagster_event(event, run_id=run.run_id)


def severity(result: Result) -> AssetCheckSeverity:
    """A check that could not be carried out is an error whatever it would have said."""
    is_error = result.severity is Severity.ERROR or result.status is Status.BROKEN
    return AssetCheckSeverity.ERROR if is_error else AssetCheckSeverity.WARN


def metadata(result: Result) -> dict[str, MetadataValue[Any]]:
    """What was measured and wanted, what to do, and of a failure the offending rows and how to see them all."""
    found: dict[str, MetadataValue[Any]] = {
        "threshold": MetadataValue.text(result.threshold),
        "hint": MetadataValue.text(result.hint),
        "engine": MetadataValue.text(result.engine),
        "suite": MetadataValue.text(result.suite),
    }
    if result.value is not None:
        found["value"] = MetadataValue.float(float(result.value))
    for name in ("rows", "violations"):
        if (number := getattr(result, name)) is not None:
            found[name] = MetadataValue.int(number)
    if result.sample:
        found["sample"] = MetadataValue.table([TableRecord(dict(row)) for row in result.sample])
        found["sample_json"] = MetadataValue.text(json.dumps([dict(row) for row in result.sample], ensure_ascii=False))
    if result.query:
        found["query"] = MetadataValue.md(f"```sql\n{result.query}\n```")
    if result.inputs:
        found["inputs"] = MetadataValue.text(result.inputs)
    return found
