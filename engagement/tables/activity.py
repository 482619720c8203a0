"""`user_activity`: one row per user, dimensions and slot, the facts that distinct counts come from (R8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from engagement.lake import Entry
from engagement.model import units
from engagement.tables import bulk, slices
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, provenance, publish

ROWS_AT_ONCE = 4_000_000
"""Events that one query of a rebuild reads; of each it holds a few columns."""


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of user activity up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        if events is None or (not rebuild and _same_inputs(context, events, old)):
            return None
        return candidates(context, {slot: events})[slot]

    return publish(context.lake, units.slot_key(units.ACTIVITY, slot), build)


def refresh_all(context: TableContext, slots: Sequence[datetime], *, rebuild: bool = False) -> bulk.Results:
    """Bring these slots up to their events objects, many by one query; slots without one, or of the same one, are left."""
    notes = bulk.note(context, units.ACTIVITY, slots)
    found = bulk.note(context, units.EVENTS, slots)
    events = {slot: entry for slot, entry in found.items() if entry and (rebuild or not _same_inputs(context, entry, notes[slot]))}
    weight = {slot: int(context.footers.of(entry)["rows"]) for slot, entry in events.items()}

    def make(batch: Sequence[datetime]) -> dict[datetime, Candidate]:
        found = {slot: events[slot] for slot in batch if slot in events}
        return candidates(context, found) if found else {}

    batches = bulk.batches_of(slots, weight, ROWS_AT_ONCE)
    return bulk.make_all(context, units.ACTIVITY, batches, notes, make, partial(refresh, context, rebuild=rebuild))


def _same_inputs(context: TableContext, events: Entry, old: Entry | None) -> bool:
    facts = context.footers.of(old)
    return facts.get("events") == events.version and not context.is_outdated(facts)


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
