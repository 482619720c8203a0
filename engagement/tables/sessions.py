"""`sessions`: fragments of one owner joined wherever the gap allows, owned by the slot in which they start (R7)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry
from engagement.model import units
from engagement.tables import bulk, slices
from engagement.tables.context import TableContext
from engagement.tables.objects import CODE_VERSION, Candidate, Outcome, provenance, publish, read_rows

if TYPE_CHECKING:
    import pyarrow as pa

FRAGMENTS_AT_ONCE = 500_000
"""Fragments whose sessions one query of a rebuild makes; it reads those of the days before and after too."""


def is_stale(slot: datetime, sessions: Mapping[str, Any], fragments: Mapping[str, tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether a slot's sessions object must be made anew.

    `sessions` is its footer (empty: no object), `fragments` maps the key of each fragments object in reach
    to its version and footer. Stale: no object though the slot has fragments, or a fragments object names
    the slot in `affects` and is not the version that was read. `affects_facts` counts between objects of one model.
    """
    own = any(units.slot_of_key(key) == slot for key in fragments)
    if not sessions:
        return own
    read = sessions["fragments"]
    return sessions["code"] != CODE_VERSION or any(
        slot.isoformat() in named(facts, sessions.get("model")) and read.get(key) != version for key, (version, facts) in fragments.items()
    )


def named(fragments: Mapping[str, Any], model: str | None) -> list[str]:
    """Slots that a fragments object's footer names for sessions of this model."""
    of_model: list[str] = fragments.get("affects_facts", []) if model == fragments.get("model") else []
    return [*fragments.get("affects", []), *of_model]


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of sessions up to the fragments in its reach; raises as `objects.publish`."""
    key = units.slot_key(units.SESSIONS, slot)

    def build(old: Entry | None) -> Candidate | None:
        reach = _Reach(context, slot)
        if not reach.needs(slot, old, rebuild=rebuild):
            return None
        rows = _stitched(context, [slot], reach.entries, [reach.of(slot)])
        candidate = reach.candidate(slot, old, rows)
        if candidate:
            context.judge(context, units.SESSIONS, replace(candidate, hour=units.floor_hour(slot), unit=key))
        return candidate

    return publish(context.lake, key, build)


def refresh_all(context: TableContext, slots: Sequence[datetime], *, rebuild: bool = False) -> bulk.Results:
    """Bring these slots up to the fragments in their reach, many by one query; slots without any, or not stale, are left."""
    notes = bulk.note(context, units.SESSIONS, slots)
    fragments = bulk.note(context, units.FRAGMENTS, slots)
    weight = {slot: int(context.footers.of(entry)["rows"]) for slot, entry in fragments.items() if entry}

    def make(batch: Sequence[datetime]) -> dict[datetime, Candidate]:
        reaches = {day: _Reach(context, day) for day in {units.floor_day(slot) for slot in batch}}
        needed = [slot for slot in batch if reaches[units.floor_day(slot)].needs(slot, notes[slot], rebuild=rebuild)]
        if not needed:
            return {}
        entries = {entry.key: entry for reach in reaches.values() for entry in reach.entries}
        own = () if rebuild else [reaches[units.floor_day(slot)].of(slot) for slot in needed]
        rows = _stitched(context, needed, entries.values(), own)
        found = slices.cut(rows, "slot")
        made = {}
        for slot in needed:
            starting = found.get(slices.number_of(slot, context.format.slot_minutes), rows.slice(0, 0))
            if candidate := reaches[units.floor_day(slot)].candidate(slot, notes[slot], starting):
                made[slot] = candidate
        return made

    batches = bulk.batches_of(slots, weight, FRAGMENTS_AT_ONCE)
    return bulk.make_all(context, units.SESSIONS, batches, notes, make, partial(refresh, context, rebuild=rebuild))


def fragments_in_reach(context: TableContext, slot: datetime, stat: Callable[[str], Entry | None] | None = None) -> list[Entry]:
    """The fragments objects that a slot's sessions depend on; `stat` defaults to asking the lake."""
    stat = stat or context.lake.stat
    keys = (units.slot_key(units.FRAGMENTS, item) for item in units.reach(slot, context.format.slot_minutes))
    return [entry for key in keys if (entry := stat(key))]


class _Reach:
    """The fragments that the sessions of one UTC day depend on, in the versions noted before their rows are read."""

    def __init__(self, context: TableContext, instant: datetime) -> None:
        self._context = context
        self.entries = fragments_in_reach(context, instant)
        self._seen = {entry.key: (entry.version, context.footers.of(entry)) for entry in self.entries}
        self._own = {units.slot_of_key(entry.key): entry for entry in self.entries}
        versions = {key: version for key, (version, _) in self._seen.items()}
        self._made_from = {"fragments": versions, **provenance(facts for _, facts in self._seen.values())}

    def of(self, slot: datetime) -> Entry | None:
        """The slot's own fragments object."""
        return self._own.get(slot)

    def needs(self, slot: datetime, old: Entry | None, *, rebuild: bool) -> bool:
        """Whether the slot's sessions are to be made; a slot without fragments has no session to hold."""
        return (old is not None or slot in self._own) and (rebuild or self._is_stale(slot, old))

    def candidate(self, slot: datetime, old: Entry | None, rows: pa.Table) -> Candidate | None:
        """The slot's new object; None where a rebuild changed no row, though fragments far away have new versions."""
        table = self._context.typed(rows, units.SESSIONS)
        if old and not self._is_stale(slot, old) and read_rows(self._context.lake, old).equals(table):
            return None
        own = self._context.footers.of(self.of(slot))
        times = {name: own.get(name) for name in ("min_event_time", "max_event_time")}
        return Candidate(table, {**self._context.made_by, **self._made_from, **times})

    def _is_stale(self, slot: datetime, old: Entry | None) -> bool:
        facts = self._context.footers.of(old)
        return is_stale(slot, facts, self._seen) or (old is not None and self._context.is_outdated(facts))


def _stitched(context: TableContext, slots: Sequence[datetime], reach: Iterable[Entry], own: Iterable[Entry | None]) -> pa.Table:
    """Sessions from the first of these slots to the last, by start, with the number of their `slot`.

    `own` are the slots' fragments objects, where the sessions of all other owners in reach would be many.
    """
    owners = ""
    if given := list(own):
        owners = f"""SEMI JOIN {context.relation(given, units.FRAGMENTS)} AS o
            ON o.user_id = f.user_id AND o.client_id IS NOT DISTINCT FROM f.client_id"""
    fragments = f"SELECT f.* FROM {context.relation(reach, units.FRAGMENTS)} AS f {owners}"
    context.con.execute(f"CREATE OR REPLACE TEMP TABLE reach_fragments AS {fragments}")
    query = f"""
        SELECT epoch_us(started_at) // CAST($slot_us AS BIGINT) AS slot, * FROM ({context.sql("sessions")})
        WHERE started_at >= $start AND started_at < $end ORDER BY started_at, session_key"""
    between = {"start": slots[0], "end": slots[-1] + context.slot_length}
    return context.rows(query, context.session_rule | {"slot_us": context.slot_us} | between)
