"""How time is cut and what each unit's object is called."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from engagement.model import units

SLOTS = st.sampled_from([1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60])
ZONES = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
INSTANTS = st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is added
TABLES = st.sampled_from([units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS])
START = datetime(2026, 1, 31, 23, tzinfo=UTC)


@given(INSTANTS, SLOTS)
def test_an_instant_lies_in_exactly_its_slot_hour_and_day(instant, minutes):
    slot = units.floor_slot(instant, minutes)
    assert slot <= instant < slot + timedelta(minutes=minutes)
    assert slot in units.slots_of(units.floor_hour(instant), minutes)
    assert units.floor_hour(instant) in units.hours_of(instant.date())
    assert units.floor_day(instant) == units.hours_of(instant.date())[0]


@given(INSTANTS, ZONES)
def test_floors_are_utc_whatever_the_zone_of_the_instant(instant, zone):
    assert units.floor_hour(instant.astimezone(zone)) == units.floor_hour(instant)
    assert units.floor_day(instant.astimezone(zone)) == units.floor_day(instant)
    assert units.floor_hour(instant.astimezone(zone)).utcoffset() == timedelta(0)


def test_a_slot_is_utc_whatever_the_zone_of_the_instant():
    instant = datetime(2026, 3, 11, 10, 50, tzinfo=UTC)
    assert units.floor_slot(instant.astimezone(timezone(timedelta(hours=5, minutes=30))), 20) == datetime(2026, 3, 11, 10, 40, tzinfo=UTC)


@given(INSTANTS, SLOTS)
def test_the_slots_of_an_hour_fill_it_without_overlap(instant, minutes):
    hour = units.floor_hour(instant)
    slots = units.slots_of(hour, minutes)
    assert slots == list(units.slots_between(hour, hour + units.HOUR, minutes))
    assert len(slots) * minutes == 60


@given(INSTANTS, SLOTS)
def test_the_reach_is_the_day_and_both_neighbours_whole(instant, minutes):
    slot = units.floor_slot(instant, minutes)
    day = instant.date()
    expected = [
        item
        for near in (day - timedelta(days=1), day, day + timedelta(days=1))
        for hour in units.hours_of(near)
        for item in units.slots_of(hour, minutes)
    ]
    assert units.reach(slot, minutes) == expected


@given(TABLES, INSTANTS, SLOTS)
def test_a_slot_key_reads_back_as_its_slot_and_day(table, instant, minutes):
    slot = units.floor_slot(instant, minutes)
    key = units.slot_key(table, slot)
    assert units.slot_of_key(key) == slot
    assert units.day_of_key(key) == slot.date()
    assert key.startswith(table + "/")


@given(st.dates())
def test_day_keys_read_back_as_their_day(day):
    if day.year >= 1000:
        assert units.day_of_key(units.hours_key(day)) == units.day_of_key(units.day_key(day)) == day


def test_keys_are_padded_with_zeros():
    slot = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert units.slot_key(units.EVENTS, slot) == "processed/app_events/year=2026/month=01/day=02/hour=03/slot-04.parquet"
    assert units.hours_key(slot.date()) == "aggregated/daily_aggregates_with_dimensions/year=2026/month=01/day=02/hours.parquet"
    assert units.day_key(slot.date()) == "aggregated/daily_aggregates_with_dimensions/year=2026/month=01/day=02/day.parquet"


def test_a_day_has_24_hours_also_in_a_leap_year():
    assert units.hours_of(date(2024, 2, 29))[-1] == datetime(2024, 2, 29, 23, tzinfo=UTC)


# Ranges


@given(st.sets(st.integers(0, 60)), st.integers(1, 24))
def test_ranges_cover_exactly_the_hours_without_holes_and_are_bounded(numbers, longest):
    hours = {START + number * units.HOUR for number in numbers}
    ranges = units.contiguous(hours, longest=longest)
    covered = [first + number * units.HOUR for first, last in ranges for number in range((last - first) // units.HOUR + 1)]
    assert covered == sorted(hours)
    assert all((last - first) // units.HOUR < longest for first, last in ranges)


@given(st.sets(st.integers(0, 60)))
def test_without_the_bound_two_ranges_never_touch(numbers):
    ranges = units.contiguous([START + number * units.HOUR for number in numbers], longest=10**6)
    assert all(after[0] - before[1] > units.HOUR for before, after in zip(ranges, ranges[1:], strict=False))  # noqa: RUF007


def test_days_are_grouped_by_days():
    days = [START.replace(hour=0) + number * units.DAY for number in (0, 1, 3)]
    assert units.contiguous(days, units.DAY) == [(days[0], days[1]), (days[2], days[2])]


def test_nothing_gives_no_range():
    assert units.contiguous([]) == []
