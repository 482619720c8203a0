"""Many slots in one pass, refreshed or rebuilt: what they change elsewhere waits, nothing is counted twice, and no unit holds another."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.model import units
from engagement.tables import activity, bulk, events, fragments, objects, sessions, slices
from engagement.tables.objects import Held
from engagement.waiting import refresh, waits
from quality import gates

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


def slots_of(context, hours):
    return [slot for hour in hours for slot in units.slots_of(hour, context.format.slot_minutes)]


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


def refreshed(context, history):
    lake_helpers.write(context, history)
    refresh.until_nothing_waits(context)


def hours_of(*numbers):
    return {DAY + number * units.HOUR for number in numbers}


def test_a_rebuilt_day_names_exactly_the_hours_of_other_days_that_it_changes(context):
    refreshed(context, [event(0, -20), event(1, -600), event(2, 24 * 60 + 5), event(3, 24 * 60 + 300), event(4, 600)])
    lake_helpers.write(context, [event(5, 5), event(6, 23 * 60 + 50)])
    today = [DAY + number * units.HOUR for number in range(24)]
    refresh.hours(context, today, rebuild=True)
    # 23:40 of the day before now goes on to 00:05, and 00:05 of the day after began at 23:50: two hours far from the rebuilt day.
    assert set(waits.compute(context).hours) == hours_of(-1, 24)
    refresh.until_nothing_waits(context)
    history = [
        event(0, -20),
        event(1, -600),
        event(2, 24 * 60 + 5),
        event(3, 24 * 60 + 300),
        event(4, 600),
        event(5, 5),
        event(6, 23 * 60 + 50),
    ]
    assert lake_helpers.sessions(context.settings) == oracle.sessions(history)


def test_a_rebuild_that_makes_an_owner_automated_names_the_cuts_at_both_midnights(tmp_path):
    times = [0, 240, 720, 1200, -10, 24 * 60, 480, 960]
    log = [event(number, minutes, "bot") for number, minutes in enumerate(times)]
    with lake_helpers.tables_of(tmp_path, session_gap_seconds=GAP) as context:
        refreshed(context, log[:6])
        lake_helpers.write(context, log[6:])
        refresh.hours(context, sorted(hours_of(8, 16)), rebuild=True)
        # 23:50 of the day before ends there now, 24:00 begins a session; those of 00:00, 12:00 and 20:00 were parts of others.
        assert set(waits.compute(context).hours) == hours_of(-1, 0, 12, 20, 24)
        refresh.until_nothing_waits(context)
        assert lake_helpers.sessions(context.settings) == oracle.sessions(log, GAP)


def holding(table, hour):
    def judge(_context, judged, candidate):
        if (judged, candidate.hour) == (table, hour):
            raise Held("test (1 violations)")

    return judge


@pytest.mark.parametrize("rebuild", [False, True])
@pytest.mark.parametrize("step", [events, sessions])
def test_a_held_unit_keeps_its_object_and_holds_no_other(context, step, rebuild):
    table = {events: units.EVENTS, sessions: units.SESSIONS}[step]
    refreshed(context, [event(0, 5), event(1, 125)])
    before = {entry.key: entry.version for entry in context.lake.list(table)}
    lake_helpers.write(context, [event(2, 6), event(3, 126)])
    context.judge = holding(table, DAY)
    for other in STEPS:
        results = other.refresh_all(context, slots_of(context, [DAY, DAY + 2 * units.HOUR]), rebuild=rebuild)
        if other is step:
            assert results[DAY].held == "test (1 violations)"
            assert results[DAY + 2 * units.HOUR].published
            break
    after = {entry.key: entry.version for entry in context.lake.list(table)}
    assert {key for key in after if after[key] != before.get(key)} == {units.slot_key(table, DAY + 2 * units.HOUR)}


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_unit_that_another_writer_replaces_meanwhile_is_made_anew_and_never_overwritten_with_older_rows(context, monkeypatch, rebuild):
    lake_helpers.write(context, [event(0, 5), event(1, 65)])
    real, hits = bulk.publish_made, []

    def raced(lake, key, old, candidate):
        if key == units.slot_key(units.EVENTS, DAY) and not hits:
            hits.append(key)
            lake_helpers.write(context, [event(2, 6)])  # a tick takes a newer record in between
            lake.replace(key, objects.encode(candidate.table.slice(0, 0), {}), None)
        return real(lake, key, old, candidate)

    monkeypatch.setattr(bulk, "publish_made", raced)
    results = events.refresh_all(context, slots_of(context, [DAY, DAY + units.HOUR]), rebuild=rebuild)
    assert hits
    assert [results[hour].rows for hour in (DAY, DAY + units.HOUR)] == [2, 1]
    assert results[DAY].facts["offsets"] == {"session/5e5e5e5e-00000": 3}


@pytest.mark.parametrize("rebuild", [False, True])
def test_a_raw_object_that_cannot_be_read_stops_its_own_slots_alone(context, rebuild):
    lake_helpers.write(context, [event(0, 5)])
    lake_helpers.write(context, [event(1, 65)])
    context.index.sync()
    path = context.lake.path(min(entry.key for entry in context.lake.list("raw")))
    whole = path.read_bytes()
    times = path.stat()
    path.write_bytes(whole[:4] + b"\0" * 600 + whole[604:])  # column data lost, the footer stands
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    results = events.refresh_all(context, slots_of(context, [DAY, DAY + units.HOUR]), rebuild=rebuild)
    assert isinstance(results[DAY], Exception)
    assert results[DAY + units.HOUR].rows == 1
    with pytest.raises(type(results[DAY])):
        bulk.required(results)


def test_a_slot_that_knows_an_object_read_for_another_counts_it_once(context):
    copy = event(1, 6, offset=2)
    lake_helpers.write(context, [event(0, 5), event(1, 6), copy, event(3, 65)])
    events.refresh(context, DAY)
    lake_helpers.write(context, [event(4, 7), event(5, 66)])
    hours = slots_of(context, [DAY, DAY + units.HOUR, DAY + 2 * units.HOUR])
    refreshed = bulk.required(events.refresh_all(context, hours))
    assert [(made.rows, made.facts.get("rows_in"), made.facts.get("duplicates")) for made in refreshed.values()] == [
        (3, 4, 1), (2, 2, 0), (0, None, None),
    ]  # fmt: skip
    assert not any(made.published for made in events.refresh_all(context, hours).values()), "nothing new, nothing replaced"
    assert not any(made.published for made in events.refresh_all(context, hours, rebuild=True).values()), "the same bytes as from raw alone"


@pytest.mark.parametrize("rebuild", [False, True])
def test_slots_without_rows_get_no_object(context, rebuild):
    lake_helpers.write(context, [event(0, 5)])
    for step in STEPS:
        results = step.refresh_all(context, slots_of(context, [DAY, DAY + units.HOUR]), rebuild=rebuild)
        assert [(result.published, result.rows) for result in results.values()] == [(True, 1), (False, 0)]
    assert len(list(context.lake.list("processed"))) == len(STEPS)


def test_many_units_judged_together_get_the_verdicts_that_each_gets_alone(context):
    refreshed(context, [event(0, 5), event(1, 65), event(2, 66), event(3, 125), event(4, 126)])
    for table in (units.EVENTS, units.SESSIONS, units.BIG_TABLE):
        candidates = []
        for number, entry in enumerate(entry for entry in context.lake.list(table) if not entry.key.endswith("/day.parquet")):
            rows = objects.read_rows(context.lake, entry)
            rows = pa.concat_tables([rows, rows.slice(0, 1)]) if number == 1 else rows
            candidates.append(objects.Candidate(rows, context.footers.of(entry), DAY, entry.key))
        if table == units.BIG_TABLE:  # one object holds all hours: a row too many in the second
            hours = slices.cut(candidates[0].table, "hour")
            hours[1] = pa.concat_tables([hours[1], hours[1].slice(0, 1)])
            key = units.hours_key(DAY.date())
            candidates = [objects.Candidate(rows, {}, DAY + number * units.HOUR, key) for number, rows in hours.items()]
        together = gates.judge_all(context, table, candidates)
        assert [told(found) for found in together] == [told(gates.judge(context, table, candidate)) for candidate in candidates]
        assert [gates.verdict(results) is None for results in together] == [number != 1 for number in range(len(candidates))]


def told(results):
    """What each gate says, but for how many rows of other units it was looked at with."""
    return [(result.check, result.status, result.violations) for result in results if result.status != "empty"]


# The plain functions

SLOTS = st.lists(st.integers(0, 50), unique=True).map(lambda numbers: [DAY + number * units.HOUR for number in numbers])


@given(SLOTS, st.lists(st.integers(0, 9), min_size=51, max_size=51), st.integers(1, 12))
def test_batches_hold_every_slot_once_in_order_and_are_no_heavier_than_asked(slots, weights, most):
    weight = {slot: weights[(slot - DAY) // units.HOUR] for slot in slots}
    batches = bulk.batches_of(slots, weight, most)
    assert [slot for batch in batches for slot in batch] == sorted(slots)
    assert all(len(batch) == 1 or sum(weight[slot] for slot in batch) <= most for batch in batches)
    assert all(sum(weight[slot] for slot in [*before, after[0]]) > most for before, after in itertools.pairwise(batches))


@given(
    st.lists(st.tuples(st.integers(0, 5 * 3600 * 10**6), st.sampled_from("abc")), min_size=1, max_size=30, unique=True), st.integers(1, 4)
)
def test_rows_cut_unsorted_are_those_of_each_slot_in_order(rows, chunks):
    base = int(DAY.timestamp()) * 10**6
    times = pa.array([base + micros for micros, _ in rows], pa.timestamp("us", tz="UTC"))
    numbers = [(base + micros) // (20 * 60 * 10**6) for micros, _ in rows]
    table = pa.table({"slot": numbers, "at": times, "id": [name for _, name in rows]})
    step = -(-len(rows) // chunks)
    pieces = pa.concat_tables([table.slice(start, step) for start in range(0, len(rows), step)])
    cut = slices.cut_unsorted(pieces, "slot", ("at", "id"))
    expected: dict = {}
    for micros, name in sorted(rows):
        expected.setdefault((base + micros) // (20 * 60 * 10**6), []).append((base + micros, name))
    assert {
        number: list(zip(part["at"].cast("int64").to_pylist(), part["id"].to_pylist(), strict=True)) for number, part in cut.items()
    } == expected
    assert [slices.number_of(slices.slot_of(number, 20), 20) for number in cut] == list(cut)
