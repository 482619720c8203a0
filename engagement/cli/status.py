"""What `engagement status` tells: collected as plain data, then shown as tables a person reads in five seconds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

from engagement.errors import TransientError
from engagement.raw.names import IMPORT_TOPIC
from engagement.settings import Settings

LAG_TIMEOUT_SECONDS = 3.0


def collect(settings: Settings, now: datetime) -> dict[str, Any]:
    """All facts; a part that cannot be asked (no broker, no instance) is None with the reason under `problems`."""
    from engagement.tables import waits
    from engagement.tables.context import open_tables

    problems: list[str] = []
    with open_tables(settings) as opened:
        waiting = waits.compute(opened)
        raw = opened.index.files()
        assets = _assets(opened, now)
    last_runs = _last_runs(settings, problems)
    for row in assets:
        row["last_run"] = last_runs.get(row["asset"])
    rejects: dict[str, int] = {}
    for item in raw:
        for reason, count in item.rejects.items():
            rejects[reason] = rejects.get(reason, 0) + count
    ends: dict[tuple[str, str, int], int] = {}
    for item in raw:
        if item.chain.topic != IMPORT_TOPIC:
            key = (item.chain.topic, item.chain.topic_id, item.chain.partition)
            ends[key] = max(item.end, ends.get(key, 0))
    return {
        "lake": settings.lake_url,
        "assets": assets,
        "raw": {"objects": len(raw), "rows": sum(item.rows for item in raw), "rejects": rejects},
        "partitions": _lag(settings, ends, problems),
        "waits": {
            "hours": {hour.isoformat(): why for hour, why in waiting.hours.items()},
            "days": {day.isoformat(): why for day, why in waiting.days.items()},
        },
        "problems": problems,
    }


def _assets(opened: Any, now: datetime) -> list[dict[str, Any]]:
    from engagement.tables import units

    newest = opened.index.newest_received_at()
    rows = [_row("raw_events", newest, now, sum(item.rows for item in opened.index.files()))]
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


def _last_runs(settings: Settings, problems: list[str]) -> dict[str, str]:
    """Asset -> when it was last materialized, from the instance in the state folder if there is one."""
    if not (settings.state_dir / "dagster" / "dagster.yaml").exists():
        problems.append("no Dagster instance in the state folder yet: no run was recorded")
        return {}
    import os

    os.environ["DAGSTER_HOME"] = str(settings.state_dir / "dagster")
    from dagster import AssetKey, DagsterInstance

    names = ("raw_events", "events", "session_fragments", "user_activity", "sessions", "hourly_engagement", "daily_engagement")
    with DagsterInstance.get() as instance:
        found = {name: instance.get_latest_materialization_event(AssetKey(name)) for name in names}
    return {name: datetime.fromtimestamp(event.timestamp, UTC).isoformat(timespec="seconds") for name, event in found.items() if event}


def _lag(settings: Settings, ends: dict[tuple[str, str, int], int], problems: list[str]) -> list[dict[str, Any]] | None:
    """Per partition: the log's end, the lake's end, and the difference; None where the broker does not answer."""
    from confluent_kafka import Consumer, KafkaException, TopicPartition

    from engagement.ingest.kafka import Topics, silent

    try:
        ids = Topics(settings).ids(list(settings.topics), LAG_TIMEOUT_SECONDS)
        consumer = Consumer(settings.kafka_config(**{"group.id": f"{settings.consumer_group}-status"}), logger=silent())
        found = []
        for topic, topic_id in ids.items():
            metadata = consumer.list_topics(topic, timeout=LAG_TIMEOUT_SECONDS)
            for number in sorted(metadata.topics[topic].partitions):
                _, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=LAG_TIMEOUT_SECONDS)
                end = ends.get((topic, topic_id[:8], number), 0)
                found.append({"topic": topic, "partition": number, "log_end": high, "lake_end": end, "lag": high - end})
        consumer.close()
    except (KafkaException, TransientError) as error:
        text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        problems.append(f"broker {settings.kafka_bootstrap_servers}: {text}")
        return None
    return found


def show(found: dict[str, Any]) -> None:
    """The tables for people, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 130)
    table = Table("asset", "newest data", "age", "rows", "last run", title=f"lake {found['lake']}", title_justify="left")
    for row in found["assets"]:
        newest = (row["newest_received_at"] or "never")[:19].replace("T", " ")
        table.add_row(
            row["asset"], newest, _age(row["age_seconds"]), f"{row['rows']:,}", (row["last_run"] or "never")[:19].replace("T", " ")
        )
    console.print(table)
    if found["partitions"] is not None:
        lag: dict[str, list[int]] = {}
        for item in found["partitions"]:
            lag.setdefault(item["topic"], []).append(item["lag"])
        console.print(
            "lag  " + "   ".join(f"{topic}: {sum(values):,} records ({' '.join(map(str, values))})" for topic, values in lag.items())
        )
    rejects = found["raw"]["rejects"]
    console.print(f"raw  {found['raw']['rows']:,} rows in {found['raw']['objects']:,} objects; rejected {sum(rejects.values()):,}", end="")
    console.print(
        ": " + ", ".join(f"{reason} {count:,}" for reason, count in sorted(rejects.items(), key=lambda item: -item[1])) if rejects else ""
    )
    waiting = found["waits"]
    text = ", ".join(
        [f"{hour[:16]} ({why})" for hour, why in waiting["hours"].items()] + [f"{day} ({why})" for day, why in waiting["days"].items()]
    )
    console.print(f"waits  {text or 'nothing'}")
    for problem in found["problems"]:
        console.print(f"[yellow]{problem}[/yellow]")


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
