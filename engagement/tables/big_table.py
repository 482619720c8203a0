"""`daily_aggregates_with_dimensions`: one object per day for its hour rows, one for its day rows (R4, R8)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry
from engagement.model import schemas, units
from engagement.model.model import Model
from engagement.tables import slices
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Held, Outcome, provenance, publish, read_rows

if TYPE_CHECKING:
    import pyarrow as pa


def inputs_of(slots: Sequence[datetime], entry_of: Callable[[str], Entry | None]) -> dict[str, str]:
    """Key -> version of the user_activity and sessions objects of these slots; `entry_of` asks a listing or the lake."""
    keys = (units.slot_key(table, slot) for slot in slots for table in (units.ACTIVITY, units.SESSIONS))
    return {entry.key: entry.version for key in keys if (entry := entry_of(key))}


def refresh_hours(context: TableContext, day: date, hours: Sequence[datetime], *, rebuild: bool = False) -> dict[datetime, Outcome]:
    """Bring these hours' rows in a day's hour object up to date, in one publication.

    Returns what became of each hour (`rows` are the hour's own, `size` is the object's). Raises as `objects.publish`.
    """
    made: dict[str, Any] = {}
    held: dict[datetime, str] = {}
    fresh: dict[datetime, Candidate] = {}

    def build(old: Entry | None) -> Candidate | None:
        for answer in (made, held, fresh):
            answer.clear()
        made.update(context.footers.of(old).get("hours", {}))
        wanted: dict[datetime, dict[str, str]] = {}
        for hour in hours:
            inputs = inputs_of(units.slots_of(hour, context.format.slot_minutes), context.lake.stat)
            before = made.get(hour.isoformat(), {})
            if not inputs or (not rebuild and before.get("inputs") == inputs and _same_rule(context, before)):
                continue
            with _holding(held, hour):
                require_one_model(context, inputs)
                wanted[hour] = inputs
        candidates = _candidates(context, wanted)
        for (hour, candidate), verdict in zip(
            candidates.items(), context.verdicts(units.BIG_TABLE, list(candidates.values())), strict=True
        ):
            if verdict:
                held[hour] = str(verdict)
                continue
            fresh[hour] = candidate
            made[hour.isoformat()] = {"rows": candidate.table.num_rows, "inputs": wanted[hour], **candidate.facts}
        return Candidate(_merged(context, old, fresh), {"hours": dict(made)}) if fresh else None

    whole = publish(context.lake, units.hours_key(day), build)
    return {
        hour: Outcome(
            whole.key, made.get(hour.isoformat(), {}).get("rows", 0), whole.size, whole.published and hour in fresh,
            made.get(hour.isoformat(), {}), held.get(hour),
        )
        for hour in hours
    }  # fmt: skip


def refresh_day(context: TableContext, day: date, *, rebuild: bool = False) -> Outcome:
    """Bring a day's day rows up to date; raises as `objects.publish`."""

    def build(old: Entry | None) -> Candidate | None:
        facts = context.footers.of(old)
        slots = [slot for hour in units.hours_of(day) for slot in units.slots_of(hour, context.format.slot_minutes)]
        inputs = inputs_of(slots, context.lake.stat)
        if not inputs or (not rebuild and facts.get("inputs") == inputs and _same_rule(context, facts)):
            return None
        require_one_model(context, inputs)
        candidate = _of_day(context, inputs)
        context.judge(context, units.BIG_TABLE, replace(candidate, unit=units.day_key(day)))
        return Candidate(candidate.table, {"inputs": inputs, **{name: fact for name, fact in candidate.facts.items() if name != "offsets"}})

    return publish(context.lake, units.day_key(day), build)


def require_one_model(context: TableContext, inputs: Iterable[str]) -> None:
    """Raises Held where an input was made under another model: its rows lack what the present one counts."""
    old = [key for key in inputs if context.footers.of(context.lake.stat(key)).get("model") != context.model.digest]
    if old:
        raise Held(f"{len(old)} of its inputs were made under another model, the first is {old[0]}: refresh or backfill all assets")


def _same_rule(context: TableContext, facts: Mapping[str, Any]) -> bool:
    """Whether rows were made by the present code, model and limit."""
    return not context.is_outdated(facts) and facts.get("max_values") == context.settings.max_dimension_values


@contextlib.contextmanager
def _holding(held: dict[datetime, str], hour: datetime) -> Iterator[None]:
    """Remembers what held an hour."""
    try:
        yield
    except Held as verdict:
        held[hour] = str(verdict)


