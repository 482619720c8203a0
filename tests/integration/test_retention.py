"""Retention takes what is due and changes nothing else: what is left stays right, nothing waits, nothing is made into less."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest

from engagement.errors import EngagementError
from engagement.maintenance import retention
from engagement.maintenance.layers import LAYERS
from engagement.maintenance.policy import Policy, Rule
from engagement.model import units
from engagement.tables import finality, objects, sessions
from engagement.waiting import recent, refresh, waits

FIRST = datetime(2026, 3, 10, tzinfo=UTC)
DAYS = [FIRST + number * units.DAY for number in range(6)]
NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
DUE = date(2026, 3, 13)
"""First day that stays, of a layer that expires after 38 days."""
OPEN = date(2026, 3, 14)
EVENTS_38 = Policy({"events": Rule(expire=38)}, declared=True)
ALL_38 = Policy({name: Rule(expire=38) for name in ("events", "user_facts", "sessions", "hour_rows", "day_rows")}, declared=True)


def history():
    """Each day visits at noon, and one across every midnight."""
    number = 0
    for day in DAYS:
        for minutes in (720, 725, 800, 1430, 1445):
            for user in ("u1", "u2"):
                yield lake_helpers.screen_view(number, day + timedelta(minutes=minutes), user_id=user)
                number += 1


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of the history in which nothing waits, made once."""
    folder = tmp_path_factory.mktemp("made")
    with lake_helpers.tables_of(folder) as opened:
        lake_helpers.write(opened, history())
        refresh.until_nothing_waits(opened)
    return folder


@pytest.fixture
def context(made, tmp_path):
    """Its objects under other names: a link keeps an object's version, and no writer changes an object in place."""
    shutil.copytree(made / "lake", tmp_path / "lake", copy_function=os.link)
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


def versions(context, *folders):
    return {entry.key: entry.version for folder in folders or ("processed", "aggregated") for entry in context.lake.list(folder)}


def rows(context, table, where="true"):
    return lake_helpers.table(context.settings, f"SELECT * EXCLUDE (is_open) FROM {table} WHERE {where} ORDER BY ALL")


def numbers(context):
    return lake_helpers.big_table(context.settings, "hour"), lake_helpers.big_table(context.settings, "day")


def days_of(context, layer):
    return sorted({units.day_of_key(entry.key) for entry in LAYERS[layer].objects(context.lake)})


def test_what_is_due_goes_and_the_rest_keeps_its_rows(context):
    before = numbers(context)
    kept = rows(context, "sessions")
    step = retention.apply(context, EVENTS_38, NOW)
    assert step.objects == len([item for item in step.items if "processed/app_events" in item]) > 0
    assert step.bytes > 0
    assert min(days_of(context, "events")) == DUE
    assert min(days_of(context, "sessions")) == FIRST.date()
    assert numbers(context) == before
    assert rows(context, "sessions") == kept


@pytest.mark.parametrize("layer", [name for name, layer in LAYERS.items() if layer.feeds and name != "raw"])
def test_whichever_layer_goes_nothing_waits_for_the_sensor_either(context, layer):
    assert not recent.compute(context, NOW)
    retention.apply(context, Policy({layer: Rule(expire=38)}, declared=True), NOW)
    assert not waits.compute(context)
    for _ in range(20):  # a look lists a part of the old days; in so many all of them
        assert not recent.compute(context, NOW)


def test_afterwards_nothing_waits_and_a_refresh_changes_nothing(context):
    retention.apply(context, EVENTS_38, NOW)
    before = versions(context)
    assert not waits.compute(context)
    hours = [hour for day in DAYS for hour in units.hours_of(day.date())]
    for rebuild in (False, True):
        refresh.hours(context, hours, rebuild=rebuild)
        for day in DAYS:
            refresh.days(context, [day.date()], rebuild=rebuild)
        assert versions(context) == before


def test_open_days_beside_the_final_ones_are_rebuilt_into_the_same_sessions(context):
    """The visit across the midnight before the first open day began on a final day: its second half is no session of its own."""
    before = rows(context, "sessions")
    retention.apply(context, ALL_38, NOW)
    assert min(days_of(context, "user_facts")) == DUE
    kept = rows(context, "sessions")
    assert kept == [row for row in before if row["started_at"].date() >= DUE]
    for entry in list(context.lake.list("processed/sessions")):
        if units.day_of_key(entry.key) >= OPEN:
            context.lake.delete(entry.key)
    refresh.until_nothing_waits(context)
    assert rows(context, "sessions") == kept


def test_a_late_event_of_a_final_day_is_in_raw_and_in_no_table_and_is_named(context):
    retention.apply(context, EVENTS_38, NOW)
    before = versions(context)
    hour = DAYS[1] + timedelta(hours=12)
    lake_helpers.write(context, [lake_helpers.screen_view(1000, hour + timedelta(minutes=7), received_at=NOW)])
    waiting = waits.compute(context)
    assert not waiting
    assert waiting.final == (hour,)
    refresh.hours(context, [hour])
    assert versions(context) == before


