"""Gates: each passes what is right, refuses what is wrong, and a refused unit keeps its last good object."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engagement.model import units
from engagement.model.model import built_in
from engagement.tables import big_table, events, sessions
from engagement.tables.objects import Candidate, Held
from engagement.verdicts.result import Period, Result, Severity, Status
from engagement.waiting import refresh, waits
from quality import gates

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)


def event(number, minutes=0.0, user="u1", **changes):
    made = {"user_id": user, "received_at": HOUR + timedelta(days=1), "screen": None} | changes
    return lake_helpers.screen_view(number, HOUR + timedelta(minutes=minutes), **made)


HISTORY = [
    event(0),
    event(1, 5, user="u2", country="FR"),
    event(2, 50),
    event(0, 0, kafka_offset=3),
    event(4, 70, app_version="1.9", event_type="install"),
]


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with lake_helpers.tables_of(tmp_path_factory.mktemp("gates")) as found:
        lake_helpers.write(found, HISTORY)
        refresh.until_nothing_waits(found)
        yield found


KEYS = {
    units.EVENTS: units.slot_key(units.EVENTS, HOUR),
    units.SESSIONS: units.slot_key(units.SESSIONS, HOUR),
    units.BIG_TABLE: units.day_key(HOUR.date()),
}


def published(context, table):
    key = KEYS[table]
    return pq.ParquetFile(context.lake.path(key)).read(), dict(context.footers.of(context.lake.stat(key)))


def twice(rows):
    return pa.concat_tables([rows, rows.slice(0, 1)])


def with_column(rows, name, change):
    place = rows.schema.get_field_index(name)
    return rows.set_column(place, rows.schema.field(place), change(rows[name]))


def plus_one_in_the_first_row(column):
    return pa.array([value + (not number) for number, value in enumerate(column.to_pylist())], column.type)


def candidate(table, rows, facts=None):
    key = KEYS[table]
    return Candidate(rows, facts or {"rows_in": rows.num_rows, "duplicates": 0}, None if table == units.BIG_TABLE else HOUR, key)


def violations(context, table, rows, facts=None):
    """Gate -> rows that break it, of those that something breaks."""
    results = gates.judge(context, table, candidate(table, rows, facts))
    return {result.check: result.violations for result in results if result.status is Status.FAILED}


@pytest.mark.parametrize("table", sorted(KEYS))
def test_what_was_published_passes_its_gates(table, context):
    rows, facts = published(context, table)
    assert rows.num_rows
    results = gates.judge(context, table, candidate(table, rows, facts))
    assert {result.status for result in results} == {Status.PASSED}
    assert {result.check for result in results} == {
        constraint.name for suite in gates.gate_suites(context, table, by_hour=False) for constraint in suite.constraints
    }


@pytest.mark.parametrize("table", sorted(KEYS))
def test_nothing_passes(table, context):
    rows, _ = published(context, table)
    nothing = candidate(table, rows.slice(0, 0), {"rows_in": 0, "duplicates": 0})
    results = gates.judge(context, table, nothing)
    assert {result.status for result in results} <= {Status.EMPTY, Status.PASSED}
    assert gates.verdict(results) is None


def test_an_event_that_stands_twice_is_a_violation(context):
    rows, facts = published(context, units.EVENTS)
    assert violations(context, units.EVENTS, twice(rows), facts) == {"no_repeated_events": 2, "events_accounted_for": 1}


def test_one_id_at_two_times_is_two_events(context):
    rows, facts = published(context, units.EVENTS)
    same_id = with_column(rows, "event_id", lambda column: pa.array([column[0].as_py()] * len(column)))
    assert violations(context, units.EVENTS, same_id, facts) == {}


@pytest.mark.parametrize(("name", "change"), [("rows_in", 1), ("rows_in", -1), ("duplicates", 2)])
def test_rows_that_are_not_accounted_for_are_violations(name, change, context):
    rows, facts = published(context, units.EVENTS)
    assert facts["rows_in"] == 4
    assert facts["duplicates"] == 1
    wrong = facts | {name: facts[name] + change}
    assert violations(context, units.EVENTS, rows, wrong) == {"events_accounted_for": 1}


def test_a_lost_event_is_a_violation(context):
    rows, facts = published(context, units.EVENTS)
    assert violations(context, units.EVENTS, rows.slice(1), facts) == {"events_accounted_for": 1}


def test_a_session_that_stands_twice_is_a_violation(context):
    rows, _ = published(context, units.SESSIONS)
    assert violations(context, units.SESSIONS, twice(rows)) == {"no_repeated_sessions": 2}


@pytest.mark.parametrize("metric", built_in().additive)
@pytest.mark.parametrize("level", [True, False])
def test_an_all_row_that_is_not_the_sum_of_its_parts_is_a_violation(metric, level, context):
    rows, _ = published(context, units.BIG_TABLE)
    is_all = pc.or_(pc.equal(rows["country"], "ALL_COUNTRIES"), pc.equal(rows["app_version"], "ALL_VERSIONS"))
    order = rows.filter(is_all if level else pc.invert(is_all)), rows.filter(pc.invert(is_all) if level else is_all)
    rows = pa.concat_tables(order)
    assert violations(context, units.BIG_TABLE, rows) == {}
    assert violations(context, units.BIG_TABLE, with_column(rows, metric, plus_one_in_the_first_row)).keys() == {"all_rows_add_up"}


@pytest.mark.parametrize("column", ["device_type", "app_version", "country"])
def test_a_missing_all_row_is_a_violation(column, context):
    rows, _ = published(context, units.BIG_TABLE)
    level = {"device_type": "ALL_DEVICES", "app_version": "ALL_VERSIONS", "country": "ALL_COUNTRIES"}[column]
    without = rows.filter(pc.not_equal(rows[column], level))
    assert without.num_rows < rows.num_rows
    assert violations(context, units.BIG_TABLE, without)["all_rows_add_up"] > 0


def test_a_row_that_stands_twice_is_a_violation(context):
    rows, _ = published(context, units.BIG_TABLE)
    assert violations(context, units.BIG_TABLE, twice(rows)) == {"no_repeated_rows": 2}


def result(check, status, violations, severity=Severity.ERROR):
    return Result("s", check, "events", Period(HOUR), "gate", severity, status, 0.5, "= 1", "", violations=violations)


def test_require_lets_good_results_pass_and_names_every_failed_gate():
    good, bad, worse = result("a", Status.PASSED, 0), result("b", Status.FAILED, 1), result("c", Status.FAILED, 22)
    gates.require([good])
    with pytest.raises(Held, match=r"^b \(1 violations\), c \(22 violations\)$"):
        gates.require([good, bad, worse])


# A held unit

NEXT = HOUR + units.HOUR


def holding(*held):
    """A judge with all real gates that also holds these (table, hour of the candidate's first row)."""

    def judge(context, table, candidate):
        gates.Gates(context).judge(context, table, candidate)
        if (table, candidate.hour) in held or (table, None) in held:
            raise Held("test (1 violations)")

    return judge


def versions(context):
    return {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}


@pytest.fixture
def changing(tmp_path):
    """Two hours are published; both have one more event waiting."""
    with lake_helpers.tables_of(tmp_path) as found:
        lake_helpers.write(found, [event(0), event(1, 65)])
        refresh.hours(found, [HOUR, NEXT])
        lake_helpers.write(found, [event(2, 1), event(3, 66)])
        yield found


def test_a_held_slot_of_events_keeps_its_object_and_the_others_are_published(changing):
    before = versions(changing)
    changing.judge = holding((units.EVENTS, None))
    outcome = events.refresh(changing, HOUR)
    assert (outcome.published, outcome.held) == (False, "test (1 violations)")
    changing.judge = holding()
    assert events.refresh(changing, NEXT).published
    after = versions(changing)
    assert after[units.slot_key(units.EVENTS, HOUR)] == before[units.slot_key(units.EVENTS, HOUR)]
    assert after[units.slot_key(units.EVENTS, NEXT)] != before[units.slot_key(units.EVENTS, NEXT)]
    assert set(waits.compute(changing).hours) == {HOUR, NEXT}


def test_a_held_slot_of_sessions_keeps_its_object_and_waits(changing):
    changing.judge = holding((units.SESSIONS, None))
    before = versions(changing)
    refresh.hours(changing, [HOUR, NEXT])
    after = versions(changing)
    for slot in (HOUR, NEXT):
        assert after[units.slot_key(units.SESSIONS, slot)] == before[units.slot_key(units.SESSIONS, slot)]
        assert after[units.slot_key(units.EVENTS, slot)] != before[units.slot_key(units.EVENTS, slot)]
    assert sessions.refresh(changing, HOUR).held == "test (1 violations)"
    assert HOUR in waits.compute(changing).hours


def test_of_a_days_hour_rows_a_held_hour_keeps_its_rows_and_the_others_are_published(changing):
    def hour_rows():
        rows = pq.ParquetFile(changing.lake.path(units.hours_key(HOUR.date()))).read().to_pylist()
        return {hour: [row for row in rows if row["hour"] == hour] for hour in (10, 11)}

    before = hour_rows()
    changing.judge = holding((units.BIG_TABLE, HOUR))
    refresh.hours(changing, [HOUR, NEXT])
    after = hour_rows()
    assert after[10] == before[10]
    assert after[11] != before[11]
    assert set(waits.compute(changing).hours) == {HOUR}
    outcomes = big_table.refresh_hours(changing, HOUR.date(), [HOUR, NEXT])
    assert (outcomes[HOUR].held, outcomes[HOUR].published, outcomes[NEXT].held) == ("test (1 violations)", False, None)


def test_a_held_day_keeps_its_object(changing):
    big_table.refresh_day(changing, HOUR.date())
    refresh.hours(changing, [HOUR, NEXT])
    before = versions(changing)
    changing.judge = holding((units.BIG_TABLE, None))
    assert big_table.refresh_day(changing, HOUR.date()).held == "test (1 violations)"
    assert versions(changing) == before
    assert set(waits.compute(changing).days) == {HOUR.date()}


def test_once_mended_a_held_unit_is_as_if_it_had_never_been_held(changing):
    changing.judge = holding((units.SESSIONS, None), (units.BIG_TABLE, HOUR))
    refresh.hours(changing, [HOUR, NEXT])
    changing.judge = holding()
    refresh.until_nothing_waits(changing)
    assert not waits.compute(changing)
    history = [event(0), event(1, 65), event(2, 1), event(3, 66)]
    assert lake_helpers.sessions(changing.settings) == oracle.sessions(history)


def test_a_raw_object_that_does_not_hold_what_its_footer_says_holds_the_hour(tmp_path):
    from engagement.contract import TimeWindow
    from engagement.raw import files, rows
    from engagement.raw.names import topic_chain

    with lake_helpers.tables_of(tmp_path) as context:
        context.judge = holding()
        record = rows.Record(0, HOUR, b"u1", lake_helpers.payload(event(0)))
        window = TimeWindow.of(context.format.history_start, 300, 30)
        batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), [record], window, 60)
        lying = replace(batch, event_slots={HOUR: 2})
        files.write(context.lake, topic_chain("session", "5e" * 16, 0), 0, 1, lying)
        outcome = events.refresh(context, HOUR)
        assert outcome.held == "events_accounted_for (1 violations)"
        assert versions(context) == {}