def _candidates(context: TableContext, inputs: Mapping[datetime, Iterable[str]]) -> dict[datetime, Candidate]:
    """The hour rows of these hours of one day from their inputs, by one query."""
    facts = {hour: _facts(context, keys) for hour, keys in inputs.items()}
    rows = slices.cut(_rows(context, [key for keys in inputs.values() for key in keys], "hour"), "hour") if inputs else {}
    tables = {hour: context.typed(rows.get(hour.hour), units.BIG_TABLE) for hour in inputs}
    return {
        hour: Candidate(table, facts[hour] | _rare(table, context.model), hour, units.hours_key(hour.date()))
        for hour, table in tables.items()
    }


def _of_day(context: TableContext, inputs: Iterable[str]) -> Candidate:
    facts = _facts(context, inputs)
    rows = _rows(context, inputs, "-1")
    return Candidate(rows, facts | _rare(rows, context.model))


def _rare(rows: pa.Table, model: Model) -> dict[str, dict[str, int]]:
    """`other`: dimension -> events of one period whose value is too rare to keep its name (interface §3, OTHER); nothing where none is."""
    import pyarrow.compute as pc

    found: dict[str, int] = {}
    for name in model.dimensions:
        chosen = pc.equal(rows[name], "OTHER")
        for item in model.dimensions.values():
            if item.name != name:
                chosen = pc.and_(chosen, pc.equal(rows[item.name], item.all))
        events = sum(rows.filter(chosen)["total_events"].to_pylist())
        found |= {name: events} if events else {}
    return {"other": found} if found else {}


def _facts(context: TableContext, inputs: Iterable[str]) -> dict[str, Any]:
    """What footers say of rows of these inputs. Taken before the rows: these may then be newer than it claims, never older."""
    covered = {key: context.footers.of(context.lake.stat(key)) for key in inputs if key.startswith(units.ACTIVITY)}
    return {
        **context.made_by,
        "max_values": context.settings.max_dimension_values,
        "offsets": {units.slot_of_key(key).isoformat(): facts.get("offsets", {}) for key, facts in covered.items()},
        "newest_received_at": provenance(covered.values())["newest_received_at"],
    }


def _rows(context: TableContext, inputs: Iterable[str], period: str) -> pa.Table:
    """Rows of the periods that these inputs fall into: `period` is the path key that tells them apart, or one number for all."""
    inputs, con = list(inputs), context.con
    for name, table in (("activity", units.ACTIVITY), ("sessions", units.SESSIONS)):
        entries = [context.lake.stat(key) for key in inputs if key.startswith(table)]
        rows = context.relation(entries, table, keys=("hour",))
        con.execute(f"CREATE OR REPLACE TEMP VIEW all_{name} AS SELECT * EXCLUDE (hour), {period} AS period FROM {rows}")
        con.execute(f"CREATE OR REPLACE TEMP VIEW period_{name} AS SELECT * FROM all_{name}")
    if _has_rare_values(context):
        for name in ("activity", "sessions"):
            con.execute(f"CREATE OR REPLACE TEMP VIEW all_rows AS SELECT * FROM all_{name}")
            limit = {"max_values": context.settings.max_dimension_values}
            con.execute(f"CREATE OR REPLACE TEMP TABLE named_{name} AS {context.sql('other')}", limit)
            con.execute(f"CREATE OR REPLACE TEMP VIEW period_{name} AS SELECT * FROM named_{name}")
    return context.table_of(context.sql("big_table"), {}, units.BIG_TABLE)


def _has_rare_values(context: TableContext) -> bool:
    """Whether a dimension has more values in a period than keep their names; its sessions have no others than its events."""
    counts = ", ".join(f"count(DISTINCT {name})" for name in context.model.dimensions)
    found = context.con.execute(f"SELECT {counts} FROM all_activity GROUP BY period").fetchall()
    return any(count > context.settings.max_dimension_values for row in found for count in row)


def _merged(context: TableContext, old: Entry | None, fresh: dict[datetime, Candidate]) -> pa.Table:
    """The day's hour rows with the fresh hours in place of their old rows, by hour."""
    import pyarrow as pa
    import pyarrow.compute as pc

    tables = {hour.hour: candidate.table for hour, candidate in fresh.items()}
    if old is not None:
        present = _as_declared(context, old)
        for hour in pc.unique(present["hour"]).to_pylist():
            if hour not in tables:
                tables[hour] = present.filter(pc.equal(present["hour"], hour))
    return pa.concat_tables([tables[hour] for hour in sorted(tables)])


def _as_declared(context: TableContext, entry: Entry) -> pa.Table:
    """An object's rows with the present columns, whatever model it was made under."""
    rows = read_rows(context.lake, entry)
    if rows.schema.names == list(schemas.columns(units.BIG_TABLE, context.model)):
        return rows
    return context.table_of(f"SELECT * FROM {context.relation([entry], units.BIG_TABLE)}", {}, units.BIG_TABLE)
