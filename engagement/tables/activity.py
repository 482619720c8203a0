"""`user_activity`: one row per user, dimensions and slot, the facts that distinct counts come from (R8)."""

from __future__ import annotations

from datetime import datetime

from engagement.lake import Entry
from engagement.tables import engine, units
from engagement.tables.context import TableContext
from engagement.tables.objects import CODE_VERSION, Candidate, Outcome, provenance, publish


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of user activity up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        if events is None or (not rebuild and facts.get("events") == events.version and facts["code"] == CODE_VERSION):
            return None
        source = context.footers.of(events)
        con = context.con
        con.execute(f"CREATE OR REPLACE TEMP VIEW slot_events AS SELECT * FROM {context.relation([events], units.EVENTS)}")
        table = engine.table_of(con, engine.sql("user_activity"), {}, units.ACTIVITY)
        times = {name: source[name] for name in ("min_event_time", "max_event_time")}
        return Candidate(table, {"events": events.version, "rows_in": source["rows_in"], **provenance([source]), **times})

    return publish(context.lake, units.slot_key(units.ACTIVITY, slot), build)
