"""What waits, computed from the lake and never from a cursor (design §7).

An hour waits until its rows of the big table carry every raw record that touches it and every session
that starts in it; a day until its day rows carry its hours' facts. Sensor and `engagement refresh` ask here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from engagement.lake import Entry, Lake
from engagement.model import units
from engagement.tables import finality
from engagement.tables.big_table import inputs_of
from engagement.tables.context import TableContext
from engagement.tables.sessions import is_stale, named

TABLES = (units.BIG_TABLE, units.EVENTS, units.ACTIVITY, units.FRAGMENTS, units.SESSIONS)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Hours and days that wait, each with why: `raw`, `sessions`, `inputs` or `model`."""

    hours: dict[datetime, str] = field(default_factory=dict)
    days: dict[date, str] = field(default_factory=dict)
    final: tuple[datetime, ...] = ()
    """Hours of final days whose hour rows are kept and lack raw rows that came too late: nobody waits for them (R11)."""

    def __bool__(self) -> bool:
        return bool(self.hours or self.days)


def compute(context: TableContext, now: datetime | None = None) -> Waiting:
    """What waits now. Lists the lake and opens the footers it has not seen in this version.

    Who asks every few seconds asks `recent`.
    """
    context.index.sync()
    listing = {table: context.footers.listing(table) for table in TABLES}
    hours, days = of(context, listing, context.index.touched(), context.index.good_rows())
    return open_only(Waiting(hours, days), *first_open(context.lake, now or datetime.now(UTC)))


def of(
    context: TableContext,
    listing: Mapping[str, Mapping[str, Entry]],
    touched: Mapping[datetime, Mapping[str, int]],
    good_rows: Mapping[datetime, int],
) -> tuple[dict[datetime, str], dict[date, str]]:
    """The hours and days that wait, each with why, by these objects of each table and these raw records.

    For the right answer of a day they have to hold its own objects and its neighbours' fragments, whole.
    """
    facts = context.footers.all(
        entry for table in (units.ACTIVITY, units.FRAGMENTS, units.SESSIONS, units.BIG_TABLE) for entry in listing[table].values()
    )
    hour_facts: dict[datetime, Mapping[str, Any]] = {}
    day_facts: dict[date, Mapping[str, Any]] = {}
    for key, entry in listing[units.BIG_TABLE].items():
        if key.endswith("/day.parquet"):
            day_facts[units.day_of_key(key)] = facts[entry.key]
        elif key.endswith("/hours.parquet"):
            hour_facts |= {datetime.fromisoformat(hour): made for hour, made in facts[entry.key].get("hours", {}).items()}
    inputs = {**listing[units.ACTIVITY], **listing[units.SESSIONS]}
    activity = {units.slot_of_key(key): facts[entry.key] for key, entry in listing[units.ACTIVITY].items()}
    hours = waiting_for_raw(touched, hour_facts) | waiting_for_mended(good_rows, activity)
    hours = waiting_for_inputs(inputs, hour_facts, context.format.slot_minutes) | hours
    sessions = {units.slot_of_key(key): facts[entry.key] for key, entry in listing[units.SESSIONS].items()}
    fragments = {key: (entry.version, facts[entry.key]) for key, entry in listing[units.FRAGMENTS].items()}
    hours = waiting_for_sessions(fragments, sessions) | hours
    made = ({units.slot_of_key(key): facts for key, (_, facts) in fragments.items()}, activity)
    hours = waiting_for_events({units.slot_of_key(key): entry for key, entry in listing[units.EVENTS].items()}, *made) | hours
    days = waiting_days(inputs, day_facts, context.format.slot_minutes)
    slots = [*activity.items(), *sessions.items(), *((units.slot_of_key(key), facts) for key, (_, facts) in fragments.items())]
    old_hours, old_days = waiting_for_model(context.model.digest, [*hour_facts.items(), *slots], day_facts)
    hours, days = old_hours | hours, old_days | days
    for hour in old_hours:
        days.pop(hour.date(), None)  # a day is of one model: its rows are made when all its hours are
    return dict(sorted(hours.items())), dict(sorted(days.items()))


def first_open(lake: Lake, now: datetime) -> tuple[date | None, date]:
    """The first day that is not final, and the first whose hour rows are kept (`open_only`)."""
    found = finality.read(lake)
    return found.first_open_day(now), found.gone_before.get("hour_rows", date.min)


def open_only(waiting: Waiting, first: date | None, kept_since: date) -> Waiting:
    """What waits from the first open day on; hours of final days that lack raw rows are named apart, as far back as hour rows are kept."""
    if first is None:
        return waiting
    return Waiting(
        {hour: why for hour, why in waiting.hours.items() if hour.date() >= first},
        {day: why for day, why in waiting.days.items() if day >= first},
        tuple(hour for hour, why in waiting.hours.items() if kept_since <= hour.date() < first and why == "raw"),
    )


