"""Which runs are asked for: lanes, ranges, pace, and delays after failures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.waiting.waits import Waiting
from sensors.planning import (
    FIRST_DELAY,
    LATE_RANGES,
    LONGEST_DELAY,
    QUIET_PACE,
    LatePace,
    PastRun,
    Request,
    Stragglers,
    plan,
    quiet,
    retry_at,
    retry_delay,
)

HOUR, DAY, SECOND = timedelta(hours=1), timedelta(days=1), timedelta(seconds=1)
NOW = datetime(2026, 3, 11, 10, 20, tzinfo=UTC)
THIS = NOW.replace(minute=0)
TODAY = THIS.replace(hour=0)
REST = LatePace().rest
LONG_AGO = THIS - 1000 * HOUR


def waiting(*hours, days=()):
    return Waiting(
        dict.fromkeys((THIS + number * HOUR for number in hours), "raw"), dict.fromkeys(((TODAY + n * DAY).date() for n in days), "inputs")
    )


def asked(*hours, days=(), busy=(), hour_runs=(), day_runs=(), now=NOW, rows=0, unseen=()):
    """(lane, first, last) of each request, in hours from this one or days from today."""
    return [
        (
            request.lane,
            *((instant - (TODAY if request.lane == "day" else THIS)) // (DAY if request.lane == "day" else HOUR) for instant in span),
        )
        for request in plan(
            waiting(*hours, days=days),
            now,
            [Request(lane, LONG_AGO, LONG_AGO) for lane in busy],
            hour_runs,
            day_runs,
            Stragglers(rows, frozenset(THIS + number * HOUR for number in unseen)),
        )
        for span in [(request.first, request.last)]
    ]


def run(first, last=None, *, ended=NOW, started=None, succeeded=False):
    return PastRun(THIS + first * HOUR, THIS + (first if last is None else last) * HOUR, started or ended, ended, succeeded)


def test_nothing_is_asked_when_nothing_waits():
    assert asked() == []


def test_this_hour_the_previous_and_the_next_are_live():
    assert asked(-1, 0, 1) == [("live", -1, 1)]


def test_older_hours_are_late():
    assert asked(-2) == [("late", -2, -2)]
    assert asked(-2, -1) == [("live", -1, -1), ("late", -2, -2)]


def test_the_previous_hour_comes_along_with_this_one():
    assert asked(0) == [("live", -1, 0)]


def test_the_previous_hour_alone_is_asked_alone():
    assert asked(-1) == [("live", -1, -1)]


def test_a_range_has_no_hole_and_the_newest_goes_first():
    assert asked(-9, -8, -5, -4, -2) == [("late", -2, -2), ("late", -5, -4), ("late", -9, -8)]
    assert asked(days=(-9, -8, -5, -4)) == [("day", -5, -4)]


def test_a_range_is_at_most_a_day_long():
    found = asked(*range(-100, -1))
    assert found[0][2] == -2
    assert all(last - first < 24 for _, first, last in found)


def test_a_gathering_has_at_most_so_many_ranges():
    found = asked(*range(-100, -1, 2))
    assert [first for _, first, _ in found] == list(range(-2, -2 - 2 * LATE_RANGES, -2))


def test_each_lane_gets_its_own():
    assert asked(-9, -7, -1, 0, days=(-5, -1, 0)) == [("live", -1, 0), ("late", -7, -7), ("late", -9, -9), ("day", -1, 0)]


@pytest.mark.parametrize("lane", ["live", "late", "day"])
def test_a_busy_lane_gets_nothing_and_the_others_theirs(lane):
    found = asked(-5, 0, days=(0,), busy={lane})
    assert [name for name, *_ in found] == [name for name in ("live", "late", "day") if name != lane]


HOURS = st.sets(st.integers(-60, 1))


@given(HOURS, st.sets(st.integers(-30, 0)), st.sets(st.sampled_from(["live", "late", "day"])))
def test_whatever_waits_lanes_are_free_and_ask_only_for_what_waits_and_once(hours, days, busy):
    found = asked(*hours, days=days, busy=busy)
    lanes = [lane for lane, *_ in found]
    assert len(lanes) == len({lane for lane in lanes if lane != "late"}) + lanes.count("late")
    late = [hour for lane, first, last in found if lane == "late" for hour in range(first, last + 1)]
    assert len(late) == len(set(late))
    assert not set(lanes) & busy
    for lane, first, last in found:
        wanted = set(range(first, last + 1))
        if lane == "day":
            assert wanted <= days
        else:
            assert wanted <= hours | {-1}
            assert (first >= -1) == (lane == "live")
            assert len(wanted) <= 24


@given(HOURS, st.sets(st.integers(-30, 0)))
def test_runs_that_succeed_come_to_an_end_of_everything(hours, days):
    left_hours, left_days, rounds = set(hours), set(days), 0
    while found := asked(*left_hours, days=left_days):
        for lane, first, last in found:
            (left_days if lane == "day" else left_hours).difference_update(range(first, last + 1))
        rounds += 1
    assert not left_hours
    assert not left_days
    assert rounds <= 62


# The pace of stragglers


def test_stragglers_are_gathered_a_quarter_of_an_hour():
    recent = [run(-5, succeeded=True, started=NOW - REST + SECOND)]
    assert asked(-4, 0, hour_runs=recent) == [("live", -1, 0)]
    assert asked(-4, hour_runs=recent, now=NOW + SECOND) == [("late", -4, -4)]


def test_many_waiting_rows_end_the_rest():
    recent = [run(-5, succeeded=True)]
    assert asked(-4, hour_runs=recent, rows=LatePace().rows - 1) == []
    assert asked(-4, hour_runs=recent, rows=LatePace().rows) == [("late", -4, -4)]


def test_an_hour_that_was_never_on_the_page_does_not_wait_for_stragglers():
    assert asked(-9, -4, hour_runs=[run(-5, succeeded=True)], unseen=(-9,)) == [("late", -9, -9)]


def test_live_hours_say_nothing_about_the_rest_of_late_ones():
    assert asked(-4, hour_runs=[run(-1, 0, succeeded=True)]) == [("late", -4, -4)]


def test_a_run_that_was_live_when_it_started_is_no_late_one_afterwards():
    once_live = [run(-2, succeeded=True, started=THIS - SECOND, ended=THIS)]
    assert asked(-2, hour_runs=once_live, now=THIS + SECOND) == [("late", -2, -2)]


def test_a_late_hour_that_failed_waits_for_its_retry_not_for_the_pace():
    runs = [run(-5, succeeded=True), run(-4, ended=NOW - FIRST_DELAY)]
    assert asked(-4, -3, hour_runs=runs) == [("late", -4, -4)]


# The pace of days


def test_day_rows_are_refreshed_once_a_minute_at_most():
    recent = [PastRun(TODAY, TODAY, NOW - timedelta(seconds=59), NOW - timedelta(seconds=50), succeeded=True)]
    assert asked(0, days=(0,), day_runs=recent) == [("live", -1, 0)]
    assert asked(days=(0,), day_runs=recent, now=NOW + SECOND) == [("day", 0, 0)]


def test_the_pace_of_days_counts_runs_of_other_days_too():
    recent = [PastRun(TODAY - 9 * DAY, TODAY - 9 * DAY, NOW, NOW, succeeded=True)]
    assert asked(days=(0,), day_runs=recent) == []


# Delays after failures


def test_the_delay_doubles_and_is_bounded():
    assert retry_delay(0) == timedelta(0)
    assert [retry_delay(failures) / FIRST_DELAY for failures in range(1, 5)] == [1, 2, 4, 8]
    assert retry_delay(30) == LONGEST_DELAY


def test_very_many_failures_are_no_overflow():
    assert retry_delay(200) == LONGEST_DELAY


def test_a_unit_without_failures_may_be_asked_for_at_once():
    assert retry_at(THIS, []) <= NOW
    assert retry_at(THIS, [run(0, succeeded=True, ended=NOW)]) <= NOW


def test_a_failed_unit_waits_its_delay_from_the_end_of_the_run():
    failed = [run(-3, ended=NOW - FIRST_DELAY + SECOND)]
    assert asked(-3, hour_runs=failed) == []
    assert asked(-3, hour_runs=failed, now=NOW + SECOND) == [("late", -3, -3)]


@given(st.integers(1, 12), st.randoms())
def test_failures_in_a_row_count_in_the_order_of_time_not_of_the_list(count, random):
    runs = [run(-3, ended=NOW + number * HOUR) for number in range(count)]
    last = runs[-1].ended
    random.shuffle(runs)
    assert retry_at(THIS - 3 * HOUR, runs) == last + retry_delay(count)


def test_a_success_resets_the_delay():
    runs = [run(-3, ended=NOW - 5 * HOUR), run(-3, ended=NOW - 4 * HOUR), run(-3, ended=NOW - 3 * HOUR, succeeded=True), run(-3, ended=NOW)]
    assert retry_at(THIS - 3 * HOUR, runs[:3]) <= NOW - 3 * HOUR
    assert retry_at(THIS - 3 * HOUR, runs) == NOW + FIRST_DELAY


def test_both_ends_of_a_failed_range_wait_and_its_neighbours_do_not():
    failed = [run(-6, -4)]
    assert asked(-6, -4, hour_runs=failed) == []
    assert asked(-7, -6, -5, -4, -3, hour_runs=failed) == [("late", -3, -3), ("late", -7, -7)]


def test_a_failed_day_waits_and_the_others_do_not():
    failed = [PastRun(TODAY, TODAY, NOW - timedelta(minutes=2), NOW - SECOND, succeeded=False)]
    assert asked(days=(0, -1), day_runs=failed) == [("day", -1, -1)]


def test_failures_of_hours_do_not_delay_days():
    assert asked(-3, days=(0,), hour_runs=[run(-30, 3)]) == [("day", 0, 0)]


def test_a_failed_previous_hour_does_not_come_along_before_its_delay_is_over():
    assert asked(-1, 0, hour_runs=[run(-1, ended=NOW - SECOND)]) == [("live", 0, 0)]


def test_a_request_names_both_ends():
    assert plan(waiting(-5, -4), NOW, ()) == [Request("late", THIS - 5 * HOUR, THIS - 4 * HOUR)]


def test_an_hour_whose_live_run_still_goes_on_is_not_asked_for_as_a_late_one():
    going_on = [Request("live", THIS - 3 * HOUR, THIS - 2 * HOUR)]
    assert plan(waiting(-2), NOW, going_on) == []
    assert plan(waiting(-4), NOW, going_on) == [Request("late", THIS - 4 * HOUR, THIS - 4 * HOUR)]


def asked_quietly(requests=(), busy=(), hour_runs=(), day_runs=()):
    return [request.lane for request in quiet(NOW, requests, [Request(lane, THIS, THIS) for lane in busy], hour_runs, day_runs)]


def test_where_nothing_arrives_the_live_hours_and_today_are_refreshed_every_few_minutes():
    assert quiet(NOW, [], []) == [Request("live", THIS - HOUR, THIS), Request("day", TODAY, TODAY)]
    lately, before = NOW - QUIET_PACE + SECOND, NOW - QUIET_PACE
    live, day = run(0, ended=lately, succeeded=True), PastRun(TODAY, TODAY, lately, lately, succeeded=True)
    assert asked_quietly(hour_runs=[live], day_runs=[day]) == []
    assert asked_quietly(hour_runs=[run(0, ended=before, succeeded=True)], day_runs=[day]) == ["live"]
    assert asked_quietly(hour_runs=[live], day_runs=[PastRun(TODAY, TODAY, before, before, succeeded=True)]) == ["day"]


def test_a_run_over_old_hours_is_no_refresh_of_the_live_ones():
    assert asked_quietly(hour_runs=[run(-30, -2, ended=NOW, succeeded=True)]) == ["live", "day"]


@pytest.mark.parametrize("lane", ["live", "day"])
def test_nothing_is_refreshed_quietly_while_live_events_are_worked_off(lane):
    assert asked_quietly(busy=[lane]) == asked_quietly(requests=[Request(lane, THIS, THIS)]) == []


def test_late_events_alone_do_not_keep_the_live_hours_from_their_refresh():
    assert asked_quietly(busy=["late"]) == ["live", "day"]


def test_what_failed_waits_for_its_delay_here_too():
    assert asked_quietly(hour_runs=[run(0, ended=NOW - QUIET_PACE)] * 20) == ["day"]
