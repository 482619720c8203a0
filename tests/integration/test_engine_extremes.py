"""What breaks engines: one user with far too many events, far too many versions, hours of nothing, clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pytest

from engagement.contract import TimeWindow
from engagement.model import units
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.waiting import refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
ALL = "device_type = 'ALL_DEVICES' AND country = 'ALL_COUNTRIES'"


def event(number, moment, **changes):
    plain = {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": "u1", "session_id": None, "event_type": "screen_view",
        "event_time": moment, "received_at": HOUR + timedelta(days=1), "kafka_topic": "session", "kafka_topic_id": "5e" * 16,
        "kafka_partition": 0, "kafka_offset": number, "device_type": "iPhone", "device_model": None, "app_version": "1.9",
        "country": "DE", "screen": f"S{number % 100}",
    }  # fmt: skip
    return oracle.RawEvent(**{**plain, **changes})


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        yield found


def made_from(context, history):
    lake_helpers.write(context, history)
    assert refresh.until_nothing_waits(context) < 5
    assert not waits.compute(context)


def query(context, text):
    return [tuple(row.values()) for row in lake_helpers.table(context.settings, text)]


def test_one_user_with_thousands_of_events_many_in_the_same_microsecond(context):
    several = [event(number, HOUR + timedelta(milliseconds=number // 50), session_id=f"c{number // 3}") for number in range(2000)]
    made_from(context, several)
    found = lake_helpers.sessions(context.settings)
    assert [dict(session, session_key=None) for session in found] == [
        dict(session, session_key=None, screen_path=list(session["screen_path"]), client_session_ids=list(session["client_session_ids"]))
        for session in oracle.sessions(several)
    ]
    assert len(found[0]["screen_path"]) == len(found[0]["client_session_ids"]) == 50


def test_ten_thousand_versions_become_a_thousand_and_other_and_nothing_is_lost(context):
    made_from(context, [event(number, HOUR, user_id=f"u{number}", app_version=f"v{number:05d}") for number in range(10_000)])
    measures = "total_events, active_users, total_sessions"
    for period in ("hour IS NOT NULL", "hour IS NULL"):
        found = {
            version: numbers
            for version, *numbers in query(
                context, f"SELECT app_version, {measures} FROM daily_aggregates_with_dimensions WHERE {period} AND {ALL}"
            )
        }
        assert found["OTHER"] == [9000, 9000, 9000]
        assert found["ALL_VERSIONS"] == [10_000, 10_000, 10_000]
        assert sorted(found.keys() - {"OTHER", "ALL_VERSIONS"}) == [f"v{number:05d}" for number in range(1000)], "ties by byte order"
    made = context.footers.of(context.lake.stat(units.hours_key(HOUR.date())))["hours"][HOUR.isoformat()]
    assert made["other"] == context.footers.of(context.lake.stat(units.day_key(HOUR.date())))["other"] == {"app_version": 9000}


def test_an_empty_hour_between_two_has_no_object_and_no_row(context):
    made_from(context, [event(0, HOUR), event(1, HOUR + 2 * units.HOUR)])
    refresh.hours(context, [HOUR + units.HOUR])
    refresh.hours(context, [HOUR + units.HOUR], rebuild=True)
    assert not [entry.key for entry in context.lake.list("processed") if "hour=11" in entry.key]
    hours = f"SELECT hour FROM daily_aggregates_with_dimensions WHERE hour IS NOT NULL AND {ALL} AND app_version = '1.9'"
    assert query(context, hours) == [(10,), (12,)]
    assert not waits.compute(context)


def test_an_hour_of_rejects_only_makes_nothing_wait_and_is_counted(context):
    window = TimeWindow.of(context.format.history_start, 300, 30)
    record = rows.Record(0, HOUR, b"u1", b'{"event_id": 1}')
    batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), [record], window, context.format.slot_minutes)
    written = files.write(context.lake, topic_chain("session", "5e" * 16, 0), 0, 1, batch)
    assert sum(written.rejects.values()) == 1
    assert not waits.compute(context)
    refresh.hours(context, [HOUR], rebuild=True)
    assert not list(context.lake.list("processed"))
    assert not list(context.lake.list("aggregated"))


def test_clocks_that_jump_change_nothing_but_where_events_lie(context):
    """The phone's clock is set back by two hours amid a session, the broker's by one between two records."""
    moments = [HOUR, HOUR + timedelta(minutes=5), HOUR - timedelta(hours=2), HOUR - timedelta(minutes=115), HOUR + timedelta(minutes=10)]
    received = [HOUR + timedelta(hours=lead) for lead in (3, 3, 2, 2, 3)]
    history = [event(number, moment, received_at=received[number]) for number, moment in enumerate(moments)]
    for one in history:
        made_from(context, [one])
    found = lake_helpers.sessions(context.settings)
    assert [(session["started_at"], session["event_count"]) for session in found] == [(HOUR - timedelta(hours=2), 2), (HOUR, 3)]
    assert [session["session_key"] for session in found] == [session["session_key"] for session in oracle.sessions(history)]


def test_ids_that_differ_in_case_only_are_one_event_the_earliest_wins(context):
    first = event(0xABCDEF, HOUR, kafka_offset=0, received_at=HOUR + timedelta(hours=2), country="FR")
    later = event(0, HOUR, kafka_offset=1, event_id=first.event_id.upper(), received_at=HOUR + timedelta(hours=3))
    assert first.event_id != later.event_id
    made_from(context, [first])
    made_from(context, [later])
    assert query(context, "SELECT event_id, country FROM events") == [(first.event_id, "FR")]
    facts = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, HOUR)))
    assert facts["duplicates"] == 1
