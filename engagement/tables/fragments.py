"""`session_fragments`: what one slot alone says about each owner's sessions, and which sessions that changes (R7).

Each fragments object lists in `affects` the start slots of sessions that its present rows may have changed.
A sessions object is stale while a fragments object names its slot and differs from the version it read
(`sessions.is_stale`). The list is computed by stitching the owners whose fragments changed before and after.

One lake-wide lock is held from the comparison to the PUT: two slots changed at once can, together, make a
day automated that neither makes alone, and then only the second comparison sees it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from engagement.lake import Entry
from engagement.tables import engine, units
from engagement.tables.context import TableContext
from engagement.tables.objects import CODE_VERSION, Candidate, Outcome, provenance, publish

LOCK = "session-fragments"


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of fragments up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        if events is None:
            return None
        same_inputs = facts.get("events") == events.version and facts.get("code") == CODE_VERSION
        if same_inputs and not rebuild:
            return None
        candidate = _candidate(context, slot, events, old, facts)
        return None if same_inputs and not engine.scalar(context.con, "SELECT count(*) FROM changed_owners") else candidate

    with context.lake.lock(LOCK):
        return publish(context.lake, units.slot_key(units.FRAGMENTS, slot), build)


def _candidate(context: TableContext, slot: datetime, events: Entry, old: Entry | None, facts: dict[str, Any]) -> Candidate:
    con = context.con
    source = context.footers.of(events)
    con.execute(f"CREATE OR REPLACE TEMP VIEW slot_events AS SELECT * FROM {context.relation([events], units.EVENTS)}")
    table = engine.table_of(con, engine.sql("fragments"), context.session_rule, units.FRAGMENTS)
    con.register("new_fragments", table)
    con.execute(f"CREATE OR REPLACE TEMP TABLE old_fragments AS SELECT * FROM {context.relation([old], units.FRAGMENTS)}")
    affects = _affected(context, slot) | _pending(context, old, facts)
    times = {name: source[name] for name in ("min_event_time", "max_event_time")}
    return Candidate(
        table, {"events": events.version, "affects": sorted(item.isoformat() for item in affects), **provenance([source]), **times}
    )  # fmt: skip


def _affected(context: TableContext, slot: datetime) -> set[datetime]:
    """Start slots of sessions that differ between the old and the new fragments of this slot."""
    con, minutes = context.con, context.format.slot_minutes
    con.execute("""
        CREATE OR REPLACE TEMP TABLE changed_owners AS
        SELECT DISTINCT user_id, client_id FROM (
            (SELECT * FROM new_fragments EXCEPT SELECT * FROM old_fragments)
            UNION ALL (SELECT * FROM old_fragments EXCEPT SELECT * FROM new_fragments)
        )""")
    others = [context.lake.stat(units.slot_key(units.FRAGMENTS, other)) for other in units.reach(slot, minutes) if other != slot]
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE other_fragments AS
        SELECT f.* FROM {context.relation(others, units.FRAGMENTS)} AS f
        SEMI JOIN changed_owners AS o ON o.user_id = f.user_id AND o.client_id IS NOT DISTINCT FROM f.client_id""")
    for age in ("old", "new"):
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE reach_fragments AS SELECT * FROM other_fragments UNION ALL
            SELECT f.* FROM {age}_fragments AS f
            SEMI JOIN changed_owners AS o ON o.user_id = f.user_id AND o.client_id IS NOT DISTINCT FROM f.client_id""")
        con.execute(f"CREATE OR REPLACE TEMP TABLE {age}_sessions AS {engine.sql('sessions')}", context.session_rule)
    starts = con.execute("""
        SELECT DISTINCT started_at FROM (
            (SELECT * FROM new_sessions EXCEPT SELECT * FROM old_sessions)
            UNION ALL (SELECT * FROM old_sessions EXCEPT SELECT * FROM new_sessions)
        )""").fetchall()
    return {units.floor_slot(start, minutes) for (start,) in starts}


def _pending(context: TableContext, old: Entry | None, facts: dict[str, Any]) -> set[datetime]:
    """What the present object names and sessions have not taken up yet: it must not be forgotten."""
    if old is None:
        return set()
    named = {datetime.fromisoformat(text) for text in facts.get("affects", [])}
    return {
        item
        for item in named
        if context.footers.of(context.lake.stat(units.slot_key(units.SESSIONS, item))).get("fragments", {}).get(old.key) != old.version
    }
