"""Schema drift: what is new, changed or gone is told once; what a backfill brings is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement.contract import TimeWindow
from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed
from engagement.model import units
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.verdicts.result import Period, Status
from engagement.waiting import refresh
from quality import drift

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
CHAIN = topic_chain("session", "5e" * 16, 0)


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        yield found


def send(context, hour, *properties, event_type="tap", app_version="1.0"):
    """Events of this hour with these properties, each once."""
    last = files.last_link(context.lake, CHAIN)
    start = last.end if last else 0
    found = []
    for number, item in enumerate(properties, start=start):
        document = {
            "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": "u1", "event_type": event_type, "app_version": app_version,
            "timestamp": (hour + timedelta(seconds=number % 3000)).isoformat(), "properties": item,
        }  # fmt: skip
        found.append(rows.Record(number, hour + timedelta(minutes=59), b"u1", json.dumps(document).encode()))
    window = TimeWindow.of(context.format.history_start, 10**9, None)
    batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), found, window, 60)
    assert not batch.rejects
    files.write(context.lake, CHAIN, start, start + len(found), batch)
    refresh.hours(context, [units.floor_hour(hour)])


def look(context, *hours, days=()):
    return [(found.status, found.message) for found in drift.look(context, [*map(Period, hours), *map(Period.of_day, days)])]


def test_the_first_hour_is_the_inventory_and_the_second_is_compared_with_it(context):
    send(context, HOUR, {"button": "ok"})
    send(context, HOUR + units.HOUR, {"button": "ok"})
    send(context, HOUR + 2 * units.HOUR, {"button": "ok", "nested": {"depth": 3}})
    assert look(context, HOUR) == [(Status.PASSED, "3 names taken into the inventory")]
    assert look(context, HOUR + units.HOUR) == [(Status.PASSED, "nothing new")]
    assert look(context, HOUR + 2 * units.HOUR) == [(Status.FAILED, "new: properties.nested.depth of tap (number)")]
    assert look(context, HOUR + 2 * units.HOUR) == [(Status.FAILED, "new: properties.nested.depth of tap (number)")], (
        "judged again, the same"
    )
    send(context, HOUR + 3 * units.HOUR, {"button": "ok", "nested": {"depth": 4}})
    assert look(context, HOUR + 3 * units.HOUR) == [(Status.PASSED, "nothing new")], "told once"


def test_an_hour_that_is_judged_again_is_counted_once(context):
    send(context, HOUR, {"a": 1}, {"a": 2})
    look(context, HOUR)
    look(context, HOUR)
    assert drift.read(context.lake).things["properties.a of tap"].days == {"2026-03-11": 2}


def test_a_new_type_of_event_and_a_new_version_are_told(context):
    send(context, HOUR, {"a": 1})
    send(context, HOUR + units.HOUR, {"a": 1}, event_type="swipe", app_version="2.0")
    look(context, HOUR)
    ((_, message),) = look(context, HOUR + units.HOUR)
    assert message == "new: app version 2.0; new: event type swipe; new: properties.a of swipe (number)"


def test_a_field_of_another_kind_is_told_and_null_is_no_kind(context):
    send(context, HOUR, {"a": 1})
    send(context, HOUR + units.HOUR, {"a": None})
    send(context, HOUR + 2 * units.HOUR, {"a": "1"})
    look(context, HOUR)
    assert look(context, HOUR + units.HOUR) == [(Status.PASSED, "nothing new")]
    assert look(context, HOUR + 2 * units.HOUR) == [(Status.FAILED, "changed: properties.a of tap is text, was number")]


def test_an_older_hour_is_taken_in_and_tells_nothing(context):
    send(context, HOUR, {"a": 1})
    send(context, HOUR - units.DAY, {"old": 1}, app_version="0.9")
    look(context, HOUR)
    assert look(context, HOUR - units.DAY) == [(Status.PASSED, "older than what is known: taken into the inventory")]
    assert "app version 0.9" in drift.read(context.lake).things


def test_a_field_that_came_on_several_days_and_stays_away_a_whole_day_has_vanished_and_is_told_once(context, monkeypatch):
    monkeypatch.setattr(drift, "ENOUGH", 2)
    for day in range(3):
        send(context, HOUR + day * units.DAY, {"a": 1, "b": 1}, {"a": 1, "b": 2})
        look(context, HOUR + day * units.DAY)
    for day in (3, 4):
        send(context, HOUR + day * units.DAY, {"a": 1}, {"a": 2})
        look(context, HOUR + day * units.DAY)
    days = [(HOUR + day * units.DAY).date() for day in range(5)]
    assert [message for _, message in look(context, days=days)] == [
        "nothing vanished", "nothing vanished", "nothing vanished", "vanished: properties.b of tap", "nothing vanished",
    ]  # fmt: skip


def test_without_events_of_its_type_a_field_has_not_vanished(context, monkeypatch):
    monkeypatch.setattr(drift, "ENOUGH", 2)
    for day in range(3):
        send(context, HOUR + day * units.DAY, {"b": 1}, {"b": 2})
        look(context, HOUR + day * units.DAY)
    send(context, HOUR + 3 * units.DAY, {"x": 1}, {"x": 2}, event_type="swipe")
    look(context, HOUR + 3 * units.DAY)
    assert look(context, days=[(HOUR + 3 * units.DAY).date()]) == [(Status.PASSED, "nothing vanished")]


def test_an_app_that_makes_up_names_does_not_fill_the_lake(context, monkeypatch):
    monkeypatch.setattr(drift, "MOST", 5)
    send(context, HOUR, {"a": 1})
    look(context, HOUR)
    send(context, HOUR + units.HOUR, {f"n{number}": 1 for number in range(20)})
    ((_, message),) = look(context, HOUR + units.HOUR)
    assert drift.FULL in message
    found = drift.read(context.lake).things
    assert len(found) == 5
    assert found["app version 1.0"].days == {"2026-03-11": 2}, "what is known is counted all the same"


def test_names_are_cut_and_made_printable_and_no_value_is_kept(context):
    send(context, HOUR, {"x" * 200: "secret value", "bad\u0007name": 1, "of 0f8fad5b-d9cb-469f-a165-70867728950e": 1, "me@home.org": 1})
    look(context, HOUR)
    text = context.lake.read(drift.KEY).decode()
    assert "secret value" not in text
    assert "x" * 81 not in text
    assert "bad?name" in text
    assert "0f8fad5b" not in text
    assert "home.org" not in text


def test_hours_without_events_are_passed_over(context):
    assert look(context, HOUR) == []


def test_an_unreadable_inventory_is_told_and_others_that_write_it_too(context, monkeypatch):
    context.lake.replace(drift.KEY, b"[1]", None)
    with pytest.raises(PermanentError, match="not readable"):
        look(context, HOUR)
    context.lake.delete(drift.KEY)

    def changed(*_asked):
        raise Changed

    monkeypatch.setattr(context.lake, "replace", changed)
    with pytest.raises(TransientError, match="10 times"):
        look(context, HOUR)
