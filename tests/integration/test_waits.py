"""What waits is computed from the lake: complete, exact, and right again after any kill."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import lake_helpers
import oracle
import pytest
from histories import histories
from hypothesis import HealthCheck, given, settings

from engagement.lake import Entry, LocalLake
from engagement.model import units
from engagement.tables import activity, big_table, events, fragments, sessions
from engagement.tables.objects import CODE_VERSION
from engagement.waiting import refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
NEXT = HOUR + units.HOUR
MINUTE = timedelta(minutes=1)


def event(number, at, user="u1"):
    return lake_helpers.screen_view(number, at, user_id=user, received_at=datetime(2026, 3, 20, tzinfo=UTC))


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        yield found


def versions(context, *tables):
    return {entry.key: entry.version for folder in tables or ("processed", "aggregated") for entry in context.lake.list(folder)}


def changed(before, after):
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def normalized(rows):
    return sorted(
        (sorted((name, list(value) if isinstance(value, tuple) else value) for name, value in row.items()) for row in rows), key=str
    )


def assert_right(context, history):
    assert normalized(lake_helpers.sessions(context.settings)) == normalized(oracle.sessions(history))
    for period in ("hour", "day"):
        assert normalized(lake_helpers.big_table(context.settings, period)) == normalized(oracle.aggregates(history, period))


def settle(context):
    """Refresh hours until none waits; days are left alone."""
    for _ in range(5):
        if not (hours := list(waits.compute(context).hours)):
            return
        refresh.hours(context, hours)
    raise AssertionError("hours wait for ever")


# The plain functions

CHAIN, OTHER = "session/5e5e5e5e-00000", "session/5e5e5e5e-00001"


def test_an_hour_waits_for_raw_rows_beyond_what_its_rows_cover():
    slot = HOUR.isoformat()
    touched = {HOUR: {CHAIN: 10, OTHER: 5}}
    assert waits.waiting_for_raw(touched, {}) == {HOUR: "raw"}
    assert waits.waiting_for_raw(touched, {HOUR: {"offsets": {}}}) == {HOUR: "raw"}
    assert waits.waiting_for_raw(touched, {HOUR: {"offsets": {slot: {CHAIN: 10}}}}) == {HOUR: "raw"}
    assert waits.waiting_for_raw(touched, {HOUR: {"offsets": {slot: {CHAIN: 9, OTHER: 5}}}}) == {HOUR: "raw"}
    assert waits.waiting_for_raw(touched, {HOUR: {"offsets": {slot: {CHAIN: 10, OTHER: 7}}}}) == {}
    assert waits.waiting_for_raw({}, {HOUR: {"offsets": {slot: {CHAIN: 10}}}}) == {}


def test_each_slot_of_an_hour_is_covered_by_its_own_offsets():
    second = HOUR + 30 * MINUTE
    touched = {HOUR: {CHAIN: 10}, second: {CHAIN: 8}}
    covered = {HOUR: {"offsets": {HOUR.isoformat(): {CHAIN: 10}}}}
    assert waits.waiting_for_raw(touched, covered) == {HOUR: "raw"}
    covered[HOUR]["offsets"][second.isoformat()] = {CHAIN: 8}
    assert waits.waiting_for_raw(touched, covered) == {}


def listing(*keys, version="1"):
    return {key: Entry(key, 1, version) for key in keys}


ACTIVITY_KEY, SESSIONS_KEY = units.slot_key(units.ACTIVITY, HOUR), units.slot_key(units.SESSIONS, HOUR)


def test_an_hour_waits_while_its_inputs_are_other_versions():
    inputs = listing(ACTIVITY_KEY, SESSIONS_KEY)
    made = {ACTIVITY_KEY: "1", SESSIONS_KEY: "1"}
    assert waits.waiting_for_inputs(inputs, {HOUR: {"inputs": made}}, 60) == {}
    assert waits.waiting_for_inputs(inputs, {}, 60) == {HOUR: "inputs"}
    assert waits.waiting_for_inputs(inputs, {HOUR: {"inputs": made | {SESSIONS_KEY: "0"}}}, 60) == {HOUR: "inputs"}
    assert waits.waiting_for_inputs(inputs, {HOUR: {"inputs": {ACTIVITY_KEY: "1"}}}, 60) == {HOUR: "inputs"}


def test_an_hour_waits_while_its_events_are_another_version_than_something_was_made_from():
    events, old, new = {HOUR: Entry("events", 1, "2")}, {HOUR: {"events": "1"}}, {HOUR: {"events": "2"}}
    assert waits.waiting_for_events(events, new, new) == {}
    for first, second in ((old, new), (new, old), ({}, new), (new, {})):
        assert waits.waiting_for_events(events, first, second) == {HOUR: "inputs"}


def test_a_day_waits_while_any_input_of_its_hours_is_another_version():
    inputs = listing(ACTIVITY_KEY) | listing(units.slot_key(units.ACTIVITY, HOUR.replace(hour=23)), version="2")
    made = {key: entry.version for key, entry in inputs.items()}
    assert waits.waiting_days(inputs, {HOUR.date(): {"inputs": made}}, 60) == {}
    assert waits.waiting_days(inputs, {}, 60) == {HOUR.date(): "inputs"}
    assert waits.waiting_days(inputs, {HOUR.date(): {"inputs": {ACTIVITY_KEY: "1"}}}, 60) == {HOUR.date(): "inputs"}
    assert waits.waiting_days(listing(units.slot_key(units.ACTIVITY, HOUR - units.DAY)), {}, 60) == {date(2026, 3, 10): "inputs"}


def fragment(slot, version, *affects):
    return {units.slot_key(units.FRAGMENTS, slot): (version, {"affects": [item.isoformat() for item in affects]})}


def footer(*read, code=CODE_VERSION):
    return {"code": code, "fragments": {units.slot_key(units.FRAGMENTS, slot): version for slot, version in read}}


def test_sessions_are_stale_without_an_object_where_the_slot_has_fragments():
    assert sessions.is_stale(HOUR, {}, fragment(HOUR, "1", HOUR))
    assert not sessions.is_stale(HOUR, {}, fragment(NEXT, "1", HOUR))
    assert not sessions.is_stale(HOUR, {}, {})


def test_sessions_are_stale_while_a_fragments_object_names_them_that_they_have_not_read():
    own = fragment(HOUR, "1", HOUR)
    assert not sessions.is_stale(HOUR, footer((HOUR, "1")), own)
    assert sessions.is_stale(HOUR, footer((HOUR, "0")), own)
    assert sessions.is_stale(HOUR, footer((HOUR, "1")), own | fragment(NEXT, "1", HOUR))
    assert not sessions.is_stale(HOUR, footer((HOUR, "1")), own | fragment(NEXT, "1", NEXT))
    assert not sessions.is_stale(HOUR, footer((HOUR, "1"), (NEXT, "1")), own | fragment(NEXT, "1", HOUR))


def test_sessions_of_older_code_are_stale():
    assert sessions.is_stale(HOUR, footer((HOUR, "1"), code=CODE_VERSION - 1), fragment(HOUR, "1", HOUR))


def test_hours_wait_for_sessions_that_fragments_elsewhere_have_changed():
    found = fragment(HOUR, "1", HOUR) | fragment(NEXT, "2", HOUR, NEXT)
    assert waits.waiting_for_sessions(found, {}) == {HOUR: "sessions", NEXT: "sessions"}
    assert waits.waiting_for_sessions(found, {HOUR: footer((HOUR, "1")), NEXT: footer((HOUR, "1"), (NEXT, "2"))}) == {HOUR: "sessions"}
    assert waits.waiting_for_sessions(found, {HOUR: footer((HOUR, "1"), (NEXT, "2")), NEXT: footer((NEXT, "2"))}) == {}
    assert waits.waiting_for_sessions({}, {}) == {}


def test_nothing_waits_is_false():
    assert not waits.Waiting()
    assert waits.Waiting({HOUR: "raw"})
    assert waits.Waiting(days={HOUR.date(): "inputs"})


# In a lake


def test_nothing_waits_in_an_empty_lake(context):
    assert not waits.compute(context)


def test_a_new_raw_file_makes_exactly_its_hours_wait(context):
    lake_helpers.write(context, [event(0, HOUR), event(1, NEXT + 5 * units.HOUR)])
    assert waits.compute(context) == waits.Waiting({HOUR: "raw", NEXT + 5 * units.HOUR: "raw"}, {})
    refresh.until_nothing_waits(context)
    lake_helpers.write(context, [event(2, HOUR, "u2")])
    assert waits.compute(context) == waits.Waiting({HOUR: "raw"}, {})
    refresh.hours(context, [HOUR])
    assert waits.compute(context) == waits.Waiting({}, {HOUR.date(): "inputs"})


def test_a_raw_file_of_rejects_makes_nothing_wait(context):
    from engagement.contract import TimeWindow
    from engagement.raw import files, rows
    from engagement.raw.names import topic_chain

    batch = rows.build(
        rows.Coordinates("session", "5e" * 16, 0), [rows.Record(0, HOUR, None, b"x")], TimeWindow.of(date(2020, 1, 1), 0, None), 60
    )
    files.write(context.lake, topic_chain("session", "5e" * 16, 0), 0, 1, batch)
    assert not waits.compute(context)


def test_a_copy_that_changes_no_row_still_comes_to_rest(context):
    lake_helpers.write(context, [event(0, HOUR)])
    refresh.until_nothing_waits(context)
    lake_helpers.write(context, [replace(event(0, HOUR), kafka_offset=1)])
    assert set(waits.compute(context).hours) == {HOUR}
    assert refresh.until_nothing_waits(context) < 5
    assert_right(context, [event(0, HOUR), replace(event(0, HOUR), kafka_offset=1)])


@settings(deadline=None, max_examples=2, suppress_health_check=list(HealthCheck), derandomize=True)
@given(histories(max_events=5, automated_days=0))
def test_after_a_refresh_nothing_waits_and_another_publishes_nothing(history):
    folder = Path(tempfile.mkdtemp())
    try:
        with lake_helpers.tables_of(folder) as context:
            lake_helpers.write(context, history)
            assert refresh.until_nothing_waits(context) < 5
            assert not waits.compute(context)
            before = versions(context)
            hours = sorted({units.floor_hour(item.event_time) for item in history})
            refresh.hours(context, hours)
            for day in {hour.date() for hour in hours}:
                big_table.refresh_day(context, day)
            assert versions(context) == before
            assert refresh.until_nothing_waits(context) == 0
    finally:
        shutil.rmtree(folder)


# Kills


class Killed(BaseException):
    """As SIGKILL: nothing of ours may catch it."""


@pytest.mark.parametrize("where", ["between the steps", "before a publication"])
def test_a_killed_refresh_leaves_the_hours_waiting_and_the_next_one_mends_it(where, context, monkeypatch):
    """Each round a late event arrives that moves the sessions of two hours, and the refresh dies one step later than before."""
    history = [event(0, HOUR), event(1, NEXT + 20 * MINUTE)]
    lake_helpers.write(context, history)
    refresh.until_nothing_waits(context)
    late = [HOUR + minutes * MINUTE for minutes in (25, 50, 10, 75, 5, 35, 58, 1, 79, 99)]
    for kill_at, at in enumerate(late):
        history.append(event(len(history), at))
        lake_helpers.write(context, history[-1:])
        steps = iter(range(10**6))

        def dying(real, steps=steps, kill_at=kill_at):
            def step(*args, **named):
                if next(steps) == kill_at:
                    raise Killed
                return real(*args, **named)

            return step

        with monkeypatch.context() as patch:
            if where == "between the steps":
                for module in (events, fragments, activity, sessions):
                    patch.setattr(module, "refresh_all", dying(module.refresh_all))
                patch.setattr(big_table, "refresh_hours", dying(big_table.refresh_hours))
            else:
                patch.setattr(LocalLake, "replace", dying(LocalLake.replace))
            try:
                refresh.hours(context, [HOUR, NEXT])
            except Killed:
                assert waits.compute(context).hours, f"killed at step {kill_at}"
            else:
                assert kill_at >= 5, "there are at least five steps to die in"
                break
        settle(context)
        assert normalized(lake_helpers.sessions(context.settings)) == normalized(oracle.sessions(history))
    refresh.until_nothing_waits(context)
    assert_right(context, history)


def test_an_hour_that_lost_a_session_waits_until_its_hour_rows_say_so(context):
    """Killed after the sessions: raw is covered and no session is stale, only the inputs' versions tell."""
    history = [event(0, HOUR + 40 * MINUTE), event(1, NEXT + 20 * MINUTE), event(2, HOUR + 60 * MINUTE)]
    lake_helpers.write(context, history[:2])
    refresh.until_nothing_waits(context)
    lake_helpers.write(context, history[2:])
    for step in (events.refresh, fragments.refresh, activity.refresh, sessions.refresh):
        for hour in (HOUR, NEXT):
            step(context, hour)
    assert waits.compute(context).hours == {HOUR: "inputs", NEXT: "raw"}
    refresh.until_nothing_waits(context)
    assert_right(context, history)


