"""What the columns of a day look like: how full they are, how many values, the least, the greatest, the most frequent.

One scan a table. Distinct counts are estimates. Of columns that tell or may tell a person neither values nor bounds are kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from engagement.model import schemas, units
from engagement.tables.context import TableContext
from engagement.verdicts.records import Metric
from engagement.verdicts.result import Period

SUITE = "profile"
TABLES = {
    units.EVENTS: "events", units.FRAGMENTS: "session_fragments", units.ACTIVITY: "user_activity", units.SESSIONS: "sessions",
    units.BIG_TABLE: "daily_engagement",
}  # fmt: skip
"""Table -> the asset that its metrics are of."""
TOP = 10
LONGEST = 60
PERSONAL = ("user_id", "session_id", "session_key", "event_id", "client_id", "city", "properties", "screen_path", "client_session_ids")
"""Columns of which values are never kept."""
FREQUENT_KINDS = ("text", "bool")


def profile(context: TableContext, day: date) -> list[Metric]:
    """Metrics of every column of every table of a UTC day; none of a table without rows."""
    return [metric for table in TABLES for metric in _table(context, table, day)]


def _table(context: TableContext, table: str, day: date) -> Iterator[Metric]:
    folder = f"{table}/year={day:%Y}/month={day:%m}/day={day:%d}"
    entries = [entry for entry in context.lake.list(folder) if units.is_key(entry.key)]
    if not entries:
        return
    columns = schemas.columns(table, context.model)
    relation = context.relation(entries, table)
    measures = {name: _measures(name, column.kind) for name, column in columns.items()}
    parts = ", ".join(part for found in measures.values() for part in found.values())
    numbers = list(context.con.execute(f"SELECT count(*), {parts} FROM {relation}").fetchall()[0])
    rows = numbers.pop(0)
    if not rows:
        return

    def metric(instance: str, name: str, value: float | None, text: str = "") -> Metric:
        return Metric(
            SUITE, TABLES[table], Period.of_day(day), SUITE, "Column" if instance != "*" else "Dataset", instance, name, value, text
        )

    yield metric("*", "Size", float(rows))
    for name, found in measures.items():
        for what in found:
            value = numbers.pop(0)
            if what == "Completeness":
                yield metric(name, what, value / rows)
            elif what == "Top":
                yield metric(name, what, None, _top(value))
            elif isinstance(value, (int, float)):
                yield metric(name, what, float(value))
            elif value is not None:
                yield metric(name, what, None, _plain(value))


def _measures(name: str, kind: str) -> dict[str, str]:
    """Metric -> SQL aggregate of a column."""
    found = {"Completeness": f"count({name})", "ApproxCountDistinct": f"approx_count_distinct({name})"}
    if kind == "texts" or name in PERSONAL:
        return found
    if kind in FREQUENT_KINDS:
        return (
            {**found, "Top": f"histogram(CAST({name} AS VARCHAR)) FILTER ({name} IS NOT NULL)"}
            if kind == "bool"
            else {
                **found,
                "Minimum": f"min({name})",
                "Maximum": f"max({name})",
                "Top": f"approx_top_k({name}, {TOP}) FILTER ({name} IS NOT NULL)",
            }
        )
    bounds = {**found, "Minimum": f"min({name})", "Maximum": f"max({name})"}
    return bounds if kind == "instant" else {**bounds, "Mean": f"avg({name})"}


def _top(value: Any) -> str:
    """Values in the order of their frequency as a JSON list; of a histogram with their counts."""
    if value is None:
        return "[]"
    if isinstance(value, dict):
        return json.dumps([[_plain(item), count] for item, count in sorted(value.items(), key=lambda pair: -pair[1])[:TOP]])
    return json.dumps([[_plain(item), None] for item in value], ensure_ascii=False)


def _plain(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
