"""What `engagement status` tells, collected as plain data; `status_table` shows it to people."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from engagement.errors import TransientError
from engagement.settings import Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from engagement.freshness import ages
    from engagement.ingest.lag import Lag
    from engagement.raw.findings import Audit
    from engagement.tables.finality import Finality

LAG_TIMEOUT_SECONDS = 3.0
SUSPECT_DAYS = timedelta(days=3)


def collect(settings: Settings, now: datetime) -> dict[str, Any]:
    """All facts; a part that cannot be asked (no broker, no instance) is None with the reason under `problems`."""
    from engagement.freshness import ages
    from engagement.maintenance.layers import measure
    from engagement.raw.names import is_import
    from engagement.tables import finality
    from engagement.tables.context import open_tables
    from engagement.waiting import waits
    from engagement.waiting.audited import audited

    problems: list[str] = []
    with open_tables(settings) as opened:
        waiting = waits.compute(opened)
        lacking = ages.lacking(opened, waiting, now, ages.Seen())
        delays = _delays(opened, waiting.hours, now)
        audit = audited(opened)
        assets = _assets(opened, now, sum(chain.rows for chain in audit.chains))
        sizes, final = measure(opened.lake), finality.read(opened.lake)
        held, suspicious = _held(opened), _suspects(opened, now)
    partitions = _lag(settings, audit, problems)
    only_imports = all(is_import(chain.chain) for chain in audit.chains)
    _judge(assets, lacking, partitions, settings, now, only_imports=only_imports)
    last_runs, backfills = _instance(settings, problems)
    for row in assets:
        row["last_run"] = last_runs.get(row["asset"])
    return {
        "lake": settings.lake_url,
        "assets": assets,
        "raw": _raw(audit),
        "audit": _audit(audit),
        "partitions": partitions and [_partition(item, now) for item in partitions],
        "waits": {
            "hours": {hour.isoformat(): why for hour, why in waiting.hours.items()},
            "days": {day.isoformat(): why for day, why in waiting.days.items()},
        },
        "delays": delays,
        "backfills": backfills,
        "layers": [{"layer": size.layer, "objects": size.objects, "bytes": size.bytes, "small": size.small} for size in sizes],
        "retention": _retention(final, waiting.final, now),
        "held": held,
        "suspects": suspicious,
        "problems": problems,
    }


def _delays(opened: Any, waiting: Iterable[datetime], now: datetime) -> dict[str, Any]:
    """Per lane (R9): how many hours wait, with how many raw rows, and how old the oldest of them is. Late ones are gathered on purpose."""
    from engagement.model import units
    from engagement.waiting import backlog

    hours: dict[str, list[datetime]] = {"live": [], "late": []}
    for hour in waiting:
        hours["late" if units.is_late(hour, now) else "live"].append(hour)
    found = {}
    for lane, lane_hours in hours.items():
        lacking = backlog.measure(opened, lane_hours)
        age = lacking.oldest_received_at and round((now - lacking.oldest_received_at).total_seconds(), 1)
        found[lane] = {"hours": len(lane_hours), "rows": lacking.rows, "oldest_seconds": age}
    return found


def _held(opened: Any) -> list[dict[str, Any]]:
    """Units that a gate holds: since when, what failed, and how many newer raw rows the page lacks of their hours."""
    from engagement.model import units
    from engagement.verdicts import quarantine
    from engagement.waiting import backlog

    found = []
    for incident in quarantine.held(opened.lake):
        hours = units.hours_of(incident.period.start.date()) if incident.period.kind == "day" else [incident.period.start]
        found.append(
            {
                "unit": incident.unit, "since": incident.since.isoformat(timespec="seconds"), "failed": dict(incident.failed),
                "judged": incident.times, "rows_lacking": backlog.measure(opened, hours).rows,
            }
        )  # fmt: skip
    return found


def _suspects(opened: Any, now: datetime) -> list[dict[str, Any]]:
    """Published units of the last days that a check of severity error, or an anomaly, says may be wrong."""
    from engagement.verdicts.suspects import suspects

    return [
        {
            "unit": suspect.unit, "since": suspect.since.isoformat(timespec="seconds"), "checks": [item.check for item in suspect.results],
            "message": suspect.results[0].message,
        }
        for suspect in suspects(opened.lake, now.date() - SUSPECT_DAYS, now.date())
    ]  # fmt: skip


def _retention(final: Finality, too_late: Iterable[datetime], now: datetime) -> dict[str, Any]:
    """Since when each layer holds data where retention took what was before, the first day that is still made again, and what it lacks."""
    first = final.first_open_day(now)
    return {
        "first_open_day": first and first.isoformat(),
        "kept_since": {layer: day.isoformat() for layer, day in final.gone_before.items()},
        "hours_with_rows_too_late": [hour.isoformat() for hour in too_late],
    }


def _raw(audit: Audit) -> dict[str, Any]:
    """What the raw log holds, archived or not."""
    rejects: dict[str, int] = {}
    for chain in audit.chains:
        for reason, count in chain.rejects.items():
            rejects[reason] = rejects.get(reason, 0) + count
    return {
        "objects": sum(chain.files for chain in audit.chains),
        "rows": sum(chain.rows for chain in audit.chains),
        "rejects": dict(sorted(rejects.items(), key=lambda item: (-item[1], item[0]))),
    }


def _audit(audit: Audit) -> dict[str, Any]:
    """The verdict on the chains, what is wrong with them, recorded gaps, and each chain's counts."""
    return {
        "verdict": audit.verdict,
        "findings": [{"kind": finding.kind, "text": finding.text} for finding in audit.findings],
        "gaps": [
            {
                "chain": chain, "start": gap.start, "end": gap.end, "offsets": gap.offsets,
                "after": gap.after and gap.after.isoformat(), "before": gap.before and gap.before.isoformat(),
            }
            for chain, gap in audit.gaps
        ],
        "imports_that_may_go_on": [chain.chain for chain in audit.chains if chain.may_go_on],
        "chains": [
            {
                "chain": chain.chain, "end": chain.end, "files": chain.files, "hidden": chain.hidden, "archived": chain.archived,
                "rows": chain.rows, "without_rows": chain.without_rows, "rejects": dict(chain.rejects), "whole": chain.whole,
            }
            for chain in audit.chains
        ],
    }  # fmt: skip


