"""What is buffered of a partition, and when it must be written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engagement.contract import TimeWindow
from engagement.ingest.partition import Buffer, FlushPolicy, Partition, news
from engagement.raw import rows
from engagement.raw.rows import Coordinates, Record, Records, Rows

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
POLICY = FlushPolicy(seconds=60, partition_bytes=1000, total_bytes=2000)
WINDOW = TimeWindow.of(NOW.date(), 300, 30)


def buffer(since=0.0):
    return Buffer(Rows(Coordinates("session", "5e" * 16, 0), WINDOW, 60, "session"), since)


def records(*offsets, size=100):
    return Records.of(Record(offset, NOW + timedelta(seconds=offset), None, b"x" * (size - 64)) for offset in offsets)


def filled(size, since=0.0, number=0):
    """A partition that holds one record of so many bytes since a clock reading."""
    found = Partition(("session", number), buffer=buffer(since))
    found.buffer.add(records(10, size=size))
    assert found.size == size
    return found


def test_a_buffer_knows_its_size_and_its_oldest_record():
    found = buffer()
    found.add(records(10, 11))
    found.add(records(12))
    assert found.size == 300
    assert found.oldest_received == (NOW + timedelta(seconds=10)).timestamp() * 1e6
    assert found.batch().table["kafka_offset"].to_pylist() == [10, 11, 12]


def test_records_are_decoded_as_soon_as_they_fill_a_chunk(monkeypatch):
    monkeypatch.setattr("engagement.ingest.partition.CHUNK", 3)
    found = buffer()
    for offset in range(5):
        found.add(records(offset))
    assert len(found.waiting) == 2
    assert found.batch().table["kafka_offset"].to_pylist() == [0, 1, 2, 3, 4]


def test_what_was_read_already_is_no_news():
    assert news(records(8, 9, 10, 11), 10).offsets == [10, 11]
    assert news(records(8, 9), 10).offsets == []
    assert news(records(12, 15), 10).offsets == [12, 15]


@given(st.sets(st.integers(0, 40), min_size=1), st.integers(0, 45))
def test_news_are_the_records_from_the_end_on_with_all_their_columns(offsets, end):
    found = news(records(*sorted(offsets)), end)
    assert found.offsets == [offset for offset in sorted(offsets) if offset >= end]
    assert {len(column) for column in (found.received, found.keys, found.values, found.headers)} == {len(found)}


WIDE = FlushPolicy(60, 10**9, 10**9)


def names(due):
    return [(found.key[1], why) for found, why in due]


def test_nothing_is_due_without_records():
    assert POLICY.due([Partition(("session", 0))], 10**9) == []
    assert POLICY.due([], 0.0) == []


def test_nothing_is_due_before_its_time_and_below_its_size():
    assert POLICY.due([filled(999)], 59.9) == []


def test_age_counts_from_the_oldest_record_and_takes_the_others_along():
    old, young, empty = filled(100, 0.0, 0), filled(100, 44.0, 1), Partition(("session", 2))
    assert names(POLICY.due([old, young, empty], 60.0)) == [(0, "age"), (1, "age")]


def test_what_came_in_the_last_quarter_is_not_taken_along():
    """It was written in these very moments and has records again: taken along, it would be written at every turn."""
    assert names(POLICY.due([filled(100, 0.0, 0), filled(100, 45.0, 1)], 60.0)) == [(0, "age")]


def test_a_hundred_partitions_are_written_one_after_the_other_and_none_too_late():
    found = [filled(100, 0.0, number) for number in range(100)]
    written = {}
    for tick in range(4 * 61):
        now = tick / 4
        for partition, _why in WIDE.due([partition for partition in found if partition.key not in written], now):
            written[partition.key] = now
    assert len(written) == 100
    assert max(written.values()) <= 60
    assert max(sum(second == int(at) for at in written.values()) for second in range(61)) <= WIDE.a_second + 1


def test_a_thousand_partitions_take_a_quarter_of_the_time():
    found = [filled(100, 0.0, number) for number in range(1000)]
    assert WIDE.due(found, 44.9) == []
    assert len(WIDE.due(found, 52.5)) == 500
    assert len(WIDE.due(found, 60.0)) == 1000


@given(st.lists(st.floats(0, 60), min_size=1, max_size=30), st.floats(0, 200))
def test_no_record_waits_longer_than_the_flush_time(since, now):
    found = [filled(100, at, number) for number, at in enumerate(since)]
    due = {partition.key for partition, _ in WIDE.due(found, now)}
    assert min(since) + 60 > now or due
    if due:
        assert {partition.key for partition in found if partition.since == min(since)} & due


def test_a_full_partition_is_due_alone():
    assert names(POLICY.due([filled(1000, number=0), filled(999, number=1)], 0.0)) == [(0, "size")]


def test_at_the_memory_limit_the_fullest_half_is_due():
    found = [filled(size, number=number) for number, size in enumerate((300, 900, 100, 800))]
    assert names(POLICY.due(found, 0.0)) == [(1, "memory"), (3, "memory")]


def test_at_the_memory_limit_at_least_one_is_due():
    assert names(FlushPolicy(60, 1000, 500).due([filled(500)], 0.0)) == [(0, "memory")]


def test_size_and_age_come_together_and_before_memory():
    assert names(POLICY.due([filled(1500), filled(100, 30.0, 1)], 60.0)) == [(0, "size"), (1, "age")]
    assert names(POLICY.due([filled(1500), filled(900, number=1)], 0.0)) == [(0, "size")]


@given(st.lists(st.integers(64, 1500), max_size=8))
def test_after_what_is_due_was_written_enough_often_memory_is_below_the_limit(sizes):
    found = [filled(size, number=number) for number, size in enumerate(sizes)]
    for _ in sizes:
        for due, _why in POLICY.due(found, 0.0):
            due.buffer = None
    assert sum(item.size for item in found) < POLICY.total_bytes
    assert POLICY.due(found, 0.0) == []


def test_the_size_of_records_is_what_the_policy_counts():
    assert rows.Records().size == 0
