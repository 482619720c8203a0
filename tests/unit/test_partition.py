"""What is buffered of a partition, and when it must be written."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from engagement.ingest.partition import FlushPolicy, Partition
from engagement.raw.names import topic_chain
from engagement.raw.rows import Coordinates, Record

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
POLICY = FlushPolicy(seconds=60, partition_bytes=1000, total_bytes=2000)


def partition(start=10, number=0):
    return Partition(Coordinates("session", "5e" * 16, number), topic_chain("session", "5e" * 16, number), start)


def filled(size, since=0.0, number=0):
    """A partition that holds one record of so many bytes since a clock reading."""
    found = partition(number=number)
    found.add(record(10, size), since)
    assert found.size == size
    return found


def record(offset, size=100):
    return Record(offset, NOW, None, b"x" * (size - 64))


def test_records_are_buffered_in_order_with_their_size():
    found = partition()
    found.add(record(10), 1.0)
    found.add(record(11), 2.0)
    assert [item.offset for item in found.records] == [10, 11]
    assert (found.start, found.end, found.size, found.since) == (10, 12, 200, 1.0)


def test_what_was_read_already_is_ignored():
    found = partition()
    for offset in (8, 9, 10, 10, 9, 11, 10):
        found.add(record(offset), 0.0)
    assert [item.offset for item in found.records] == [10, 11]
    assert found.size == 200


def test_offsets_that_the_log_skips_belong_to_the_claim():
    found = partition()
    found.add(record(15), 0.0)
    found.add(record(19), 0.0)
    assert (found.start, found.end) == (10, 20)
    found.written()
    assert found.start == 20


def test_an_empty_partition_ends_where_it_starts():
    assert partition().end == 10


def test_after_writing_the_next_claim_starts_at_the_end_and_old_records_stay_ignored():
    found = partition()
    found.add(record(10), 5.0)
    found.written()
    assert (found.start, found.end, found.size, found.records) == (11, 11, 0, [])
    found.add(record(10), 6.0)
    assert not found.records
    found.add(record(11), 7.0)
    assert found.since == 7.0


@given(st.lists(st.integers(0, 40)), st.integers(0, 20))
def test_any_redelivery_is_buffered_once_and_never_backwards(offsets, start):
    found = partition(start)
    for offset in offsets:
        found.add(record(offset), 0.0)
    kept = [item.offset for item in found.records]
    assert kept == sorted(set(kept))
    assert all(offset >= start for offset in kept)
    assert found.size == 100 * len(kept)
    assert found.end == (kept[-1] + 1 if kept else start)


def names(due):
    return [(found.where.partition, why) for found, why in due]


def test_nothing_is_due_without_records():
    assert POLICY.due([partition()], 10**9) == []
    assert POLICY.due([], 0.0) == []


def test_nothing_is_due_before_its_time_and_below_its_size():
    assert POLICY.due([filled(999)], 59.999) == []


def test_age_counts_from_the_oldest_record_and_takes_all_others_along():
    old, young, empty = filled(100, 0.0, 0), filled(100, 59.0, 1), partition(number=2)
    assert names(POLICY.due([old, young, empty], 60.0)) == [(0, "age"), (1, "age")]


def test_a_full_partition_is_due_alone():
    assert names(POLICY.due([filled(1000, number=0), filled(999, number=1)], 0.0)) == [(0, "size")]


def test_at_the_memory_limit_the_fullest_half_is_due():
    found = [filled(size, number=number) for number, size in enumerate((300, 900, 100, 800))]
    assert names(POLICY.due(found, 0.0)) == [(1, "memory"), (3, "memory")]


def test_at_the_memory_limit_at_least_one_is_due():
    policy = FlushPolicy(60, 1000, 500)
    assert names(policy.due([filled(500)], 0.0)) == [(0, "memory")]


def test_age_wins_over_size_and_size_over_memory():
    assert names(POLICY.due([filled(1500), filled(100, 30.0, 1)], 60.0)) == [(0, "age"), (1, "age")]
    assert names(POLICY.due([filled(1500), filled(900, number=1)], 0.0)) == [(0, "size")]


@given(st.lists(st.integers(64, 1500), max_size=8))
def test_after_what_is_due_was_written_enough_often_memory_is_below_the_limit(sizes):
    found = [filled(size, number=number) for number, size in enumerate(sizes)]
    for _ in sizes:
        for due, _why in POLICY.due(found, 0.0):
            due.written()
    assert sum(item.size for item in found) < POLICY.total_bytes
    assert POLICY.due(found, 0.0) == []
