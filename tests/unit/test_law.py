"""The law's own checks can fail: what is compared besides the oracle's rows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dirty
import oracle
import pytest
from law import assert_additive

NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)


def event(number: int, moment: datetime, **other: object) -> oracle.RawEvent:
    plain = oracle.RawEvent(
        event_id=f"00000000-0000-4000-8000-{number:012x}", user_id="u", session_id=None, event_type="tap", event_time=moment,
        received_at=NOON, kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=number, device_type="iPhone",
        device_model=None, app_version="1.0", country="DE", screen=None,
    )  # fmt: skip
    return replace(plain, **other)


def rows(limit: int = 1000) -> list[dict]:
    """Hour and day rows of three countries in two hours."""
    history = [event(number, NOON + number * timedelta(minutes=40), country=country) for number, country in enumerate(("DE", "FR", "GB"))]
    return oracle.aggregates(history, "hour", limit) + oracle.aggregates(history, "day", limit)


@pytest.mark.parametrize("limit", [1000, 1])
def test_rows_that_add_up_pass(limit):
    assert_additive(rows(limit))


def test_an_all_row_that_is_not_the_sum_of_its_parts_is_told():
    wrong = rows()
    next(row for row in wrong if row["country"] == "ALL_COUNTRIES" and row["app_version"] == "1.0")["total_events"] += 1
    with pytest.raises(AssertionError, match="its parts by dimension"):
        assert_additive(wrong)


@pytest.mark.parametrize("limit", [1000, 1])
def test_a_day_that_is_not_the_sum_of_its_hours_is_told(limit):
    wrong = rows(limit)
    for row in wrong:  # every row of the day is wrong alike, so that its parts still add up
        if row["hour"] is None:
            row["total_events"] *= 2
    with pytest.raises(AssertionError, match="its hours sum up to"):
        assert_additive(wrong)


def test_the_dirty_set_of_nothing_is_empty():
    assert dirty.dirty([event(0, NOON)], []).units == set()


def test_a_bridge_makes_both_hours_and_the_day_dirty():
    before = [event(0, NOON - timedelta(minutes=20)), event(1, NOON + timedelta(minutes=25))]
    found = dirty.dirty(before, [event(2, NOON)])
    assert found.hours == {NOON - timedelta(hours=1), NOON}
    assert {slot for table, slot in found.units if table == "sessions"} == found.hours
    assert {slot for table, slot in found.units if table == "events"} == {NOON}
    assert {unit for unit in found.units if unit[0].endswith("rows")} == {("hour rows", NOON.date()), ("day rows", NOON.date())}


@pytest.mark.parametrize(
    ("key", "unit"),
    [
        ("processed/sessions/year=2026/month=03/day=11/hour=12/slot-20.parquet", ("sessions", NOON + timedelta(minutes=20))),
        ("aggregated/daily_aggregates_with_dimensions/year=2026/month=03/day=11/day.parquet", ("day rows", NOON.date())),
        ("aggregated/daily_aggregates_with_dimensions/year=2026/month=03/day=11/hours.parquet", ("hour rows", NOON.date())),
    ],
)
def test_units_are_told_by_their_keys(key, unit):
    assert dirty.unit_of(key) == unit
