"""What only a look at everything tells: sizes of the layers, rejects, the chain audit, results of checks. Looked at now and then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from engagement.exporter import series
from engagement.exporter.series import Sample, sample
from engagement.maintenance.layers import measure
from engagement.model import units
from engagement.tables import engine
from engagement.tables.context import TableContext
from engagement.verdicts import accepted, records, suspects
from engagement.verdicts.result import Status
from engagement.waiting.audited import audited

DAYS = timedelta(days=3)
KINDS = ("hole", "overlap", "duplicate", "backwards", "miscounted", "unreadable")


def look(context: TableContext, now: datetime) -> Iterator[Sample]:
    """One look; the index has to be in step with the lake. Raises what the lake raises."""
    for size in measure(context.lake):
        yield from sample(series.LAYER_BYTES, size.bytes, size.layer)
        yield from sample(series.LAYER_OBJECTS, size.objects, size.layer)
        yield from sample(series.SMALL_OBJECTS, size.small, size.layer)
    yield from _chains(context)
    yield from _footers(context, now)
    yield from _quality(context, now)


def _chains(context: TableContext) -> Iterator[Sample]:
    found = audited(context)
    rows: Counter[str] = Counter()
    rejects: Counter[tuple[str, str]] = Counter()
    for chain in found.chains:
        topic = chain.chain.partition("/")[0]
        rows[topic] += chain.rows
        rejects.update({(topic, reason): count for reason, count in chain.rejects.items()})
    for topic, count in rows.items():
        yield from sample(series.RAW_ROWS, count, topic)
    for (topic, reason), count in rejects.items():
        yield from sample(series.RAW_REJECTS, count, topic, reason)
    kinds = Counter(finding.kind for finding in found.findings)
    for kind in {*KINDS, *kinds}:
        yield from sample(series.AUDIT_FINDINGS, kinds[kind], kind)
    yield from sample(series.GAP_RECORDS, sum(gap.offsets for _, gap in found.gaps))
    noticed: Counter[str] = Counter()
    for raw in context.index.uncovered():
        noticed.update(raw.noticed)
    for what, count in noticed.items():
        yield from sample(series.LATE_ROWS, count, what)


def _footers(context: TableContext, now: datetime) -> Iterator[Sample]:
    """From the footers of events: copies of the last two days, and units that other code or another model made."""
    since = units.floor_day(now) - units.DAY
    duplicates, old_code, old_model = 0, 0, 0
    for entry in context.lake.list(units.EVENTS):
        if not units.is_key(entry.key):
            continue
        facts = context.footers.of(entry)
        if units.slot_of_key(entry.key) >= since:
            duplicates += facts.get("duplicates", 0)
        old_code += facts.get("code") != context.made_by["code"] or facts.get("reference") != engine.reference_version()
        old_model += facts.get("model") != context.model.digest
    yield from sample(series.DUPLICATES, duplicates)
    yield from sample(series.OUTDATED, old_code, "code")
    yield from sample(series.OUTDATED, old_model, "model")


def _quality(context: TableContext, now: datetime) -> Iterator[Sample]:
    standings = records.latest(context.lake, (now - DAYS).date(), now.date())
    said = {(item.unit, item.check) for item in accepted.read(context.lake)}
    found = suspects.of(standings, said)
    by_asset = Counter(suspect.asset for suspect in found)
    for asset in ("raw_events", "events", "sessions", "hourly_engagement", "daily_engagement"):
        yield from sample(series.SUSPECT, by_asset[asset], asset)
    anomalies = {
        (suspect.asset, suspect.period)
        for suspect in found
        if now - suspect.period.start <= timedelta(days=1) and any(result.engine == "anomaly" for result in suspect.results)
    }
    yield from sample(series.ANOMALIES, len(anomalies))
    counts = Counter(
        (item.result.asset, item.result.status.value, item.result.severity.value)
        for item in standings.values()
        if item.result.status is not Status.EMPTY
    )
    for labels, count in counts.items():
        yield from sample(series.CHECKS, count, *labels)
