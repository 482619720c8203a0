"""What waits by looks at what is recent: the same as by a look at everything, at the cost of what is new."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement.model import units
from engagement.raw import looking
from engagement.raw.names import topic_chain
from engagement.tables import big_table, events, fragments, sessions
from engagement.waiting import recent, refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
ROUND = 60
"""Looks after which everything in these small lakes had its turn."""


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        yield found


def event(number, at, user="u1", partition=0):
    return lake_helpers.screen_view(number, at, user_id=user, kafka_partition=partition, received_at=NOW)


def now_and_then(context):
    return recent.compute(context, NOW)


def after_a_round(context, pages=1):
    for _ in range(ROUND * pages):
        found = recent.compute(context, NOW)
    return found


def test_new_rows_of_known_chains_wait_at_once_wherever_they_fall(context):
    lake_helpers.write(context, [event(0, HOUR)])
    refresh.until_nothing_waits(context)
    assert not now_and_then(context)
    for number, at in enumerate((HOUR, HOUR - timedelta(days=40), HOUR + timedelta(days=9)), 1):
        lake_helpers.write(context, [event(number, at)])
        assert units.floor_hour(at) in now_and_then(context).hours
        assert now_and_then(context) == waits.compute(context, NOW)


def test_what_was_refreshed_waits_no_more_at_once(context):
    lake_helpers.write(context, [event(0, HOUR), event(1, HOUR - timedelta(days=40)), event(2, HOUR + timedelta(minutes=80))])
    while waiting := now_and_then(context):
        assert waiting == waits.compute(context, NOW)
        refresh.hours(context, list(waiting.hours))
        for day in {*waiting.days, *(hour.date() for hour in waiting.hours)}:
            big_table.refresh_day(context, day)
    assert not waits.compute(context, NOW)


def test_a_session_that_a_later_hour_extends_waits_at_once(context):
    lake_helpers.write(context, [event(0, HOUR + timedelta(minutes=50))])
    refresh.until_nothing_waits(context)
    now_and_then(context)
    lake_helpers.write(context, [event(1, HOUR + timedelta(minutes=70))])
    now_and_then(context)
    refresh.hours(context, [HOUR + units.HOUR])
    assert now_and_then(context).hours.get(HOUR) == "sessions"
    assert now_and_then(context) == waits.compute(context, NOW)


def test_a_session_that_the_next_day_extends_waits_at_once(context):
    last = HOUR.replace(hour=23)
    lake_helpers.write(context, [event(0, last + timedelta(minutes=50))])
    refresh.until_nothing_waits(context)
    now_and_then(context)
    lake_helpers.write(context, [event(1, last + timedelta(minutes=70))])
    now_and_then(context)
    refresh.hours(context, [last + units.HOUR])
    assert now_and_then(context).hours.get(last) == "sessions"


def test_what_another_process_left_half_done_is_seen_within_a_round(context):
    lake_helpers.write(context, [event(0, HOUR), event(1, HOUR - timedelta(days=40))])
    refresh.until_nothing_waits(context)
    assert not now_and_then(context)
    old = HOUR - timedelta(days=40)
    events.refresh(context, old, rebuild=True)
    path = context.lake.path(units.slot_key(units.EVENTS, old))
    path.write_bytes(path.read_bytes())  # the same bytes, another version: as a rebuild that died left it
    assert after_a_round(context).hours == {old: "inputs"}
    assert waits.compute(context, NOW).hours == {old: "inputs"}


@pytest.mark.parametrize(("seed", "names"), [(0, 1000), (1, 1000), (2, 1000), (3, 3), (4, 3)])
def test_after_a_round_both_say_the_same_whatever_happened(seed, names, context, monkeypatch):  # noqa: C901 - a case an operation
    monkeypatch.setattr(looking, "PAGE", names)
    choice = random.Random(seed)
    for _ in range(12):
        match choice.randrange(7):
            case 0 | 1 | 2:
                at = HOUR + timedelta(minutes=choice.choice([0, 20, 50, 70, -1500, -60_000, 1400]))
                partition = choice.randrange(2)
                last = lake_helpers.files.last_link(context.lake, topic_chain("session", "5e" * 16, partition))
                lake_helpers.write(context, [event(last.end if last else 0, at, f"u{choice.randrange(3)}", partition)])
            case 3:
                waiting = list(waits.compute(context, NOW).hours)
                refresh.hours(context, choice.sample(waiting, min(2, len(waiting))))
            case 4:
                for table, step in ((units.EVENTS, events), (units.FRAGMENTS, fragments), (units.SESSIONS, sessions)):
                    for key in choice.sample(found := list(context.footers.listing(table)), min(1, len(found))):
                        step.refresh(context, units.slot_of_key(key), rebuild=True)
            case 5:
                for day in list(waits.compute(context, NOW).days)[:1]:
                    big_table.refresh_day(context, day)
            case 6:
                found = [entry.key for entry in context.lake.list("") if units.is_key(entry.key)]
                for key in choice.sample(found, min(1, len(found))):
                    context.lake.delete(key)
        recent.compute(context, NOW)
    assert after_a_round(context, pages=1 if names > 100 else 6) == waits.compute(context, NOW)


def test_strangers_in_a_tables_folder_are_no_units(context):
    lake_helpers.write(context, [event(0, HOUR)])
    refresh.until_nothing_waits(context)
    for name in ("notes.txt", "x.parquet", "year=2026/month=03/day=11/hour=10/copy.parquet"):
        context.lake.put_new(f"{units.EVENTS}/{name}", b"stranger")
    assert not waits.compute(context, NOW)
    assert not after_a_round(context)
    assert len(lake_helpers.table(context.settings, "SELECT * FROM events")) == 1


def test_a_look_costs_a_listing_a_chain_and_three_more(context, monkeypatch):
    for partition in range(3):
        for number in range(3):
            lake_helpers.write(context, [event(number, HOUR - timedelta(days=number * 20), partition=partition)])
    refresh.until_nothing_waits(context)
    now_and_then(context)
    asked = []
    for name in ("list", "folders"):
        real = getattr(type(context.lake), name)
        monkeypatch.setattr(
            type(context.lake), name, lambda self, prefix, *more, real=real: asked.append(prefix) or real(self, prefix, *more)
        )
    for _ in range(ROUND):
        asked.clear()
        assert not now_and_then(context)
        assert len(asked) <= 3 + 3
