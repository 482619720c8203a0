"""Settled: no more records are to be expected; due: what has settled and was not judged as it is now."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest

from engagement.model import units
from engagement.verdicts import records
from engagement.verdicts.result import Period
from engagement.waiting import refresh, settled, waits
from quality import checking, due

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
END = HOUR + units.HOUR
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("read_to", "minutes", "expected"),
    [
        ([], 4, False), ([], 5, True),
        ([END + 5 * MINUTE], 5, True), ([END + 4 * MINUTE], 30, False), ([None], 30, False),
        ([END + 5 * MINUTE, END], 30, False), ([END + 9 * MINUTE, END + 5 * MINUTE], 30, True),
        ([None, END], 60, True), ([END], 59, False),
    ],
)  # fmt: skip
def test_a_period_settles_when_every_partition_was_read_past_it_or_by_the_clock(read_to, minutes, expected):
    assert settled.is_settled(END, read_to, END + minutes * MINUTE) is expected


def event(number, minutes, **changes):
    at = HOUR + minutes * MINUTE
    return lake_helpers.screen_view(number, at, **{"received_at": at} | changes)


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        lake_helpers.write(found, [event(0, 1), event(1, 70)])
        refresh.until_nothing_waits(found)
        yield found


def pairs(context, now):
    context.index.sync()
    return due.pairs(context, waits.compute(context), now, ask_broker=False)


def periods(context, now):
    return sorted({(period.key, "raw" if suite.asset == "raw_events" else "tables") for period, suite in pairs(context, now)})


def judge(context, now):
    records.append_results(context.lake, checking.check_pairs(context, pairs(context, now), engine="duckdb"))


def test_only_what_has_settled_is_due(context):
    assert periods(context, END + 4 * MINUTE) == []
    assert periods(context, END + 10 * MINUTE) == [("2026-03-11-10:00", "raw"), ("2026-03-11-10:00", "tables")]


def test_what_was_judged_as_it_is_now_is_not_due_again(context):
    now = END + 10 * MINUTE
    judge(context, now)
    assert periods(context, now) == []


def test_late_records_make_the_hour_due_again_and_no_other(context):
    now = END + units.DAY
    judge(context, now)
    lake_helpers.write(context, [event(2, 5, received_at=HOUR + 3 * units.HOUR)])
    assert ("2026-03-11-10:00", "tables") not in periods(context, now), "it waits for a refresh that will change it"
    refresh.until_nothing_waits(context)
    assert periods(context, now) == [("2026-03-11", "tables"), ("2026-03-11-10:00", "tables"), ("2026-03-11-13:00", "raw")]


def test_an_hour_that_each_flush_may_change_is_judged_once_and_again_when_it_is_late(context):
    judge(context, END + 10 * MINUTE)
    lake_helpers.write(context, [event(2, 5, received_at=END + 11 * MINUTE)])
    refresh.until_nothing_waits(context)
    assert periods(context, END + 12 * MINUTE) == []
    assert periods(context, END + 59 * MINUTE) == []
    assert ("2026-03-11-10:00", "tables") in periods(context, END + 60 * MINUTE)


def test_a_day_is_judged_again_when_its_last_hour_is_late(context):
    midnight = datetime(2026, 3, 12, tzinfo=UTC)
    lake_helpers.write(context, [lake_helpers.screen_view(3, midnight + 6 * MINUTE, received_at=midnight + 6 * MINUTE)])
    refresh.until_nothing_waits(context)
    judge(context, midnight + 40 * MINUTE)
    lake_helpers.write(context, [event(4, 5, received_at=midnight + 41 * MINUTE)])
    refresh.until_nothing_waits(context)
    assert ("2026-03-11", "tables") not in periods(context, midnight + 59 * MINUTE)
    assert {("2026-03-11", "tables"), ("2026-03-11-10:00", "tables")} <= set(periods(context, midnight + 60 * MINUTE))


def test_another_hour_of_the_day_does_not_make_an_hour_due_again(context):
    judge(context, END + 10 * MINUTE)
    lake_helpers.write(context, [event(2, 75)])
    refresh.until_nothing_waits(context)
    assert periods(context, END + 10 * MINUTE) == []


def test_an_idle_partition_settles_by_the_broker_or_by_the_clock(context):
    lake_helpers.write(context, [event(0, 2, kafka_partition=1)])
    refresh.until_nothing_waits(context)
    assert periods(context, END + 10 * MINUTE) == []
    label = next(label for label in settled.read_to(context, END, ask_broker=False) if label.endswith("-00001"))
    assert settled.partition_of(label) == 1
    assert settled.topic_of(label) == "session"
    assert ("2026-03-11-10:00", "tables") in periods(context, END + units.HOUR)


def test_a_broker_that_says_that_all_is_read_settles_an_idle_partition(context, monkeypatch):
    from engagement.ingest.lag import Lag

    def measured(_settings, ends, _timeout):
        return [Lag("session", settled.partition_of(label), 0, end, end) for label, end in ends.items()]

    lake_helpers.write(context, [event(0, 2, kafka_partition=1)])
    refresh.until_nothing_waits(context)
    monkeypatch.setattr(settled.lag, "measure", measured)
    now = END + 10 * MINUTE
    found = due.pairs(context, waits.compute(context), now, ask_broker=True)
    assert {period for period, _ in found} == {Period(HOUR)}


def test_a_broker_that_is_away_settles_nothing_and_is_no_error(context, monkeypatch):
    from engagement.errors import TransientError

    def away(*_asked):
        raise TransientError("no broker")

    monkeypatch.setattr(settled.lag, "measure", away)
    assert settled.read_to(context, END, ask_broker=True) == settled.read_to(context, END, ask_broker=False)


def test_a_look_takes_in_the_last_days_and_each_older_one_in_its_turn():
    now = datetime(2026, 3, 11, 12, tzinfo=UTC)
    looks = [due.looked_at(now + timedelta(seconds=due.TURN_SECONDS * turn), 30) for turn in range(28)]
    assert all(set(look) >= {date(2026, 3, 11), date(2026, 3, 10), date(2026, 3, 9)} for look in looks)
    older = {day for look in looks for day in look} - {date(2026, 3, 11), date(2026, 3, 10), date(2026, 3, 9)}
    assert older == {date(2026, 3, 8) - timedelta(days=number) for number in range(28)}


def test_one_run_takes_whole_periods_and_no_more_than_it_may(context):
    found = pairs(context, END + units.DAY)
    assert len({period for period, _ in found}) == 3
    some = due.bounded(found, 1)
    assert {period for period, _ in some} == {found[0][0]}
    assert len(some) == sum(period == found[0][0] for period, _ in found)


def test_an_hour_that_waits_is_not_due_though_it_was_never_judged(context):
    lake_helpers.write(context, [event(2, 5, received_at=HOUR + 3 * units.HOUR)])
    found = periods(context, END + units.DAY)
    assert ("2026-03-11-11:00", "tables") in found
    assert not {("2026-03-11-10:00", "tables"), ("2026-03-11", "tables")} & set(found)
