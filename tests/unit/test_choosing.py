"""Which raw objects become which part, and when."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement.raw.choosing import plan
from engagement.raw.footers import RawFile
from engagement.raw.names import import_chain, topic_chain

DAY = datetime(2026, 3, 11, tzinfo=UTC)
HOUR = timedelta(hours=1)
CHAIN, OTHER = topic_chain("session", "5e" * 16, 0), topic_chain("session", "5e" * 16, 1)


def raw(start, hours, *, size=10, chain=CHAIN, rows=1):
    """An object of one offset whose record came so long after the day's beginning; none where `hours` is None."""
    came = None if hours is None else DAY + hours * HOUR
    gap = (start, start + 1) if hours is None else None
    return RawFile(
        chain, start, start + 1, rows if came else 0, first_received_at=came, last_received_at=came, gap=gap, size=size
    )  # fmt: skip


def planned(files, now_hours, *, after=HOUR, part_bytes=100):
    found = plan(files, DAY + now_hours * HOUR, after, part_bytes)
    return [(part.topic, part.day.day, [(file.chain.partition, file.start) for file in part.files]) for part in found]


def test_a_small_app_has_one_part_a_day_once_the_day_is_closed():
    files = [raw(start, start) for start in range(24)]
    assert planned(files, 24.99, part_bytes=1000) == []
    assert planned(files, 25, part_bytes=1000) == [("session", 11, [(0, start) for start in range(24)])]


def test_objects_of_closed_hours_are_taken_as_soon_as_they_fill_a_part():
    files = [raw(start, start / 2, size=60) for start in range(6)]  # two an hour: 120 bytes
    assert planned(files, 2) == [("session", 11, [(0, 0), (0, 1)])], "the second hour is not closed yet"
    assert planned(files, 3) == [("session", 11, [(0, 0), (0, 1)]), ("session", 11, [(0, 2), (0, 3)])]
    assert planned(files[4:], 3.5) == [], "60 bytes of closed hours fill no part"


def test_the_rest_of_a_closed_day_is_no_small_part_beside_full_ones():
    files = [raw(start, 1, size=10) for start in range(25)]
    sizes = [10 * len(found) for _, _, found in planned(files, 26)]
    assert sizes == [130, 120]


def test_rows_lie_by_chain_and_offset_and_parts_by_time():
    files = [raw(5, 1, chain=OTHER), raw(9, 1), raw(8, 1), raw(6, 2, chain=OTHER, size=95)]
    assert planned(files, 26, part_bytes=1000) == [("session", 11, [(0, 8), (0, 9), (1, 5), (1, 6)])]
    big = [raw(5, 1, chain=OTHER, size=100), raw(9, 3, size=100)]
    assert planned(big, 26, part_bytes=100) == [("session", 11, [(1, 5)]), ("session", 11, [(0, 9)])]


def test_topics_days_and_imports_lie_apart():
    imported = import_chain("ab" * 32)
    files = [raw(0, 1), raw(1, 25), raw(0, 30, chain=imported), raw(0, 1, chain=topic_chain("install", "1a" * 16, 0))]
    assert planned(files, 60) == [
        ("install", 11, [(0, 0)]), ("session", 11, [(0, 0)]), ("import", 12, [(0, 0)]), ("session", 12, [(0, 1)]),
    ]  # fmt: skip


def test_nothing_is_closed_before_its_time_and_everything_is_with_no_time_at_all():
    files = [raw(0, 1.5)]
    assert planned(files, 2.49, part_bytes=1) == []
    assert planned(files, 3, part_bytes=1, after=HOUR) == [("session", 11, [(0, 0)])]
    assert planned(files, 1.6, after=timedelta(0)) == [("session", 11, [(0, 0)])]


def test_an_object_without_rows_goes_with_the_next_one_of_its_chain():
    """It has no time of its own, and a day must be told."""
    files = [raw(0, 23), raw(1, None), raw(2, 24.5)]
    assert planned(files, 60) == [("session", 11, [(0, 0)]), ("session", 12, [(0, 1), (0, 2)])]
    assert planned(files, 25) == [("session", 11, [(0, 0)])], "the hour of the one behind it is not closed"


def test_at_the_end_of_a_chain_it_goes_with_the_one_before_and_alone_it_waits():
    assert planned([raw(0, 1), raw(1, None)], 60) == [("session", 11, [(0, 0), (0, 1)])]
    assert planned([raw(0, None)], 60) == []
    assert planned([raw(0, None)], 60, after=timedelta(0)) == [("session", 13, [(0, 0)])], "nobody wants to wait: today"


def test_an_object_that_claims_nothing_is_never_taken():
    """A range of no offsets covers nothing; it would be copied for ever."""
    sealed = RawFile(CHAIN, 3, 3, 0, first_received_at=None, size=10)
    assert plan([raw(0, 1), sealed], DAY + 60 * HOUR, HOUR)[0].files == (raw(0, 1),)


FILES = st.lists(
    st.builds(
        lambda start, hours, size, chain: raw(start, hours, size=size, chain=chain),
        st.integers(0, 30), st.none() | st.integers(0, 70), st.integers(1, 300), st.sampled_from([CHAIN, OTHER]),
    ),
    unique_by=lambda file: (file.chain, file.start), max_size=25,
)  # fmt: skip


@settings(deadline=None)
@given(FILES, st.integers(0, 90), st.integers(0, 3))
def test_each_object_is_planned_once_at_most_and_only_the_last_part_of_a_day_may_be_small(files, now, after):
    parts = plan(files, DAY + now * HOUR, after * HOUR, 100)
    chosen = [(file.chain, file.start) for part in parts for file in part.files]
    assert len(chosen) == len(set(chosen))
    small: dict[tuple[str, date], int] = {}
    for part in parts:
        assert part.files
        small[part.topic, part.day] = small.get((part.topic, part.day), 0) + (part.size < 100)
        assert list(part.files) == sorted(part.files, key=lambda file: (file.chain.label, file.start))
        for file in part.files:
            if file.first_received_at:
                assert file.first_received_at.date() == part.day
    big = max((file.size for file in files), default=0)
    assert all(count <= 1 for count in small.values()) or big > 100
    if not after:
        assert len(chosen) == len(files)


@pytest.mark.parametrize("size", [99, 100, 101, 250, 1000])
def test_parts_of_a_closed_day_are_of_about_the_same_size(size):
    files = [raw(start, start / 100, size=10) for start in range(size // 10)]
    sizes = [part.size for part in plan(files, DAY + 60 * HOUR, HOUR, 100)]
    assert sum(sizes) == len(files) * 10
    assert max(sizes) <= 200
    assert len(sizes) == max(1, sum(sizes) // 100)