def test_a_second_late_event_does_not_make_the_first_ones_sessions_forgotten(context):
    """Killed after the fragments: the next fragments of the slot must still name the hour that waits."""
    history = [event(0, HOUR + 40 * MINUTE), event(1, NEXT + 20 * MINUTE), event(2, NEXT + 50 * MINUTE, "u2")]
    lake_helpers.write(context, history)
    settle(context)
    for late in (event(3, NEXT + 5 * MINUTE), event(4, NEXT + 55 * MINUTE, "u2")):
        history.append(late)
        lake_helpers.write(context, [late])
        events.refresh(context, NEXT)
        fragments.refresh(context, NEXT)
        assert waits.compute(context).hours.keys() == {HOUR, NEXT}
    settle(context)
    assert normalized(lake_helpers.sessions(context.settings)) == normalized(oracle.sessions(history))


# Late events move sessions across hours and midnights

MIDNIGHT = datetime(2026, 3, 12, tzinfo=UTC)


def before_midnight(minutes):
    return MIDNIGHT - minutes * MINUTE


LATE = {
    "a late event extends a session backwards into the hour before": ([70, 25], 55),
    "a late event extends a session backwards across midnight": ([200, -20], 5),
    "a late event bridges two sessions": ([70, 20], 45),
    "a late event bridges two sessions across midnight": ([20, -25], 0),
    "a late event bridges hours far away from its own": ([110, 85, 31, 3, -25, -55], 58),
    "a late event joins the end of a session": ([100, 75], 50),
    "a late event one microsecond too far joins nothing": ([100], 70 - 1 / 60_000_000),
    "a late event within a session moves nothing": ([100, 80], 90),
}