def waiting_for_model(
    digest: str, made: Iterable[tuple[datetime, Mapping[str, Any]]], day_facts: Mapping[date, Mapping[str, Any]]
) -> tuple[dict[datetime, str], dict[date, str]]:
    """Hours and days that are partly, or have hours, of the present model and are not of it themselves.

    `made` gives a slot or hour and a footer, for every unit of it. Days that no unit of the present model stands in wait
    for a backfill: a new metric must not rebuild the whole history by itself.
    """
    models: dict[datetime, set[str | None]] = {}
    for slot, facts in made:
        models.setdefault(units.floor_hour(slot), set()).add(facts.get("model"))
    begun = {hour.date() for hour, found in models.items() if digest in found}
    hours = {hour: "model" for hour, found in models.items() if hour.date() in begun and found != {digest}}
    return hours, {day: "model" for day, facts in day_facts.items() if day in begun and facts.get("model") != digest}


def waiting_for_raw(touched: Mapping[datetime, Mapping[str, int]], made: Mapping[datetime, Mapping[str, Any]]) -> dict[datetime, str]:
    """Hours with raw rows beyond the offsets that their hour rows cover."""
    return {
        units.floor_hour(slot): "raw"
        for slot, ends in touched.items()
        if any(end > _covered(made, slot).get(chain, 0) for chain, end in ends.items())
    }


def waiting_for_mended(good_rows: Mapping[datetime, int], activity: Mapping[datetime, Mapping[str, Any]]) -> dict[datetime, str]:
    """Hours made from fewer good rows than their raw objects have.

    Offsets alone do not show it: an object that could not be read lies behind those of later ones once it is mended.
    Fewer rows than a unit was made from are no reason to make it again: it would lose what raw has lost.
    """
    return {
        units.floor_hour(slot): "raw"
        for slot, rows in good_rows.items()
        if "rows_in" in activity.get(slot, ()) and rows > activity[slot]["rows_in"]
    }


def _covered(made: Mapping[datetime, Mapping[str, Any]], slot: datetime) -> Mapping[str, int]:
    offsets: Mapping[str, Mapping[str, int]] = made.get(units.floor_hour(slot), {}).get("offsets", {})
    return offsets.get(slot.isoformat(), {})


def waiting_for_inputs(inputs: Mapping[str, Entry], made: Mapping[datetime, Mapping[str, Any]], slot_minutes: int) -> dict[datetime, str]:
    """Hours whose user activity or sessions are other versions than their hour rows were made from."""
    hours = {units.floor_hour(units.slot_of_key(key)) for key in inputs}
    return {
        hour: "inputs" for hour in hours if made.get(hour, {}).get("inputs") != inputs_of(units.slots_of(hour, slot_minutes), inputs.get)
    }


def waiting_for_events(events: Mapping[datetime, Entry], *made: Mapping[datetime, Mapping[str, Any]]) -> dict[datetime, str]:
    """Hours whose events are of another version than something was made from (slot -> footer, per table).

    A refresh that died there leaves raw rows that its hour rows do not carry. A rebuild that died leaves nothing else to
    tell by: its events cover no more than before, but may hold less, or more, than all that was made from the old ones.
    """
    return {
        units.floor_hour(slot): "inputs"
        for slot, entry in events.items()
        if any(facts.get(slot, {}).get("events") != entry.version for facts in made)
    }


def waiting_for_sessions(
    fragments: Mapping[str, tuple[str, Mapping[str, Any]]], sessions: Mapping[datetime, Mapping[str, Any]]
) -> dict[datetime, str]:
    """Hours whose sessions are stale: fragments elsewhere have changed them (R7)."""
    naming: dict[datetime, dict[str, tuple[str, Mapping[str, Any]]]] = {}
    for key, (version, facts) in fragments.items():
        for slot in {units.slot_of_key(key), *(datetime.fromisoformat(text) for text in named(facts, facts.get("model")))}:
            naming.setdefault(slot, {})[key] = (version, facts)
    return {units.floor_hour(slot): "sessions" for slot, found in naming.items() if is_stale(slot, sessions.get(slot, {}), found)}


def waiting_days(inputs: Mapping[str, Entry], made: Mapping[date, Mapping[str, Any]], slot_minutes: int) -> dict[date, str]:
    """Days whose user activity or sessions are other versions than their day rows were made from."""
    return {
        day: "inputs"
        for day in _days(inputs)
        if made.get(day, {}).get("inputs")
        != inputs_of([slot for hour in units.hours_of(day) for slot in units.slots_of(hour, slot_minutes)], inputs.get)
    }


def _days(keys: Iterable[str]) -> set[date]:
    return {units.day_of_key(key) for key in keys}
