"""Every constraint of every suite as an asset check of its asset, partitioned like it, for runs on demand.

Live runs judge candidates themselves and the job `check_settled` judges what has settled; both report under the same names.
On demand the DuckDB twin judges: Spark is not started for one click. All constraints of a suite that a run chose are judged
together; of a range each partition gets a result of its own.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, AssetCheckSpec, AssetKey, multi_asset_check

from engagement.model.model import Model
from engagement.tables.context import TableContext
from engagement.verdicts.result import Period, Result, Status
from engagement_assets import evaluations
from engagement_assets.partitions import Partitions, parse_days, parse_hours
from quality import anomalies, checking, drift
from quality.constraints import Suite
from quality.suites import suites
from resources.tables import Tables

LOOKS = {
    ("events", drift.CHECK): "Fields, types, event types and app versions are those that are known.",
    ("daily_engagement", drift.CHECK): "No field that came regularly stayed away all day.",
    ("hourly_engagement", anomalies.CHECK): "The hour's numbers are in line with the same hour of earlier weeks.",
}
"""Asset and name of what is told by more than one period's rows -> what is so when it passes."""


def checks(partitions: Partitions, model: Model | None = None) -> list[AssetChecksDefinition]:
    """One definition an asset, with a check a constraint."""
    by_asset = groupby(sorted(suites(model), key=lambda suite: suite.asset), key=lambda suite: suite.asset)
    return [_checks(asset, tuple(found), partitions) for asset, found in by_asset]


def _checks(asset: str, found: tuple[Suite, ...], partitions: Partitions) -> AssetChecksDefinition:
    daily = found[0].period == "day"
    cut = partitions.days if daily else partitions.hours
    specs = [
        AssetCheckSpec(
            constraint.name, asset=asset, description=f"{constraint.description} Wanted: {constraint.threshold}.", blocking=constraint.gate,
            partitions_def=cut,
        )
        for suite in found
        for constraint in suite.constraints
    ]  # fmt: skip
    specs += [AssetCheckSpec(name, asset=asset, description=text, partitions_def=cut) for (of, name), text in LOOKS.items() if of == asset]

    @multi_asset_check(name=f"{asset}_checks", specs=specs, can_subset=True)
    def check(context: AssetCheckExecutionContext, tables: Tables) -> Iterator[AssetCheckResult]:
        wanted = {key.name for key in context.selected_asset_check_keys}
        keys = context.partition_keys
        periods = [Period.of_day(day) for day in parse_days(keys)] if daily else [Period(hour) for hour in parse_hours(keys)]
        chosen = [suite for suite in checking.suites_of(tables.context) if suite.asset == asset]
        worst: dict[str, Result] = {}
        for result in (
            *checking.check(tables.context, periods, engine="duckdb", suites=chosen),
            *_looks(tables.context, asset, wanted, periods),
        ):
            if result.check in wanted:
                if len(periods) > 1:
                    evaluations.record(context.instance, context.run, result)
                if result.check not in worst or _rank(result) > _rank(worst[result.check]):
                    worst[result.check] = result
        for name, result in worst.items():
            if result.status is Status.EMPTY:  # nothing was looked at: it neither passed nor failed
                context.log.info("%s: no row to look at", name)
                continue
            yield AssetCheckResult(
                passed=result.passed, asset_key=AssetKey(asset), check_name=name,
                severity=evaluations.severity(result), metadata=dict[str, Any](evaluations.metadata(result)),
                description=f"{result.period.key}: {result.message}" if len(periods) > 1 else result.message,
            )  # fmt: skip

    return check


def _looks(context: TableContext, asset: str, wanted: Collection[str], periods: Sequence[Period]) -> list[Result]:
    now = datetime.now(UTC)
    found = drift.look(context, periods, now) if (asset, drift.CHECK) in LOOKS and drift.CHECK in wanted else []
    if (asset, anomalies.CHECK) in LOOKS and anomalies.CHECK in wanted:
        found += anomalies.judge(context, periods, now, history_too=True)
    return found


def _rank(result: Result) -> int:
    """What is worse is shown for a range."""
    return (Status.EMPTY, Status.PASSED, Status.FAILED, Status.BROKEN).index(result.status)
