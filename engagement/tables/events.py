"""`events`: one row per event of a slot, typed, enriched, copies dropped (R6), from raw rows and the rows that stand.

Refresh reads only raw objects that the present object's footer does not cover; a rebuild reads them all.
Both give the same rows in the same order (R10), because the earliest copy wins whatever came when.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry
from engagement.model import rendering, units
from engagement.raw.sources import Source
from engagement.tables import arrivals, bulk, engine, slices
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, publish

if TYPE_CHECKING:
    import pyarrow as pa

ORDER = ("event_time", "turn")
"""Columns that sort the SQL's rows as (event_time, event_id), the total order of an object."""
ROWS_AT_ONCE = 1_000_000
"""Rows that one query makes events of, whole: about 1 GiB with all that is made of them."""
ROWS_KEPT = 200_000
"""Raw rows up to which their many small objects are opened once, and not once for each step of the query."""


@dataclass(frozen=True, slots=True)
class _Input:
    """What a slot is made from: sources to read, those in the same objects to leave out, and the object that stands, with its footer."""

    lacking: arrivals.Lacking
    old: Entry | None
    facts: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Rows to be added to the footer's own."""
        return int(self.facts.get("rows", 0))


def refresh(context: TableContext, slot: datetime, *, rebuild: bool = False) -> Outcome:
    """Bring one slot of events up to all raw rows of it; raises as `objects.publish`."""
    key = units.slot_key(units.EVENTS, slot)
    looks = itertools.count()  # what a look at what is recent did not see, the next one must

    def build(old: Entry | None) -> Candidate | None:
        candidate = arrivals.looking_again(lambda: made(old))
        if candidate is not None:
            context.judge(context, units.EVENTS, replace(candidate, hour=units.floor_hour(slot), unit=key))
        return candidate

    def made(old: Entry | None) -> Candidate | None:
        context.index.sync(recent=not rebuild and next(looks) == 0)
        found = _input(context, slot, old, context.index.touching(slot), rebuild=rebuild)
        return _candidates(context, {slot: found})[slot] if found else None

    return publish(context.lake, key, build)


def refresh_all(context: TableContext, slots: Sequence[datetime], *, rebuild: bool = False) -> bulk.Results:
    """Bring these slots up to all raw rows of them, many by one query; slots that lack none are left as they are.

    A raw object that holds many hours, as imports do, is read once a batch and not once an hour.
    """
    notes = bulk.note(context, units.EVENTS, slots)
    context.index.sync(recent=not rebuild)
    looked = {
        slot: _input(context, slot, notes[slot], found, rebuild=rebuild) for slot, found in context.index.touching_each(slots).items()
    }
    inputs = {slot: found for slot, found in looked.items() if found}

    def make(batch: Sequence[datetime]) -> dict[datetime, Candidate]:
        found = {slot: inputs[slot] for slot in batch if slot in inputs}
        return _candidates(context, found) if found else {}

    one = partial(refresh, context, rebuild=rebuild)
    return bulk.make_all(context, units.EVENTS, _batches(slots, inputs), notes, make, one)


def _input(context: TableContext, slot: datetime, old: Entry | None, touching: Sequence[Source], *, rebuild: bool) -> _Input | None:
    """What a slot is to be made from; None where it lacks nothing."""
    facts = context.footers.of(old)
    again = rebuild or context.is_outdated(facts) or facts.get("reference") != engine.reference_version()
    covered: dict[str, int] = {} if again else facts["offsets"]
    lacking = arrivals.lacking(touching, slot, covered, facts.get("rows_in", 0))
    if not lacking.new:
        return None
    return _Input(lacking, None, {}) if again or lacking.again else _Input(lacking, old, facts)


def _batches(slots: Sequence[datetime], inputs: Mapping[datetime, _Input]) -> list[list[datetime]]:
    """The slots in batches that one query makes. A slot to which an object that is read for another brings nothing new stands alone."""
    read = {source.key for found in inputs.values() for source in found.lacking.new}
    alone = {slot for slot, found in inputs.items() if any(source.key in read for source in found.lacking.known)}
    weight = {slot: found.rows + sum(raw.event_slots[slot] for raw in found.lacking.new) for slot, found in inputs.items()}
    return bulk.batches_of([slot for slot in slots if slot not in alone], weight, ROWS_AT_ONCE) + [[slot] for slot in sorted(alone)]


def _candidates(context: TableContext, inputs: Mapping[datetime, _Input]) -> dict[datetime, Candidate]:
    """Events of these slots, by one query."""
    sources = sorted((source for found in inputs.values() for source in found.lacking.new), key=lambda source: source.key)
    left_out = [source for found in inputs.values() for source in found.lacking.known]
    rows = sum(raw.event_slots[slot] for slot, found in inputs.items() for raw in found.lacking.new)
    standing = [found.old for found in inputs.values()]
    _open_inputs(context, arrivals.relation(context, sources, left_out), standing, inputs, kept=rows <= ROWS_KEPT)
    query = f"SELECT epoch_us(event_time) // CAST($slot_us AS BIGINT) AS slot, * FROM ({context.sql('events')})"
    found = slices.cut_unsorted(context.rows(query, {"slot_us": context.slot_us}), "slot", ORDER)
    counted = _counted(context)
    arrivals.require_unchanged(context, sources)
    made = {}
    for slot, item in inputs.items():
        table = context.typed(found.get(slices.number_of(slot, context.format.slot_minutes)), units.EVENTS)
        made[slot] = Candidate(table, {**context.made_by, **_facts(slot, item, table, counted.get(slot, {}))})
    return made


def _open_inputs(context: TableContext, raw: str, standing: Iterable[Entry | None], slots: Iterable[datetime], *, kept: bool) -> None:
    """The inputs of the SQL: the objects that stand, and the raw relation's good rows of these slots, read once if they are `kept`."""
    con = context.con
    con.execute(f"CREATE OR REPLACE TEMP VIEW standing AS SELECT * FROM {context.relation(standing, units.EVENTS)}")
    ranges = units.contiguous(slots, context.slot_length, longest=10**6)
    within = " OR ".join(
        f"(event_time >= TIMESTAMPTZ '{first.isoformat()}' AND event_time < TIMESTAMPTZ '{(last + context.slot_length).isoformat()}')"
        for first, last in ranges
    )
    good = f"SELECT * FROM {raw} WHERE reject_reason IS NULL AND ({within})"
    if kept:
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


def _facts(slot: datetime, found: _Input, table: pa.Table, counted: Mapping[str, Any]) -> dict[str, Any]:
    """What the footer says of these rows of a slot, beside what all footers say."""
    before, raw = found.facts, found.lacking.new
    offsets = dict(before.get("offsets", {}))
    for item in raw:
        offsets[item.chain.label] = max(item.upto(slot), offsets.get(item.chain.label, 0))
    newest = [instant for instant in (counted.get("newest"), before.get("newest_received_at")) if instant]
    unfit = {name: count + before.get("unfit", {}).get(name, 0) for name, count in counted.get("unfit", {}).items()}
    times = table["event_time"]
    return {
        "reference": engine.reference_version(),
        "offsets": offsets,
        "rows_in": before.get("rows_in", 0) + sum(item.event_slots[slot] for item in raw),
        "duplicates": before.get("duplicates", 0) + counted.get("rows", 0) + found.rows - table.num_rows,
        "min_event_time": times[0].as_py().isoformat() if table.num_rows else None,
        "max_event_time": times[-1].as_py().isoformat() if table.num_rows else None,
        "newest_received_at": max(newest, key=datetime.fromisoformat, default=None),
        **({"unfit": unfit} if unfit else {}),
    }
