"""`user_activity`: one row per user, dimensions and slot, the facts that distinct counts come from (R8)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from engagement.lake import Entry
from engagement.tables import slices, units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, provenance, publish


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of user activity up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        if events is None or (not rebuild and facts.get("events") == events.version and not context.is_outdated(facts)):
            return None
        return candidates(context, {slot: events})[slot]

    return publish(context.lake, units.slot_key(units.ACTIVITY, slot), build)


def candidates(context: TableContext, events: Mapping[datetime, Entry]) -> dict[datetime, Candidate]:
    """User activity of these slots from their events objects, by one query."""
    facts = {slot: _facts(context, entry) for slot, entry in events.items()}  # before the rows: these may then be newer, never older
    context.con.execute(f"CREATE OR REPLACE TEMP VIEW slot_events AS SELECT * FROM {context.relation(events.values(), units.EVENTS)}")
    found = slices.cut(context.rows(context.sql("user_activity"), {"slot_us": context.slot_us}), "slot")
    rows = {slot: found.get(slices.number_of(slot, context.format.slot_minutes)) for slot in events}
    return {slot: Candidate(context.typed(rows[slot], units.ACTIVITY), facts[slot]) for slot in events}


def _facts(context: TableContext, events: Entry) -> dict[str, Any]:
    source = context.footers.of(events)
    times = {name: source[name] for name in ("min_event_time", "max_event_time")}
    return {**context.made_by, "events": events.version, "rows_in": source["rows_in"], **provenance([source]), **times}
