"""What every asset of a table does around its builder: check its partitions, judge, record checks and metadata.

No table is known here by name; the modules of the table families pass their builder in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dagster import AssetExecutionContext, AssetKey, MetadataValue

from engagement.errors import PermanentError
from engagement.tables.context import TableContext
from engagement.tables.objects import Outcome
from engagement_assets import evaluations
from engagement_assets.partitions import starts_of
from quality import gates
from resources import tags
from resources.tables import Tables

LAST = AssetKey(["catalog"])
"""The asset that ends a job."""


class UnitsFailed(PermanentError):
    """Units of a run were not published; the text names each with why. All others were."""


class PartitionsDropped(PermanentError):
    """Dagster dropped partitions of the asked range (they lie beyond the definition's end) and would succeed."""


def asked_keys(context: AssetExecutionContext) -> list[str]:
    """The run's partition keys; raises PartitionsDropped where they do not reach the ends of the asked range."""
    return require_range(sorted(context.partition_keys), context.run.tags)


def require_range(keys: list[str], asked: Mapping[str, str]) -> list[str]:
    """The sorted keys, if they reach both ends of the range in the tags; raises PartitionsDropped."""
    wanted = (asked.get(tags.RANGE_START), asked.get(tags.RANGE_END))
    if wanted[0] and wanted != (keys[0] if keys else None, keys[-1] if keys else None):
        msg = f"asked for partitions {wanted[0]} to {wanted[1]}, Dagster gave {keys[:1]} to {keys[-1:]}: they are no partitions (yet)"
        raise PartitionsDropped(msg)
    return keys


def is_rebuild(context: AssetExecutionContext) -> bool:
    """Whether the run makes its units from raw alone (backfills) instead of adding what is new."""
    return context.run.tags.get(tags.REBUILD) == "true" or tags.BACKFILL in context.run.tags


@contextlib.contextmanager
def judged(context: AssetExecutionContext, tables: Tables) -> Iterator[TableContext]:
    """The tables with gates in force; results become check evaluations of each candidate's hour or day."""
    opened = tables.context
    if is_rebuild(context):
        tables.give_way()
    judges = gates.Gates(opened, lambda result: evaluations.record(context.instance, context.run, result, blocking=True))
    before = opened.judge, opened.judge_all
    opened.judge, opened.judge_all = judges.judge, judges.judge_all
    try:
        yield opened
    finally:
        opened.judge, opened.judge_all = before


def report(context: AssetExecutionContext, tables: Tables, partition_key: str, outcomes: Sequence[Outcome]) -> None:
    """Metadata of one partition's materialization (R11); remembers objects for the catalog, and units that a gate held."""
    tables.made.update(outcome.key for outcome in outcomes if outcome.size)
    facts = [outcome.facts for outcome in outcomes]
    offsets = _merged_offsets(facts)
    metadata: dict[str, Any] = {
        "dagster/partition_row_count": sum(outcome.rows for outcome in outcomes),
        "bytes": sum(outcome.size for outcome in outcomes),
        "objects_published": sum(outcome.published for outcome in outcomes),
    }
    for name, choose in (("min_event_time", min), ("max_event_time", max), ("newest_received_at", max)):
        found = [fact[name] for fact in facts if fact.get(name)]
        if found:
            metadata[name] = choose(found)
    for name in ("rows_in", "duplicates"):
        if any(name in fact for fact in facts):
            metadata[name] = sum(fact.get(name, 0) for fact in facts)
    unfit = _added([fact["unfit"] for fact in facts if "unfit" in fact])
    if unfit:
        metadata["unfit_values"] = MetadataValue.json(unfit)
    other = _added([fact["other"] for fact in facts if "other" in fact])
    if other:
        metadata["events_in_other"] = MetadataValue.json(other)
    if offsets:
        metadata["raw_offsets"] = MetadataValue.json(offsets)
    held = [f"{outcome.key}: {outcome.held}" for outcome in outcomes if outcome.held]
    if held:
        metadata["held"] = "; ".join(held)
        tables.held[partition_key] = "; ".join(held)
        context.log.error("not published, the last good object stays: %s", "; ".join(held))
    context.add_asset_metadata(metadata, partition_key=partition_key)


@contextlib.contextmanager
def contained(context: AssetExecutionContext, tables: Tables, partition_key: str) -> Iterator[None]:
    """One unit's failure is remembered instead of raised: the other units of the run are published all the same."""
    try:
        yield
    except Exception as error:
        text = f"{context.asset_key.to_user_string()} {partition_key}: {' '.join(str(error).split())}"
        context.log.exception("%s failed, its last good objects stay", text)
        context.add_asset_metadata({"failed": text}, partition_key=partition_key)
        tables.held[partition_key] = text


def fail_at_the_end(context: AssetExecutionContext, tables: Tables) -> None:
    """In the last step of a run, raises UnitsFailed where a unit failed or a gate held it: the run then counts as failed."""
    chosen = context.job_def.asset_layer.selected_asset_keys  # the run's: `context.selected_asset_keys` are this step's alone
    last = context.asset_key == LAST or LAST not in chosen
    if tables.held and last:
        failed = sorted(starts_of(tables.held))
        context.instance.add_run_tags(context.run.run_id, {tags.FAILED: ",".join(start.isoformat() for start in failed)})
        raise UnitsFailed("; ".join(tables.held.values()))


def say_that_no_unit_failed(context: AssetExecutionContext) -> None:
    """Of a run that fails for another reason: its units are up to date and wait for no retry delay."""
    context.instance.add_run_tags(context.run.run_id, {tags.FAILED: ""})


def _merged_offsets(facts: Sequence[dict[str, Any]]) -> dict[str, int]:
    merged: dict[str, int] = {}
    for fact in facts:
        offsets = fact.get("offsets", {})
        # hour rows keep offsets by slot, everything before them by chain alone
        for by_chain in offsets.values() if any(isinstance(end, dict) for end in offsets.values()) else [offsets]:
            for chain, end in by_chain.items():
                merged[chain] = max(end, merged.get(chain, 0))
    return merged


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by name."""
    return {name: sum(count.get(name, 0) for count in counts) for name in sorted({name for count in counts for name in count})}
