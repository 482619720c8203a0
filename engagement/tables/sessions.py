"""`sessions`: fragments of one owner joined wherever the gap allows, owned by the slot in which they start (R7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from engagement.lake import Entry
from engagement.tables import units
from engagement.tables.context import TableContext
from engagement.tables.objects import CODE_VERSION, Candidate, Outcome, provenance, publish, read_rows


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

    def build(old: Entry | None) -> Candidate | None:
        reach = fragments_in_reach(context, slot)
        seen = {entry.key: (entry.version, context.footers.of(entry)) for entry in reach}
        stale = is_stale(slot, context.footers.of(old), seen) or (old is not None and context.is_outdated(context.footers.of(old)))
        something = old is not None or _own(reach, slot) is not None  # a slot without fragments has no session to hold
        if not something or not (rebuild or stale):
            return None
        table = _stitched(context, slot, reach)
        if old and not stale and read_rows(context.lake, old).equals(table):
            return None  # a rebuild that changes no row leaves the object, though fragments far away have new versions
        times = {name: context.footers.of(_own(reach, slot)).get(name) for name in ("min_event_time", "max_event_time")}
        made_from = {"fragments": {entry.key: entry.version for entry in reach}, **provenance(facts for _, facts in seen.values()), **times}
        candidate = Candidate(table, {**context.made_by, **made_from})
        context.judge(context, units.SESSIONS, candidate)
        return candidate

    return publish(context.lake, units.slot_key(units.SESSIONS, slot), build)


def fragments_in_reach(context: TableContext, slot: datetime, stat: Callable[[str], Entry | None] | None = None) -> list[Entry]:
    """The fragments objects that a slot's sessions depend on; `stat` defaults to asking the lake."""
    stat = stat or context.lake.stat
    keys = (units.slot_key(units.FRAGMENTS, item) for item in units.reach(slot, context.format.slot_minutes))
    return [entry for key in keys if (entry := stat(key))]


def _own(reach: list[Entry], slot: datetime) -> Entry | None:
    """The slot's own fragments object."""
    return next((entry for entry in reach if units.slot_of_key(entry.key) == slot), None)


def _stitched(context: TableContext, slot: datetime, reach: list[Entry]) -> Any:
    con = context.con
    start, end = slot, slot + timedelta(minutes=context.format.slot_minutes)
    con.execute(f"""
        CREATE OR REPLACE TEMP TABLE reach_fragments AS
        SELECT f.* FROM {context.relation(reach, units.FRAGMENTS)} AS f
        SEMI JOIN {context.relation([_own(reach, slot)], units.FRAGMENTS)} AS o
            ON o.user_id = f.user_id AND o.client_id IS NOT DISTINCT FROM f.client_id""")
    query = f"SELECT * FROM ({context.sql('sessions')}) WHERE started_at >= $start AND started_at < $end ORDER BY started_at, session_key"
    return context.table_of(query, context.session_rule | {"start": start, "end": end}, units.SESSIONS)