def _assets(opened: Any, now: datetime, raw_rows: int) -> list[dict[str, Any]]:
    from engagement.model import units

    rows = [_row("raw_events", opened.index.newest_received_at(), now, raw_rows)]
    for name, table in (
        ("events", units.EVENTS),
        ("session_fragments", units.FRAGMENTS),
        ("user_activity", units.ACTIVITY),
        ("sessions", units.SESSIONS),
    ):
        entries = list(opened.lake.list(table))
        facts = [opened.footers.of(entry) for entry in entries]
        times = [datetime.fromisoformat(fact["newest_received_at"]) for fact in facts if fact.get("newest_received_at")]
        rows.append(_row(name, max(times, default=None), now, sum(fact.get("rows", 0) for fact in facts)))
    entries = list(opened.lake.list(units.BIG_TABLE))
    hours = [made for entry in entries for made in opened.footers.of(entry).get("hours", {}).values()]
    days = [opened.footers.of(entry) for entry in entries if entry.key.endswith("/day.parquet")]
    for name, found in (("hourly_engagement", hours), ("daily_engagement", days)):
        times = [datetime.fromisoformat(fact["newest_received_at"]) for fact in found if fact.get("newest_received_at")]
        rows.append(_row(name, max(times, default=None), now, sum(fact.get("rows", 0) for fact in found)))
    return rows


def _row(name: str, newest: datetime | None, now: datetime, rows: int) -> dict[str, Any]:
    age = None if newest is None else round((now - newest.astimezone(UTC)).total_seconds(), 1)
    return {"asset": name, "newest_received_at": newest and newest.isoformat(), "age_seconds": age, "rows": rows}


def _instance(settings: Settings, problems: list[str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Asset -> when it was last materialized, and backfills under way, from the instance of the state folder if there is one."""
    if not (settings.state_dir / "dagster" / "dagster.yaml").exists():
        problems.append("no Dagster instance in the state folder yet: no run was recorded")
        return {}, []
    import os

    os.environ["DAGSTER_HOME"] = str(settings.state_dir / "dagster")
    from dagster import AssetKey, DagsterInstance

    names = ("raw_events", "events", "session_fragments", "user_activity", "sessions", "hourly_engagement", "daily_engagement")
    with DagsterInstance.get() as instance:
        found = {name: instance.get_latest_materialization_event(AssetKey(name)) for name in names}
        backfills = _backfills(instance)
    made = {name: datetime.fromtimestamp(event.timestamp, UTC).isoformat(timespec="seconds") for name, event in found.items() if event}
    return made, backfills


def _backfills(instance: DagsterInstance) -> list[dict[str, Any]]:
    """What `engagement backfill` asked the daemon for and is not over: how many runs are done, failed, and left."""
    from sensors import backfills

    return [
        {
            "what": asked.what, "since": asked.began.isoformat(timespec="seconds"), "done": len(found.done), "failed": len(found.failed),
            "left": len(found.left) + len(found.under_way),
        }
        for asked in backfills.asked(instance) if (found := backfills.standing(instance, asked))
    ]  # fmt: skip


def _judge(
    assets: list[dict[str, Any]], lacking: ages.Lacking, partitions: list[Lag] | None, settings: Settings, now: datetime, *,
    only_imports: bool,
) -> None:  # fmt: skip
    """Add to each asset how old the oldest record is that it lacks, and what its SLA says (docs/monitoring.md)."""
    from engagement.freshness import ages, sla

    log = ages.NO_LOG if partitions is None and only_imports else ages.Log.of(partitions)
    found = {item.asset: item for item in ages.judge(lacking, log, sla.load(settings), now) if item.lane == "live"}
    for row in assets:
        item = found[row["asset"]]
        row["lacks_seconds"] = None if item.age is None else round(item.age.total_seconds(), 1)
        row["sla"] = item.state.name.lower()


def _lag(settings: Settings, audit: Audit, problems: list[str]) -> list[Lag] | None:
    """Per partition: the log's end, the lake's end, how far apart; None where the broker does not answer."""
    from engagement.ingest import lag

    try:
        found = lag.measure(settings, {chain.chain: chain.end for chain in audit.chains}, LAG_TIMEOUT_SECONDS)
    except TransientError as error:
        problems.append(f"broker {settings.kafka_bootstrap_servers}: {error}")
        return None
    for item in found:
        where = f"{item.topic}/{item.partition}"
        if item.records < 0:
            problems.append(f"{where}: the lake ends at {item.lake_end}, the log at {item.log_end}: the broker lost records or is another")
        elif item.lost:
            problems.append(f"{where}: the log has already lost {item.lost:,} records that the lake lacks: ingest records them as a gap")
    return found


def _partition(item: Lag, now: datetime) -> dict[str, Any]:
    return {
        "topic": item.topic, "partition": item.partition, "log_end": item.log_end, "lake_end": item.lake_end,
        "lag": item.records, "lost": item.lost, "lag_seconds": None if (age := item.seconds(now)) is None else round(age, 1),
    }  # fmt: skip
