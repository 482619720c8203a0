"""`events`: one row per event of a slot, typed, enriched, copies dropped (R6), from raw rows and the rows that stand.

Refresh reads only raw objects that the present object's footer does not cover; a rebuild reads them all.
Both give the same rows in the same order (R10), because the earliest copy wins whatever came when.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry
from engagement.raw.sources import Source
from engagement.tables import arrivals, bulk, engine, rendering, slices, units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, publish

if TYPE_CHECKING:
    import pyarrow as pa

ORDER = ("event_time", "turn")
"""Columns that sort the SQL's rows as (event_time, event_id), the total order of an object."""
ROWS_AT_ONCE = 1_000_000
"""Raw rows that a rebuild holds at once, whole: about 1 GiB with all that is made of them."""


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of events up to all raw rows of it; raises as `objects.publish`."""
    key = units.slot_key(units.EVENTS, slot)

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        again = rebuild or context.is_outdated(facts) or facts.get("reference") != engine.reference_version()
        covered: dict[str, int] = {} if again else facts["offsets"]
        candidate = arrivals.looking_again(lambda: made(old, facts, covered, again=again))
        if candidate is not None:
            context.judge(context, units.EVENTS, candidate)
        return candidate

    def made(old: Entry | None, facts: dict[str, Any], covered: dict[str, int], *, again: bool) -> Candidate | None:
        context.index.sync()
        found = arrivals.lacking(context.index.touching(slot), slot, covered, facts.get("rows_in", 0))
        if not found.new:
            return None
        again = again or found.again
        return _candidate(context, slot, found, None if again else old, {} if again else facts)

    return publish(context.lake, key, build)


def rebuild(context: TableContext, slots: Sequence[datetime]) -> bulk.Results:
    """Make these slots from raw alone, many in one pass; slots without raw rows are left as they are.

    A raw object that holds many hours, as imports do, is read once a batch and not once an hour.
    """
    notes = bulk.note(context, units.EVENTS, slots)
    context.index.sync()
    touching = {slot: found for slot, found in context.index.touching_each(slots).items() if found}
    weight = {slot: sum(raw.event_slots[slot] for raw in found) for slot, found in touching.items()}

    def make(batch: Sequence[datetime]) -> dict[datetime, Candidate]:
        found = {slot: touching[slot] for slot in batch if slot in touching}
        return _from_raw(context, found) if found else {}

    batches = bulk.batches_of(slots, weight, ROWS_AT_ONCE)
    return bulk.rebuild(context, units.EVENTS, batches, notes, make, lambda slot: refresh(context, slot, rebuild=True))


def _candidate(context: TableContext, slot: datetime, lacking: arrivals.Lacking, old: Entry | None, facts: dict[str, Any]) -> Candidate:
    _open_inputs(context, arrivals.relation(context, lacking.new, lacking.known), old, slot, slot + context.slot_length)
    known = int(facts.get("rows", 0))
    table = context.typed(context.rows(context.sql("events"), {}).sort_by([(name, "ascending") for name in ORDER]), units.EVENTS)
    counted = _counted(context).get(slot, {})
    arrivals.require_unchanged(context, lacking.new)
    return Candidate(table, _facts(context, slot, lacking.new, table, counted, known, facts))


def _from_raw(context: TableContext, touching: Mapping[datetime, list[Source]]) -> dict[datetime, Candidate]:
    sources = sorted((source for found in touching.values() for source in found), key=lambda source: source.key)
    _open_inputs(context, arrivals.relation(context, sources), None, min(touching), max(touching) + context.slot_length)
    query = f"SELECT epoch_us(event_time) // CAST($slot_us AS BIGINT) AS slot, * FROM ({context.sql('events')})"
    found = slices.cut_unsorted(context.rows(query, {"slot_us": context.slot_us}), "slot", ORDER)
    counted = _counted(context)
    arrivals.require_unchanged(context, sources)
    tables = {slot: context.typed(found.get(slices.number_of(slot, context.format.slot_minutes)), units.EVENTS) for slot in touching}
    return {
        slot: Candidate(tables[slot], _facts(context, slot, raw, tables[slot], counted.get(slot, {}), 0, {}))
        for slot, raw in touching.items()
    }


def _open_inputs(context: TableContext, raw: str, old: Entry | None, start: datetime, end: datetime) -> None:
    """The inputs of the SQL, for events in [start, end) of the raw relation."""
    con = context.con
    con.execute(f"CREATE OR REPLACE TEMP VIEW standing AS SELECT * FROM {context.relation([old], units.EVENTS)}")
    good = f"""
        SELECT * FROM {raw} WHERE reject_reason IS NULL
        AND event_time >= TIMESTAMPTZ '{start.isoformat()}' AND event_time < TIMESTAMPTZ '{end.isoformat()}'"""
    if end - start == context.slot_length:  # a tick opens its many small objects once; of many slots the bytes go by and are kept nowhere
        con.execute(f"CREATE OR REPLACE TEMP TABLE arrived AS {good}")
        good = "SELECT * FROM arrived"
    con.execute(f"CREATE OR REPLACE TEMP VIEW arrivals AS {good}")
    models = engine.REFERENCE / "device_models.csv"
    con.execute(f"CREATE OR REPLACE TEMP TABLE device_models AS SELECT * FROM read_csv('{models}', header = true, all_varchar = true)")


def _counted(context: TableContext) -> dict[datetime, dict[str, Any]]:
    """Slot -> what its arrivals are: `rows`, `newest` received_at, and promoted column -> records that do not fit its type (R11)."""
    columns = [column for column in context.model.columns.values() if not column.built_in]
    unfit = "".join(f", count(*) FILTER ({rendering.unfit(column, 'properties')})" for column in columns)
    slot = f"epoch_us(event_time) // CAST({context.slot_us} AS BIGINT)"
    found = context.con.execute(f"SELECT {slot} AS slot, count(*), max(received_at){unfit} FROM arrivals GROUP BY slot").fetchall()
    return {
        slices.slot_of(number, context.format.slot_minutes): {
            "rows": rows,
            "newest": newest.isoformat(),
            "unfit": dict(zip((column.name for column in columns), counts, strict=True)),
        }
        for number, rows, newest, *counts in found
    }


def _facts(
    context: TableContext,
    slot: datetime,
    raw: Sequence[Source],
    table: pa.Table,
    counted: Mapping[str, Any],
    known: int,
    before: Mapping[str, Any],
) -> dict[str, Any]:
    """What the footer says of rows made from these sources and from `known` rows that stood, whose footer is `before`."""
    offsets = dict(before.get("offsets", {}))
    for item in raw:
        offsets[item.chain.label] = max(item.upto(slot), offsets.get(item.chain.label, 0))
    newest = [instant for instant in (counted.get("newest"), before.get("newest_received_at")) if instant]
    unfit = {name: count + before.get("unfit", {}).get(name, 0) for name, count in counted.get("unfit", {}).items()}
    times = table["event_time"]
    return {
        **context.made_by,
        "reference": engine.reference_version(),
        "offsets": offsets,
        "rows_in": before.get("rows_in", 0) + sum(item.event_slots[slot] for item in raw),
        "duplicates": before.get("duplicates", 0) + counted.get("rows", 0) + known - table.num_rows,
        "min_event_time": times[0].as_py().isoformat() if table.num_rows else None,
        "max_event_time": times[-1].as_py().isoformat() if table.num_rows else None,
        "newest_received_at": max(newest, key=datetime.fromisoformat, default=None),
        **({"unfit": unfit} if unfit else {}),
    }