def sessions_by_hour(history):
    found = {}
    for session in oracle.sessions(history):
        found.setdefault(units.floor_hour(session["started_at"]), []).append(session)
    return found


@pytest.mark.parametrize("name", LATE, ids=str)
def test_exactly_the_hours_whose_sessions_change_are_refreshed(name, context):
    times, late = LATE[name]
    history = [event(number, before_midnight(minutes)) for number, minutes in enumerate(times)]
    bystanders = [event(50 + number, before_midnight(minutes), "u2") for number, minutes in enumerate((50, -30))]
    history += [replace(item, kafka_offset=len(times) + number) for number, item in enumerate(bystanders)]
    lake_helpers.write(context, history)
    settle(context)
    before, expected_before = versions(context, units.SESSIONS), sessions_by_hour(history)
    latecomer = replace(event(99, before_midnight(late)), kafka_offset=len(history))
    lake_helpers.write(context, [latecomer])
    settle(context)
    assert normalized(lake_helpers.sessions(context.settings)) == normalized(oracle.sessions([*history, latecomer]))
    expected_after = sessions_by_hour([*history, latecomer])
    hours = {hour for hour in expected_before.keys() | expected_after.keys() if expected_before.get(hour) != expected_after.get(hour)}
    refreshed = {units.floor_hour(units.slot_of_key(key)) for key in changed(before, versions(context, units.SESSIONS))}
    new_object = {units.floor_hour(latecomer.event_time)} - {units.floor_hour(units.slot_of_key(key)) for key in before}
    assert refreshed == hours | new_object
