"""What one period of a table was made from, unit by unit, down to offsets of the raw log: read from footers alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engagement.model import units
from engagement.tables import engine
from engagement.tables.context import TableContext

BEHIND: Mapping[str, tuple[str, ...]] = {
    units.BIG_TABLE: (units.ACTIVITY, units.SESSIONS),
    units.SESSIONS: (units.FRAGMENTS,),
    units.FRAGMENTS: (units.EVENTS,),
    units.ACTIVITY: (units.EVENTS,),
    units.EVENTS: (),
}
"""Table -> the tables whose objects it is made from."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One object of a table, or one hour of the day's object of hour rows. `outdated` names what has changed since it was made."""

    table: str
    key: str
    rows: int
    made_by: Mapping[str, str]
    offsets: Mapping[str, int]
    """Chain of the raw log -> the offset behind the last record in it."""
    outdated: tuple[str, ...] = ()
    missing: bool = False
    raw: tuple[str, ...] = ()
    """Of events: `KEY [start, end) rows` of each raw object or archived range with records of the unit."""


def of(context: TableContext, table: str, start: datetime, *, daily: bool = False) -> list[Unit]:
    """The unit of a table over this hour (or UTC day, of the big table) and all that it was made from, the nearest first.

    The index has to be in step with the lake. Sessions also read the fragments of both neighbouring days (R7): those that
    belong to their own hour are listed, and of others those that their footer names.
    """
    hours = units.hours_of(start.date()) if daily else [start]
    slots = [slot for hour in hours for slot in units.slots_of(hour, context.format.slot_minutes)]
    if table == units.BIG_TABLE:
        found = [_day(context, start) if daily else _hour(context, start)]
    else:
        found = [_slot(context, table, slot) for slot in slots]
    seen = {unit.key for unit in found}
    queue = [(behind, slots) for behind in BEHIND[table]]
    while queue:
        name, wanted = queue.pop(0)
        keys = [units.slot_key(name, slot) for slot in wanted]
        if name == units.FRAGMENTS:
            named = (_facts(context, units.slot_key(units.SESSIONS, slot)).get("fragments", {}) for slot in wanted)
            keys = sorted({*keys, *(key for read in named for key in read)})
        fresh = [key for key in keys if key not in seen]
        seen.update(fresh)
        made = [_slot(context, name, units.slot_of_key(key)) for key in fresh]
        found += [unit for unit in made if not unit.missing]
        queue += [(behind, [units.slot_of_key(key) for key in fresh]) for behind in BEHIND[name]]
    return found


def _slot(context: TableContext, table: str, slot: datetime) -> Unit:
    key = units.slot_key(table, slot)
    facts = _facts(context, key)
    raw: Iterable[str] = ()
    if table == units.EVENTS:
        sources = context.index.touching(slot)
        raw = (f"{source.key} [{source.start}, {source.end}) {source.event_slots[slot]:,} rows" for source in sources)
    return _unit(context, table, key, facts, facts.get("offsets", {}), tuple(raw))


def _hour(context: TableContext, hour: datetime) -> Unit:
    key = units.hours_key(hour.date())
    facts = _facts(context, key).get("hours", {}).get(hour.isoformat(), {})
    return _unit(context, units.BIG_TABLE, key, facts, _furthest(facts.get("offsets", {}).values()))


def _day(context: TableContext, day: datetime) -> Unit:
    key = units.day_key(day.date())
    return _unit(context, units.BIG_TABLE, key, _facts(context, key), {})


def _unit(
    context: TableContext, table: str, key: str, facts: Mapping[str, Any], offsets: Mapping[str, int], raw: tuple[str, ...] = ()
) -> Unit:
    present = {"code": context.made_by["code"], "model": context.model.digest, "reference": engine.reference_version()}
    made_by = {name: str(facts[name]) for name in ("code", "model", "reference", "erasures", "newest_received_at") if name in facts}
    outdated = tuple(name for name, value in present.items() if name in facts and facts[name] != value)
    return Unit(table, key, int(facts.get("rows", 0)), made_by, dict(offsets), outdated, missing=not facts, raw=raw)


def _facts(context: TableContext, key: str) -> dict[str, Any]:
    return context.footers.of(context.lake.stat(key))


def _furthest(offsets: Iterable[Mapping[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for by_chain in offsets:
        for chain, end in by_chain.items():
            found[chain] = max(end, found.get(chain, 0))
    return found
