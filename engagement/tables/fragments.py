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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry
from engagement.model import schemas, units
from engagement.tables import bulk, slices
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, provenance, publish

if TYPE_CHECKING:
    import pyarrow as pa

LOCK = "session-fragments"
ROWS_AT_ONCE = 2_000_000
"""Events that one query of a rebuild reads; the lock is held so long."""


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of fragments up to its events object; raises as `objects.publish`."""
    events = context.lake.stat(units.slot_key(units.EVENTS, slot))

    def build(old: Entry | None) -> Candidate | None:
        if events is None or (not rebuild and _same_inputs(context, events, old)):
            return None
        return _candidates(context, {slot: events}, {slot: old}).get(slot)

    with context.lake.lock(LOCK):
        return publish(context.lake, units.slot_key(units.FRAGMENTS, slot), build)


def refresh_all(context: TableContext, slots: Sequence[datetime], *, rebuild: bool = False) -> bulk.Results:
    """Bring these slots up to their events objects, many by one query; slots without one, or of the same one, are left."""
    notes: dict[datetime, Entry | None] = {}
    weight = {slot: int(context.footers.of(entry)["rows"]) for slot, entry in bulk.note(context, units.EVENTS, slots).items() if entry}

    def make(batch: Sequence[datetime]) -> dict[datetime, Candidate]:
        notes.update(bulk.note(context, units.FRAGMENTS, batch))
        found = bulk.note(context, units.EVENTS, batch)
        events = {slot: entry for slot, entry in found.items() if entry and (rebuild or not _same_inputs(context, entry, notes[slot]))}
        return _candidates(context, events, notes) if events else {}

    batches = bulk.batches_of(slots, weight, ROWS_AT_ONCE)
    one = partial(refresh, context, rebuild=rebuild)
    return bulk.make_all(context, units.FRAGMENTS, batches, notes, make, one, lambda: context.lake.lock(LOCK))


def _same_inputs(context: TableContext, events: Entry, old: Entry | None) -> bool:
    facts = context.footers.of(old)
    return facts.get("events") == events.version and not context.is_outdated(facts)


def _candidates(context: TableContext, events: Mapping[datetime, Entry], notes: bulk.Notes) -> dict[datetime, Candidate]:
    """Candidates of the slots that need a new object; what they name is true once all of them are published."""
    sources = {slot: context.footers.of(entry) for slot, entry in events.items()}  # before the rows: these may then be newer, never older
    relation = context.relation(events.values(), units.EVENTS, place=True)
    context.con.execute(f"CREATE OR REPLACE TEMP VIEW slot_events AS SELECT * FROM {relation}")
    query = f"SELECT * FROM ({context.sql('fragments')}) ORDER BY slot, user_id, client_id NULLS FIRST, started_at"
    found = context.rows(query, context.session_rule | {"slot_us": context.slot_us})
    rows = context.typed(found, units.FRAGMENTS).add_column(0, "slot", found["slot"])
    old = {slot: notes[slot] for slot in events}
    changes = _changes(context, rows, old)
    tables = slices.cut(rows, "slot")
    made: dict[datetime, Candidate] = {}
    for slot, entry in events.items():
        number = slices.number_of(slot, context.format.slot_minutes)
        if number in changes.slots or not _same_inputs(context, entry, old[slot]):
            facts = _facts(context, entry, sources[slot], _names(context, old[slot], changes, number))
            made[slot] = Candidate(context.typed(tables.get(number), units.FRAGMENTS), facts)
    return made


def _facts(context: TableContext, events: Entry, source: Mapping[str, Any], named: Mapping[str, list[str]]) -> dict[str, Any]:
    times = {name: source[name] for name in ("min_event_time", "max_event_time")}
    return {**context.made_by, "events": events.version, **named, **provenance([source]), **times}


def _names(context: TableContext, old: Entry | None, changes: _Changes, slot: int) -> dict[str, list[str]]:
    """`affects` and `affects_facts` of a slot's new object: what it changes, and what its old one names and sessions have not taken up."""
    facts = context.footers.of(old)
    always, of_model = changes.named(slot, same_model=old is None or facts.get("model") == context.model.digest)
    return {
        "affects": _texts(always | _pending(context, old, facts, "affects")),
        "affects_facts": _texts(of_model | _pending(context, old, facts, "affects_facts")),
    }


@dataclass(frozen=True, slots=True)
class _Changes:
    """What new fragments of some slots, all published, change, by slot number.

    A slot names those sessions of its own changed owners that differ and lie across it. Where an owner began or ceased to
    be automated, which moves cuts far from the events that did it, it names all that differ within its reach (R7). So a
    session that differs is named by every slot that had a part in it, and one that does not by none.
    """

    slots: set[int]
    """Slots whose fragments differ."""
    affected: Mapping[int, set[datetime]]
    """Slot -> start slots of sessions that differ."""
    built_in: Mapping[int, set[datetime]]
    """The same, where they differ in what no model declares."""

    def named(self, slot: int, *, same_model: bool) -> tuple[set[datetime], set[datetime]]:
        """What the slot names for every session, and for sessions of the present model alone."""
        affected, always = self.affected.get(slot, set()), self.built_in.get(slot, set())
        return (affected, set()) if same_model else (always, affected - always)


