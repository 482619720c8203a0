"""A raw object that cannot be read stops nobody, and its rows are taken up once it is mended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from oracle import RawEvent

from engagement.model import units
from engagement.raw.names import topic_chain
from engagement.waiting import refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
CHAIN = topic_chain("session", "5e" * 16, 0)


def event(number, at=HOUR, *, identity=None, partition=0):
    return RawEvent(
        event_id=f"00000000-0000-4000-8000-{number if identity is None else identity:012d}", user_id="u", session_id=None,
        event_type="tap", event_time=at, received_at=HOUR + timedelta(days=1), kafka_topic="session", kafka_topic_id="5e" * 16,
        kafka_partition=partition, kafka_offset=number, device_type="iPhone", device_model=None, app_version="1.0", country="DE",
        screen="Home",
    )  # fmt: skip


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


@pytest.fixture
def torn(context):
    """The second of three objects of an hour cannot be read; the hour is made without it. Its bytes as they were."""
    for number in range(3):
        lake_helpers.write(context, [event(number)])
    path = context.lake.path(CHAIN.key(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    lake_helpers.write(context, [event(7, identity=90, partition=1)])
    refresh.until_nothing_waits(context)
    return whole


def offsets(context):
    rows = lake_helpers.table(context.settings, "SELECT kafka_partition, kafka_offset FROM events ORDER BY ALL")
    return [(row["kafka_partition"], row["kafka_offset"]) for row in rows]


@pytest.mark.usefixtures("torn")
def test_the_other_objects_of_its_chain_and_all_other_chains_go_on(context):
    assert offsets(context) == [(0, 0), (0, 2), (1, 7)]
    lake_helpers.write(context, [event(3)])
    refresh.until_nothing_waits(context)
    assert offsets(context) == [(0, 0), (0, 2), (0, 3), (1, 7)]
    assert not waits.compute(context)


def test_its_hour_waits_again_once_it_is_mended_although_later_objects_are_covered(context, torn):
    context.lake.path(CHAIN.key(1)).write_bytes(torn)
    assert waits.compute(context) == waits.Waiting({HOUR: "raw"}, {})
    refresh.until_nothing_waits(context)
    assert offsets(context) == [(0, 0), (0, 1), (0, 2), (1, 7)]
    counted = lake_helpers.table(context.settings, "SELECT max(total_events) AS n FROM daily_aggregates_with_dimensions")
    assert counted == [{"n": 4}]
    assert not waits.compute(context)


def test_a_mended_object_of_copies_alone_is_counted_and_then_nothing_waits(context):
    for number in range(3):
        lake_helpers.write(context, [event(number, identity=0)])
    path = context.lake.path(CHAIN.key(1))
    whole = path.read_bytes()
    path.write_bytes(b"")
    refresh.until_nothing_waits(context)
    path.write_bytes(whole)
    assert refresh.until_nothing_waits(context)
    assert not waits.compute(context)
    facts = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, HOUR)))
    assert (facts["rows"], facts["rows_in"], facts["duplicates"]) == (1, 3, 2)


def test_an_hour_is_not_made_again_because_raw_lost_an_object(context):
    """Its rows would go with it; the audit names the hole."""
    for number in range(3):
        lake_helpers.write(context, [event(number)])
    refresh.until_nothing_waits(context)
    context.lake.delete(CHAIN.key(1))
    assert not waits.compute(context)
    assert offsets(context) == [(0, 0), (0, 1), (0, 2)]


def test_hours_made_by_older_code_that_did_not_count_do_not_wait():
    assert waits.waiting_for_mended({HOUR: 5}, {HOUR: {}}) == {}
    assert waits.waiting_for_mended({HOUR: 5}, {}) == {}
    assert waits.waiting_for_mended({HOUR: 5}, {HOUR: {"rows_in": 5}}) == {}
    assert waits.waiting_for_mended({HOUR + timedelta(minutes=15): 5}, {HOUR + timedelta(minutes=15): {"rows_in": 4}}) == {HOUR: "raw"}
