"""Ages on data time: which records each asset lacks, whatever was made when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from lake_helpers import screen_view

from engagement.freshness import ages, sla
from engagement.freshness.ages import DAILY, HOURLY, NO_LOG, RAW, Log, Seen
from engagement.freshness.sla import State
from engagement.ingest.lag import Lag
from engagement.tables import events
from engagement.waiting import refresh, waits

NOW = datetime(2026, 3, 11, 10, 30, tzinfo=UTC)
THIS = NOW.replace(minute=0)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SLAS = sla.parse("", "")


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as found:
        yield found


def look(context, now=NOW, log=NO_LOG, seen=None):
    """(asset, lane) -> (age in seconds, state)."""
    waiting = waits.compute(context, now)
    found = ages.judge(ages.lacking(context, waiting, now, seen or Seen()), log, SLAS, now)
    return {(item.asset, item.lane): (None if item.age is None else item.age.total_seconds(), item.state) for item in found}


def live(found):
    return {asset: age for (asset, lane), (age, _) in found.items() if lane == "live"}


def test_an_empty_lake_without_a_log_lacks_nothing(context):
    assert set(look(context).values()) == {(0.0, State.OK)}


def test_what_arrived_and_is_in_no_table_is_lacked_by_all_of_them_and_not_by_raw(context):
    lake_helpers.write(context, [screen_view(0, NOW - 2 * MINUTE), screen_view(1, NOW - MINUTE)])
    found = live(look(context))
    assert found.pop(RAW) == 0
    assert set(found.values()) == {120.0}


def test_once_all_is_in_everything_is_fresh_however_old_it_is(context):
    lake_helpers.write(context, [screen_view(0, NOW - 2 * MINUTE)])
    refresh.until_nothing_waits(context)
    night = NOW + 9 * HOUR
    assert set(look(context, night).values()) == {(0.0, State.OK)}


def test_each_table_is_judged_by_its_own_footers(context):
    lake_helpers.write(context, [screen_view(0, NOW - 6 * MINUTE)])
    events.refresh_all(context, [THIS])
    found = look(context)
    assert found["events", "live"] == (0.0, State.OK)
    assert found["session_fragments", "live"] == found["sessions", "live"] == found[HOURLY, "live"] == (360.0, State.FAIL)


def test_records_still_in_the_log_are_lacked_by_all(context):
    found = look(context, log=Log(known=True, oldest=NOW - 4 * MINUTE))
    assert live(found) == dict.fromkeys(ages.CHAIN, 240.0)
    assert found[RAW, "live"][1] is State.WARN
    assert found[DAILY, "live"][1] is State.OK


def test_without_a_broker_nobody_knows_but_what_is_stale_already_is_stale(context):
    assert set(live(look(context, log=Log(known=False))).values()) == {None}
    lake_helpers.write(context, [screen_view(0, NOW - 10 * MINUTE)])
    found = look(context, log=Log(known=False))
    assert found[HOURLY, "live"] == (600.0, State.FAIL)
    assert found[RAW, "live"] == (None, State.UNKNOWN)


def test_stragglers_of_old_hours_are_late_and_do_not_touch_the_live_lane(context):
    received = NOW - 20 * MINUTE
    lake_helpers.write(context, [screen_view(0, NOW - 5 * HOUR, received_at=received)])
    found = look(context)
    assert live(found)[HOURLY] == 0
    assert found[HOURLY, "late"] == (1200.0, State.OK)


def test_a_backfill_of_old_hours_makes_nothing_fresher(context):
    old = NOW - 30 * HOUR
    lake_helpers.write(context, [screen_view(0, old)])
    refresh.until_nothing_waits(context)
    lake_helpers.write(context, [screen_view(1, NOW - 7 * MINUTE)])
    before = look(context)
    refresh.days(context, [old.date()], rebuild=True)
    assert look(context)[HOURLY, "live"] == before[HOURLY, "live"] == (420.0, State.FAIL)


def test_a_day_that_waits_is_dated_by_the_first_look_and_anew_once_it_was_made(context):
    seen = Seen()
    lake_helpers.write(context, [screen_view(0, NOW)])
    refresh.hours(context, [THIS])
    assert look(context, NOW, seen=seen)[DAILY, "live"][0] == 0
    assert look(context, NOW + 3 * MINUTE, seen=seen)[DAILY, "live"][0] == 180
    refresh.days(context, [NOW.date()])
    lake_helpers.write(context, [screen_view(1, NOW + MINUTE)])
    refresh.hours(context, [THIS])
    assert look(context, NOW + 4 * MINUTE, seen=seen)[DAILY, "live"][0] == 0


@pytest.mark.parametrize(
    ("partitions", "known", "oldest"),
    [
        (None, False, None),
        ([Lag("session", 0, 0, 5, 5)], True, None),
        ([Lag("session", 0, 0, 5, 3, NOW), Lag("session", 1, 0, 5, 4, NOW - MINUTE)], True, NOW - MINUTE),
        ([Lag("session", 0, 0, 5, 3, NOW), Lag("session", 1, 0, 5, 4)], False, NOW),
    ],
)
def test_what_the_lag_of_partitions_says_of_the_log(partitions, known, oldest):
    assert Log.of(partitions) == Log(known, oldest)