def _changes(context: TableContext, rows: pa.Table, old: Mapping[datetime, Entry | None]) -> _Changes:
    con, minutes = context.con, context.format.slot_minutes
    number = f"epoch_us(started_at) // CAST({context.slot_us} AS BIGINT)"
    con.register("new_fragments", rows)
    con.execute(f"""
        CREATE OR REPLACE TEMP VIEW old_fragments AS
        SELECT {number} AS slot, * FROM {context.relation(old.values(), units.FRAGMENTS)}""")
    con.execute("""
        CREATE OR REPLACE TEMP TABLE changed_owners AS
        SELECT DISTINCT
            coalesce(n.slot, o.slot) AS slot,
            coalesce(n.user_id, o.user_id) AS user_id,
            coalesce(n.client_id, o.client_id) AS client_id
        FROM new_fragments AS n
        FULL JOIN old_fragments AS o
            ON o.slot = n.slot AND o.user_id = n.user_id AND o.client_id IS NOT DISTINCT FROM n.client_id AND o.started_at = n.started_at
        WHERE n IS DISTINCT FROM o""")
    near = {slot for first in {units.floor_day(slot) for slot in old} for slot in units.reach(first, minutes)} - old.keys()
    others = [context.lake.stat(units.slot_key(units.FRAGMENTS, slot)) for slot in sorted(near)]
    same = "o.user_id = f.user_id AND o.client_id IS NOT DISTINCT FROM f.client_id"
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE other_fragments AS
        SELECT f.* FROM {context.relation(others, units.FRAGMENTS)} AS f SEMI JOIN changed_owners AS o ON {same}""")
    for age in ("old", "new"):
        con.execute(f"""
            CREATE OR REPLACE TEMP TABLE reach_fragments AS SELECT * FROM other_fragments UNION ALL BY NAME
            SELECT f.* EXCLUDE (slot) FROM {age}_fragments AS f SEMI JOIN changed_owners AS o ON {same}""")
        con.execute(f"CREATE OR REPLACE TEMP TABLE {age}_sessions AS {context.sql('sessions')}", context.session_rule)
    slots = {int(slot) for (slot,) in con.execute("SELECT DISTINCT slot FROM changed_owners").fetchall()}
    built_in = [name for name, column in schemas.columns(units.SESSIONS, context.model).items() if column.built_in]
    affected = _named_by_slot(context, "*")
    return _Changes(slots, affected, affected if _all_built_in(context) else _named_by_slot(context, ", ".join(built_in)))


def _all_built_in(context: TableContext) -> bool:
    return all(column.built_in for column in schemas.columns(units.SESSIONS, context.model).values())


def _named_by_slot(context: TableContext, columns: str) -> dict[int, set[datetime]]:
    """Changed slot -> start slots of sessions of its changed owners that differ in these columns, and in which it had a part."""
    found = context.con.execute(
        f"""
        WITH
        -- two rows per session that differs, as it is and as it was; an empty one where it came or went
        differing AS (
            SELECT unnest([n, o], max_depth := 2)
            FROM (SELECT {columns} FROM new_sessions) AS n
            FULL JOIN (SELECT {columns} FROM old_sessions) AS o ON o.session_key = n.session_key
            WHERE n IS DISTINCT FROM o
        ),

        -- one row per owner and start slot: how far its sessions reach, and whether the owner was or is automated on a day
        starts AS (
            SELECT
                user_id,
                CASE WHEN $by_client THEN client_session_ids[1] END AS client_id,
                epoch_us(started_at) // CAST($slot_us AS BIGINT) AS start,
                min(epoch_us(started_at)) - CAST($gap_us AS BIGINT) AS first_us,
                max(epoch_us(ended_at)) + CAST($gap_us AS BIGINT) AS last_us,
                bool_or(bool_or(is_automated)) OVER (PARTITION BY user_id, client_id) AS is_automated
            FROM differing
            GROUP BY user_id, client_id, start
        )

        -- one row per changed slot and start slot: the session lies across the slot, or cuts at midnights came or went
        SELECT DISTINCT o.slot AS slot, s.start AS start
        FROM changed_owners AS o
        JOIN starts AS s ON s.user_id = o.user_id AND s.client_id IS NOT DISTINCT FROM o.client_id
        WHERE (s.last_us >= o.slot * CAST($slot_us AS BIGINT) AND s.first_us < (o.slot + 1) * CAST($slot_us AS BIGINT))
            OR (s.is_automated AND abs(
                s.start * CAST($slot_us AS BIGINT) // 86400000000 - o.slot * CAST($slot_us AS BIGINT) // 86400000000
            ) <= 1)""",
        context.session_rule | {"slot_us": context.slot_us},
    ).fetchall()
    named: dict[int, set[datetime]] = {}
    for slot, start in found:
        named.setdefault(slot, set()).add(slices.slot_of(start, context.format.slot_minutes))
    return named


def _texts(slots: set[datetime]) -> list[str]:
    return sorted(slot.isoformat() for slot in slots)


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
