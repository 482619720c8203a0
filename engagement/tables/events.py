"""`events`: one row per event of a slot, typed, enriched, copies dropped (R6), from raw rows and the rows that stand.

Refresh reads only raw objects that the present object's footer does not cover; a rebuild reads them all.
Both give the same rows in the same order (R10), because the earliest copy wins whatever came when.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from engagement.lake import Entry
from engagement.raw.footers import RawFile
from engagement.tables import engine, rendering, units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, publish

ORDER = ("event_time", "event_id")
"""The total order of the rows of an object."""


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of events up to all raw rows of it; raises as `objects.publish`."""
    key = units.slot_key(units.EVENTS, slot)

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        again = rebuild or context.is_outdated(facts) or facts.get("reference") != engine.reference_version()
        covered: dict[str, int] = {} if again else facts["offsets"]
        context.index.sync()
        touching = context.index.touching(slot)
        # An object behind the covered offsets that could not be read when they were covered, and can be now.
        if sum(raw.event_slots[slot] for raw in touching if raw.end <= covered.get(raw.chain.label, 0)) > facts.get("rows_in", 0):
            again, covered = True, {}
        new = [raw for raw in touching if raw.end > covered.get(raw.chain.label, 0)]
        if not new:
            return None
        candidate = _candidate(context, slot, new, None if again else old, {} if again else facts)
        context.judge(context, units.EVENTS, candidate)
        return candidate

    return publish(context.lake, key, build)


def _candidate(context: TableContext, slot: datetime, new: list[RawFile], old: Entry | None, facts: dict[str, Any]) -> Candidate:
    con, minutes = context.con, context.format.slot_minutes
    paths = [context.lake.path(raw.key) for raw in new]
    con.execute(f"CREATE OR REPLACE TEMP VIEW standing AS SELECT * FROM {context.relation([old], units.EVENTS)}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE arrivals AS {_arrivals(paths)}", {"start": slot, "end": slot + timedelta(minutes=minutes)})
    models = engine.REFERENCE / "device_models.csv"
    con.execute(f"CREATE OR REPLACE TEMP TABLE device_models AS SELECT * FROM read_csv('{models}', header = true, all_varchar = true)")
    table = context.typed(context.rows(context.sql("events"), {}), units.EVENTS).sort_by([(name, "ascending") for name in ORDER])
    offsets = dict(facts.get("offsets", {}))
    for raw in new:
        offsets[raw.chain.label] = max(raw.end, offsets.get(raw.chain.label, 0))
    promised = sum(raw.event_slots[slot] for raw in new)
    read = sum(engine.scalar(con, f"SELECT count(*) FROM {name}") for name in ("arrivals", "standing"))
    times = table["event_time"]
    return Candidate(
        table,
        {
            **context.made_by,
            "reference": engine.reference_version(),
            "offsets": offsets,
            "rows_in": facts.get("rows_in", 0) + promised,
            "duplicates": facts.get("duplicates", 0) + read - table.num_rows,
            "min_event_time": times[0].as_py().isoformat() if table.num_rows else None,
            "max_event_time": times[-1].as_py().isoformat() if table.num_rows else None,
            "newest_received_at": _newest(con, facts),
            **_unfit(context, facts),
        },
    )


def _unfit(context: TableContext, facts: dict[str, Any]) -> dict[str, Any]:
    """`unfit`: promoted column -> records whose properties hold a value that does not fit its type (R11)."""
    columns = [column for column in context.model.columns.values() if not column.built_in]
    if not columns:
        return {}
    counts = ", ".join(f"count(*) FILTER ({rendering.unfit(column, 'properties')})" for column in columns)
    found = context.con.execute(f"SELECT {counts} FROM arrivals").fetchall()[0]
    before = facts.get("unfit", {})
    return {"unfit": {column.name: count + before.get(column.name, 0) for column, count in zip(columns, found, strict=True)}}


def _arrivals(paths: list[Path]) -> str:
    return f"""
        SELECT * FROM {engine.raw_relation(paths)}
        WHERE reject_reason IS NULL AND event_time >= $start AND event_time < $end
    """


def _newest(con: Any, facts: dict[str, Any]) -> str | None:
    newest = engine.scalar(con, "SELECT max(received_at) FROM arrivals")
    found = [instant for instant in (newest and newest.isoformat(), facts.get("newest_received_at")) if instant]
    return max(found, key=datetime.fromisoformat, default=None)
