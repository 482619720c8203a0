"""A rebuild of whole days in one pass makes what slot by slot makes, in both modes, whatever the slot and the batch (R10)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pytest

from engagement.model import units
from engagement.tables import activity, big_table, bulk, events, fragments, objects, sessions
from engagement.waiting import refresh, waits

DAY = datetime(2026, 3, 11, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STEPS = (events, fragments, activity, sessions)


def event(number, minutes, user="u1", session_id=None, offset=None):
    at = DAY + minutes * MINUTE
    return lake_helpers.screen_view(
        number, at, user_id=user, session_id=session_id, received_at=at + 9 * timedelta(days=1),
        kafka_offset=number if offset is None else offset, screen=f"S{number}",
    )  # fmt: skip


GAP = 14_400
"""Seconds: of four hours, so that six events make an automated day."""
# Across an hour, a midnight and a slot; two users; a copy (of number 2); a user all day long, whose cuts lie at midnights.
HISTORY = [
    event(0, 55), event(1, 65, session_id="b"), event(2, 66, session_id="a"), event(3, 23 * 60 + 50), event(4, 24 * 60 + 5),
    event(5, 58, "u2"), replace(event(2, 66), kafka_offset=6, country="FR"),
    *(event(7 + number, number * 240, "bot") for number in range(6)), event(13, -10, "bot"), event(14, 24 * 60, "bot"),
]  # fmt: skip
HOURS = sorted({units.floor_hour(item.event_time) for item in HISTORY})


def slots_of(context):
    return [slot for hour in HOURS for slot in units.slots_of(hour, context.format.slot_minutes)]


def found(context):
    """Key -> rows of every object; events as bytes, for their footers name no version of anything."""
    entries = [entry for folder in ("processed", "aggregated") for entry in context.lake.list(folder)]
    return {
        entry.key: context.lake.read(entry.key)
        if entry.key.startswith(units.EVENTS)
        else objects.read_rows(context.lake, entry).to_pylist()
        for entry in entries
    }


def days(context):
    for day in {hour.date() for hour in HOURS}:
        big_table.refresh_day(context, day)


@pytest.mark.parametrize(("mode", "slot_minutes", "most"), [("gap", 60, 10**6), ("client", 60, 20), ("gap", 20, 7)])
def test_many_slots_in_one_pass_make_the_same_objects_as_slot_by_slot(tmp_path, monkeypatch, mode, slot_minutes, most):
    monkeypatch.setattr(events, "ROWS_AT_ONCE", most)
    made = []
    for name in ("one by one", "at once", "anew"):
        with lake_helpers.tables_of(tmp_path / name, session_mode=mode, slot_minutes=slot_minutes, session_gap_seconds=GAP) as context:
            lake_helpers.write(context, HISTORY)
            for step in STEPS:
                if name == "one by one":
                    for slot in slots_of(context):
                        step.refresh(context, slot)
                else:
                    made_all = bulk.required(step.refresh_all(context, slots_of(context), rebuild=name == "anew"))
                    assert all(outcome.held is None for outcome in made_all.values())
            for day in {hour.date() for hour in HOURS}:
                big_table.refresh_hours(context, day, [hour for hour in HOURS if hour.date() == day], rebuild=True)
            days(context)
            assert not waits.compute(context)
            made.append(found(context))
            before = {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}
            refresh.hours(context, HOURS, rebuild=True)
            again = {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}
            assert again == before, "a rebuild that finds the same rows publishes nothing"
            assert lake_helpers.sessions(context.settings) == oracle.sessions(HISTORY, GAP, mode)
    assert made[0] == made[1] == made[2]
