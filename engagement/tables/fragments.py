"""`session_fragments`: what one slot alone says about each owner's sessions, and which sessions that changes (R7).

Each fragments object lists in `affects` the start slots of sessions that its present rows may have changed.
A sessions object is stale while a fragments object names its slot and differs from the version it read
(`sessions.is_stale`). The list is computed by stitching the owners whose fragments changed before and after.
`affects_facts` lists those that differ only because the old rows were made under another model: to sessions of that
older model nothing has changed, those of the present one must count anew. Without this a new metric would rebuild the
whole history, midnight by midnight.

One lake-wide lock is held from the comparison to the PUT: two slots changed at once can, together, make a
day automated that neither makes alone, and then only the second comparison sees it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from engagement.lake import Entry
from engagement.tables import engine, schemas, units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, provenance, publish

LOCK = "session-fragments"


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of fragments up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        if events is None:
            return None
        same_inputs = facts.get("events") == events.version and not context.is_outdated(facts)
        if same_inputs and not rebuild:
            return None
        candidate = _candidate(context, slot, events, old, facts)
        return None if same_inputs and not engine.scalar(context.con, "SELECT count(*) FROM changed_owners") else candidate

    with context.lake.lock(LOCK):
        return publish(context.lake, units.slot_key(units.FRAGMENTS, slot), build)


def _candidate(context: TableContext, slot: datetime, events: Entry, old: Entry | None, facts: dict[str, Any]) -> Candidate:
    con = context.con
    source = context.footers.of(events)
    con.execute(f"CREATE OR REPLACE TEMP VIEW slot_events AS SELECT * FROM {context.relation([events], units.EVENTS, place=True)}")
    rows = context.rows(context.sql("fragments"), context.session_rule | {"slot_us": context.slot_us})
    table = context.typed(rows, units.FRAGMENTS)
    con.register("new_fragments", table)
    con.execute(f"CREATE OR REPLACE TEMP TABLE old_fragments AS SELECT * FROM {context.relation([old], units.FRAGMENTS)}")
    affected, of_model = _affected(context, slot, same_model=old is None or facts.get("model") == context.model.digest)
    named = {
        "affects": _texts(affected | _pending(context, old, facts, "affects")),
        "affects_facts": _texts(of_model | _pending(context, old, facts, "affects_facts")),
    }
    times = {name: source[name] for name in ("min_event_time", "max_event_time")}
    return Candidate(table, {**context.made_by, "events": events.version, **named, **provenance([source]), **times})


def _texts(slots: set[datetime]) -> list[str]:
    return sorted(slot.isoformat() for slot in slots)


def _affected(context: TableContext, slot: datetime, *, same_model: bool) -> tuple[set[datetime], set[datetime]]:
    """Start slots of sessions that differ between the old and the new fragments of this slot.

    Where the old ones were made under another model, those that differ in what the model declares alone come apart.
    """
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
        con.execute(f"CREATE OR REPLACE TEMP TABLE {age}_sessions AS {context.sql('sessions')}", context.session_rule)
    affected = _starts_that_differ(context, "*")
    if same_model:
        return affected, set()
    built_in = [name for name, column in schemas.columns(units.SESSIONS, context.model).items() if column.built_in]
    always = _starts_that_differ(context, ", ".join(built_in))
    return always, affected - always


def _starts_that_differ(context: TableContext, columns: str) -> set[datetime]:
    starts = context.con.execute(f"""
        SELECT DISTINCT started_at FROM (
            (SELECT {columns} FROM new_sessions EXCEPT SELECT {columns} FROM old_sessions)
            UNION ALL (SELECT {columns} FROM old_sessions EXCEPT SELECT {columns} FROM new_sessions)
        )""").fetchall()
    return {units.floor_slot(start, context.format.slot_minutes) for (start,) in starts}


def _pending(context: TableContext, old: Entry | None, facts: dict[str, Any], name: str) -> set[datetime]:
    """What the present object names and sessions have not taken up yet: it must not be forgotten."""
    if old is None:
        return set()
    named = {datetime.fromisoformat(text) for text in facts.get(name, [])}
    return {
        item
        for item in named
        if context.footers.of(context.lake.stat(units.slot_key(units.SESSIONS, item))).get("fragments", {}).get(old.key) != old.version
    }
