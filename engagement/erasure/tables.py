"""Tables without some people: their rows go from the events objects, and whatever is made from those is made again.

A slot is *touched* where good rows of it were erased from raw or archive. Each of its objects is made anew after that,
with a list in the footer that is longer than the one of the erasure: a refresh that read raw before finds its object
replaced and starts over, and one that would bring a new object finds one there. So a touched slot without rows gets an
object without rows.

Of an open day events lose the rows; only where another user's copy of one of their events was dropped (R6) is the slot
made from the log again. All behind it follows as after any change. Objects of a final day, and whatever else still has
their rows, lose them in place; the counts of a final day stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from engagement.erasure.people import People
from engagement.errors import TransientError
from engagement.lake import Changed, Entry
from engagement.model import units
from engagement.tables import activity, big_table, bulk, engine, events, finality, fragments, sessions
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, encode, publish, read_rows
from engagement.waiting import refresh, waits

if TYPE_CHECKING:
    import pyarrow as pa

ATTEMPTS = 5
ROUNDS = 12
Tell = Callable[[str, int], None]
"""(key of an object that was replaced, rows of theirs that it lost)."""


def is_final(context: TableContext, now: datetime) -> Callable[[datetime], bool]:
    """Whether a slot's day is final (`tables.finality`)."""
    first: date | None = finality.read(context.lake).first_open_day(now)
    return lambda slot: first is not None and slot.astimezone(UTC).date() < first


def make_again(
    context: TableContext, people: People, slots: Iterable[datetime], tell: Tell, step: Callable[[str], None] = lambda _: None
) -> None:
    """Every table of these slots of open days, without them; raises what the builders raise."""
    wanted = sorted(slots)
    if not wanted:
        return
    context.index.sync()
    again = []
    for slot in wanted:
        outcome, lost, whole = _events(context, people, slot)
        tell(outcome.key, lost)
        if not whole:
            again.append(slot)
    for outcome in bulk.required(events.refresh_all(context, again, rebuild=True)).values():
        tell(outcome.key, 0)
    for table in (fragments, activity, sessions):
        step("a table made")
        for outcome in bulk.required(table.refresh_all(context, wanted, rebuild=True)).values():
            if outcome.published:
                tell(outcome.key, 0)


def catch_up(context: TableContext, touched: set[datetime], now: datetime, tell: Callable[[str], None]) -> list[str]:
    """Make what the touched slots reach: sessions that began elsewhere, hour rows, day rows; what of it still waits then.

    Hours that others keep busy (the live ones, and what waits for new records) are theirs: they come to no rest here.
    """
    own = {units.floor_hour(slot) for slot in touched}
    near = {day + number * units.DAY for day in {hour.date() for hour in own} for number in (-1, 0, 1)}  # how far R7 reaches
    for _ in range(ROUNDS):
        waiting = waits.compute(context)
        hours = [hour for hour, why in waiting.hours.items() if hour.date() in near and (why != "raw" or hour in own)]
        days = [day for day in waiting.days if day in near]
        if not hours and not days:
            return []
        tell(f"{len(hours)} hours and {len(days)} days are made again")
        refresh.hours(context, hours)
        for day in sorted({*days, *(hour.date() for hour in hours)}):
            big_table.refresh_day(context, day)
    waiting = waits.compute(context)
    left = [f"{hour:%Y-%m-%d %H}:00" for hour, why in waiting.hours.items() if hour in own and why != "raw" and units.is_late(hour, now)]
    return [*left, *(str(day) for day in waiting.days if day in {hour.date() for hour in own} and day < now.date())]


def take_out(context: TableContext, people: People, key: str) -> int | None:
    """Take their rows out of an object of a table as it lies there; rows that it lost, None where it is gone."""
    for _ in range(ATTEMPTS):
        with context.lake.replacing(key):
            entry = context.lake.stat(key)
            if entry is None:
                return None
            facts = context.footers.of(entry)
            before = read_rows(context.lake, entry)
            after = _without(before, people)
            if after.equals(before):
                return 0
            made = {**facts, **_measured(after), "rows": after.num_rows, "erasures": context.erasures}
            try:
                context.lake.replace(key, encode(after, made), entry)
            except Changed:
                continue
            return int(before.num_rows - after.num_rows)
    raise TransientError(f"{context.lake.name(key)}: replaced by other writers {ATTEMPTS} times in a row; run it again")


def _events(context: TableContext, people: People, slot: datetime) -> tuple[Outcome, int, bool]:
    """The events object of an open slot without them: what became of it, rows it lost, and whether that is all that was to do."""
    lost, whole = 0, True

    def build(old: Entry | None) -> Candidate:
        nonlocal lost, whole
        facts = context.footers.of(old)
        before = read_rows(context.lake, old) if old else context.typed(None, units.EVENTS)  # an older model's rows stay its own
        after = _without(before, people)
        lost = before.num_rows - after.num_rows
        whole = not facts.get("duplicates") or not _hidden_copies(context, slot, before, people)
        offsets = facts.get("offsets", {})
        covered = sum(
            item.event_slots[slot] for item in context.index.touching(slot) if item.upto(slot) <= offsets.get(item.chain.label, 0)
        )
        made = {
            **context.made_by, "reference": engine.reference_version(), "newest_received_at": None, **facts, **_measured(after),
            "offsets": offsets, "rows_in": covered, "duplicates": max(0, covered - after.num_rows), "erasures": context.erasures,
        }  # fmt: skip
        return Candidate(after, {name: value for name, value in made.items() if name != "rows"})

    return publish(context.lake, units.slot_key(units.EVENTS, slot), build), lost, whole


def _without(rows: pa.Table, people: People) -> pa.Table:
    import pyarrow.compute as pc

    kept = rows.filter(pc.invert(people.users_in(rows))) if "user_id" in rows.schema.names else rows
    return people.without_mentions(kept) if "properties" in rows.schema.names else kept


def _measured(rows: pa.Table) -> dict[str, Any]:
    """Facts of an events object that its rows tell; nothing for other tables, whose facts are those of what they were made from."""
    if "event_time" not in rows.schema.names:
        return {}
    times = rows["event_time"]
    first, last = (times[0].as_py(), times[-1].as_py()) if rows.num_rows else (None, None)
    return {"min_event_time": first and first.isoformat(), "max_event_time": last and last.isoformat()}


def _hidden_copies(context: TableContext, slot: datetime, rows: pa.Table, people: People) -> bool:
    """Whether the log has another user's copy of one of their events: it was dropped for theirs, and must come forth."""
    import pyarrow.compute as pc

    theirs = pc.unique(rows.filter(people.users_in(rows))["event_id"]).to_pylist()
    sources: Sequence[Any] = context.index.touching(slot)
    if not theirs or not sources:
        return False
    from engagement.raw.sources import entries

    paths = [*context.lake.local(entries(sources))]
    context.con.execute("CREATE OR REPLACE TEMP TABLE their_events AS SELECT unnest($ids) AS event_id", {"ids": theirs})
    found = context.con.execute(
        f"SELECT 1 FROM {engine.raw_relation(paths)} AS r SEMI JOIN their_events AS t ON t.event_id = lower(r.event_id) LIMIT 1"
    ).fetchall()
    return bool(found)
