"""The gates as asset checks of a partition, for runs on demand and in CI; live runs judge candidates themselves."""

from typing import TYPE_CHECKING, Any

from dagster import AssetCheckExecutionContext, AssetCheckResult, AssetChecksDefinition, AssetCheckSeverity, asset_check

from engagement.lake import Entry
from engagement.model import units
from engagement.tables.context import TableContext
from engagement_assets.partitions import Partitions, parse_days, parse_hours
from quality.gates import GATES, Gate
from resources.tables import Tables

if TYPE_CHECKING:
    import pyarrow as pa

ASSETS = {
    units.EVENTS: ("events",),
    units.SESSIONS: ("sessions",),
    units.BIG_TABLE: ("hourly_engagement", "daily_engagement"),
}


def checks(partitions: Partitions) -> list[AssetChecksDefinition]:
    """One check a gate and asset, partitioned like the asset."""
    return [_check(gate, name, partitions) for gate in GATES for name in ASSETS[gate.table]]


def _check(gate: Gate, asset_name: str, partitions: Partitions) -> AssetChecksDefinition:
    daily = asset_name == "daily_engagement"

    @asset_check(
        asset=asset_name,
        name=gate.name,
        description=gate.description,
        blocking=True,
        partitions_def=partitions.days if daily else partitions.hours,
    )
    def check(context: AssetCheckExecutionContext, tables: Tables) -> AssetCheckResult:
        published = [part for key in context.partition_keys for part in _published(tables.context, gate.table, key, daily)]
        violations = sum(gate.count(tables.context, rows, facts) for rows, facts in published)
        return AssetCheckResult(
            passed=violations == 0,
            severity=AssetCheckSeverity.ERROR,
            metadata={"objects": len(published), "violations": violations, "hint": gate.hint},
        )

    return check


def _published(context: TableContext, table: str, key: str, daily: bool) -> list[tuple["pa.Table", dict[str, Any]]]:
    """Rows and footer of each published object of one partition."""
    import pyarrow.compute as pc

    if daily:
        keys = [units.day_key(parse_days([key])[0])]
    elif table == units.BIG_TABLE:
        keys = [units.hours_key(parse_hours([key])[0].date())]
    else:
        keys = [units.slot_key(table, slot) for slot in units.slots_of(parse_hours([key])[0], context.format.slot_minutes)]
    found = [entry for item in keys if (entry := context.lake.stat(item))]
    rows = [(_rows(context, table, entry), context.footers.of(entry)) for entry in found]
    if table == units.BIG_TABLE and not daily:
        hour = parse_hours([key])[0]
        rows = [(part.filter(pc.equal(part["hour"], hour.hour)), facts["hours"].get(hour.isoformat(), {})) for part, facts in rows]
    return rows


def _rows(context: TableContext, table: str, entry: Entry) -> "pa.Table":
    """An object's rows with the present columns, whatever model it was made under."""
    return context.table_of(f"SELECT * FROM {context.relation([entry], table)}", {}, table)