def test_a_late_event_of_an_open_day_is_taken_up(context):
    retention.apply(context, EVENTS_38, NOW)
    hour = DAYS[5] + timedelta(hours=12)
    lake_helpers.write(context, [lake_helpers.screen_view(1000, hour + timedelta(minutes=7), received_at=NOW)])
    assert set(waits.compute(context).hours) == {hour}
    refresh.until_nothing_waits(context)
    (row,) = lake_helpers.table(context.settings, f"SELECT count(*) AS n FROM events WHERE day = {hour.day}")
    assert row["n"] == 11


def test_a_unit_whose_making_began_before_its_day_became_final_is_not_published(context):
    """It read its inputs while they went; the rows it made are less than those that stand."""
    hour = DAYS[0] + timedelta(hours=12)
    key = units.slot_key(units.SESSIONS, hour)
    standing = context.lake.stat(key)

    def made_meanwhile(_old):
        candidate = objects.Candidate(context.typed(None, units.SESSIONS), {})
        retention.apply(context, Policy({"user_facts": Rule(expire=38)}, declared=True), NOW)
        return candidate

    outcome = objects.publish(context.lake, key, made_meanwhile)
    assert "is final" in outcome.held
    assert context.lake.stat(key) == standing
    assert "is final" in objects.publish_made(context.lake, key, standing, objects.Candidate(context.typed(None, units.SESSIONS), {})).held
    assert context.lake.stat(key) == standing


def test_an_hour_that_waits_holds_retention_at_its_day(context):
    hour = DAYS[2] + timedelta(hours=12)
    lake_helpers.write(context, [lake_helpers.screen_view(1000, hour + timedelta(minutes=7), received_at=NOW)])
    step = retention.apply(context, EVENTS_38, NOW)
    assert f"hours of {hour.date()} wait" in step.problems[0]
    assert min(days_of(context, "events")) == hour.date() - units.DAY
    assert set(waits.compute(context).hours) == {hour}
    refresh.until_nothing_waits(context)
    assert not retention.apply(context, EVENTS_38, NOW).problems
    assert min(days_of(context, "events")) == DUE


def test_a_dry_run_says_the_same_and_does_nothing(context):
    before = versions(context, "")
    said = retention.apply(context, ALL_38, NOW, dry_run=True)
    assert versions(context, "") == before
    did = retention.apply(context, ALL_38, NOW)
    assert (said.items, said.objects, said.bytes) == (did.items, did.objects, did.bytes)
    assert did.objects > 0


def test_what_is_none_of_ours_stays_and_is_named(context):
    stranger = "processed/app_events/year=2026/month=03/day=10/notes.txt"
    context.lake.put_new(stranger, b"mine")
    step = retention.apply(context, EVENTS_38, NOW)
    assert step.notes == [f"{stranger} is no object of this program: it stays"]
    assert context.lake.read(stranger) == b"mine"
    assert days_of(context, "events") == [
        FIRST.date(),
        *sorted(day.date() for day in DAYS if day.date() >= DUE),
        DAYS[-1].date() + units.DAY,
    ]


def test_a_second_run_finds_nothing(context):
    retention.apply(context, ALL_38, NOW)
    again = retention.apply(context, ALL_38, NOW)
    assert (again.objects, again.problems) == (0, [])


def test_killed_after_any_number_of_deletions_the_next_run_finishes(context, monkeypatch):
    expected = retention.apply(context, ALL_38, NOW, dry_run=True).objects
    real = context.lake.delete
    done = 0
    for survived in (0, 1, 5):
        left = iter(range(survived))

        def dies(key, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            real(key)

        monkeypatch.setattr(context.lake, "delete", dies)
        with pytest.raises(KeyboardInterrupt):
            retention.apply(context, ALL_38, NOW)
        done += survived
        assert not waits.compute(context), "what is half gone does not wait"
    monkeypatch.setattr(context.lake, "delete", real)
    assert retention.apply(context, ALL_38, NOW).objects == expected - done
    assert all(min(days_of(context, layer)) == DUE for layer in ALL_38.rules)


def test_a_policy_that_is_relaxed_opens_no_day_again(context):
    retention.apply(context, EVENTS_38, NOW)
    retention.apply(context, Policy({"events": Rule(expire=400)}, declared=True), NOW)
    assert finality.read(context.lake).final_before == OPEN
    assert not waits.compute(context)


def test_an_unreadable_record_stops_everything_that_could_make_less(context):
    context.lake.replace(finality.KEY, b"{", context.lake.stat(finality.KEY))
    with pytest.raises(EngagementError, match=r"retention\.json of the lake is not readable"):
        waits.compute(context)
    with pytest.raises(EngagementError, match=r"retention\.json"):
        sessions.refresh(context, DAYS[0] + timedelta(hours=12))
