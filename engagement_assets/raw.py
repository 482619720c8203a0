"""`raw_events`: written by the consumer, not by Dagster; the arrivals sensor reports its materializations.

Its one check audits the whole raw log, archive included, from footers alone. It judges no partition by itself: a
chain of offsets runs through all hours.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from dagster import (
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetSpec,
    MetadataValue,
    TableRecord,
    asset_check,
)

from engagement.raw.coverage import Gap
from engagement.raw.findings import Audit
from engagement.waiting.audited import audited
from engagement_assets.partitions import Partitions
from resources.tables import Tables

RAW_EVENTS = "raw_events"
CHAINS_WHOLE = "chains_whole"
RECENT = timedelta(days=7)
"""A recorded gap warns for so long after the log went on behind it; it stays in the metadata for ever."""
LISTED = 100
"""So many gaps and findings are listed in an evaluation; the counts are of all."""
HINT = (
    "restore lost or damaged objects from a copy: hours made without them are made again by themselves; "
    "of two claims that overlap one was not written by ingest"
)


def specs(partitions: Partitions) -> list[AssetSpec]:
    """The external assets of the raw log, partitioned by ingest hour."""
    return [
        AssetSpec(
            RAW_EVENTS,
            description="Every record of the topics and of imports, one object a partition and flush (R1, R2). By ingest hour.",
            partitions_def=partitions.hours,
            group_name="raw",
            kinds={"kafka", "parquet"},
        )
    ]


def checks() -> list[AssetChecksDefinition]:
    """The check of the raw log."""

    @asset_check(
        asset=RAW_EVENTS,
        name=CHAINS_WHOLE,
        description="Every chain runs from offset 0 to its end, each offset claimed once; what the log lost is a gap record (R1-R5).",
    )
    def chains_whole(tables: Tables) -> AssetCheckResult:
        return judge(audited(tables.context), datetime.now(UTC))

    return [chains_whole]


def judge(audit: Audit, now: datetime) -> AssetCheckResult:
    """Fails for what is wrong, warns of gaps of the last days and of imports that may go on, passes otherwise."""
    recent = [(chain, gap) for chain, gap in audit.gaps if gap.before is None or now - gap.before < RECENT]
    may_go_on = [chain.chain for chain in audit.chains if chain.may_go_on]
    return AssetCheckResult(
        passed=not (audit.findings or recent or may_go_on),
        severity=AssetCheckSeverity.ERROR if audit.findings else AssetCheckSeverity.WARN,
        description=_sentence(audit, recent, may_go_on),
        metadata=_metadata(audit, recent, may_go_on),
    )


def _sentence(audit: Audit, recent: list[tuple[str, Gap]], may_go_on: list[str]) -> str:
    first: list[str] = [finding.text for finding in audit.findings[:1]]
    if not first and recent:
        chain, gap = recent[-1]
        first = [f"{chain} offsets [{gap.start}, {gap.end}): the log lost them before they were read"]
    if not first and may_go_on:
        first = [f"{may_go_on[0]}: its file may have been longer; import it again to be sure"]
    return "; ".join([audit.verdict, *first])


def _metadata(audit: Audit, recent: list[tuple[str, Gap]], may_go_on: list[str]) -> dict[str, Any]:
    chains = audit.chains
    found: dict[str, Any] = {
        "chains": len(chains),
        "files": sum(chain.files for chain in chains),
        "files_hidden_by_archive": sum(chain.hidden for chain in chains),
        "offsets": sum(chain.end for chain in chains),
        "rows": sum(chain.rows for chain in chains),
        "offsets_without_rows": sum(chain.without_rows for chain in chains),
        "gaps": len(audit.gaps),
        "lost_records": sum(gap.offsets for _, gap in audit.gaps),
        "recent_gaps": len(recent),
        "problems": len(audit.findings),
    }
    if audit.findings:
        found["hint"] = HINT
        found["findings"] = _table([{"kind": finding.kind, "what": finding.text} for finding in audit.findings])
    if audit.gaps:
        found["gap_table"] = _table([_gap(chain, gap) for chain, gap in reversed(audit.gaps)])
    if may_go_on:
        found["imports_that_may_go_on"] = MetadataValue.json(may_go_on)
    return found


def _gap(chain: str, gap: Gap) -> dict[str, str | int]:
    return {
        "chain": chain, "start": gap.start, "end": gap.end, "records": gap.offsets,
        "from": gap.after.isoformat() if gap.after else "the beginning", "to": gap.before.isoformat() if gap.before else "now",
    }  # fmt: skip


def _table(rows: list[dict[str, str | int]]) -> MetadataValue[Any]:
    return MetadataValue.table([TableRecord(row) for row in rows[:LISTED]])
