"""What archive parts cover, read from their footers."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engagement.lake import LocalLake
from engagement.raw.chain import NO_COVERAGE, Link
from engagement.raw.coverage import Gap, Part, Parts, Range, Slot, UnreadablePart, coverage, read_part
from engagement.raw.footers import FOOTER_KEY
from engagement.raw.names import import_chain, topic_chain

CHAIN, OTHER = topic_chain("session", "5e" * 16, 0), topic_chain("session", "5e" * 16, 1)
HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
DAY = "year=2026/month=03/day=11"


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path)


def put(lake, key, ranges, *, rows=None):
    part = Part({chain.label: tuple(found) for chain, found in ranges.items()})
    rows = sum(item.rows for found in ranges.values() for item in found) if rows is None else rows
    path = lake.path(key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, pa.schema([("kafka_offset", pa.int64())])) as writer:
        writer.write_table(pa.table({"kafka_offset": pa.array(range(rows), pa.int64())}))
        writer.add_key_value_metadata({FOOTER_KEY: part.to_json().encode()})
    return part


def key(number, topic="session", day=DAY):
    return f"archive/{topic}/{day}/part-{number}.parquet"


INSTANTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is added
MAYBE = st.none() | INSTANTS
COUNTS = st.dictionaries(st.sampled_from(["bad_json", "too_late"]), st.integers(1, 99))
OFFSETS = st.integers(0, 2**62)
GAPS = st.builds(Gap, OFFSETS, OFFSETS, MAYBE, MAYBE)
SLOTS = st.dictionaries(INSTANTS, st.builds(Slot, OFFSETS, st.integers(1, 99)), max_size=3)
RANGES = st.builds(
    Range, OFFSETS, OFFSETS, OFFSETS, COUNTS, st.lists(GAPS, max_size=2).map(tuple), SLOTS, MAYBE, MAYBE, COUNTS, st.none() | st.text()
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([CHAIN.label, OTHER.label]), st.lists(RANGES, max_size=3).map(tuple)))
def test_a_part_reads_back_as_written(ranges):
    part = Part(ranges)
    assert Part.from_json(part.to_json()) == part
    assert Part.from_json(part.to_json().encode()) == part


def test_an_empty_archive_covers_nothing(lake):
    assert coverage(lake) == {}
    assert Parts(lake).of(CHAIN) == NO_COVERAGE


def test_coverage_is_ranges_and_never_min_to_max(lake):
    """Raw objects of interleaved hours lie in parts of two days: the hole between the first part's ranges is not its own."""
    put(lake, key(0), {CHAIN: [Range(0, 10, 10), Range(20, 30, 10)], OTHER: [Range(5, 6, 1)]})
    found = coverage(lake)
    assert found.keys() == {CHAIN.label, OTHER.label}
    assert found[CHAIN.label].ranges == (Link(0, 10), Link(20, 30))
    assert [found[CHAIN.label].holds(start) for start in (0, 9, 10, 19, 20, 29, 30)] == [True, True, False, False, True, True, False]
    put(lake, key(0, day="year=2026/month=03/day=12"), {CHAIN: [Range(10, 20, 10)]})
    again = coverage(lake)[CHAIN.label]
    assert [again.holds(start) for start in (0, 10, 19, 29, 30)] == [True, True, True, True, False]
    assert again.end == 30


def test_one_chain_is_read_from_its_topics_folder_alone(lake):
    put(lake, key(0), {CHAIN: [Range(0, 10, 10)]})
    lake.put_new(key(0, topic="install"), b"torn")
    assert Parts(lake).of(CHAIN).end == 10
    imported = import_chain("ab" * 32)
    put(lake, key(0, topic="import"), {imported: [Range(0, 3, 3)]})
    assert Parts(lake).of(imported).end == 3


def test_a_part_that_cannot_be_read_stops_who_must_know_and_nobody_else(lake):
    put(lake, key(0), {CHAIN: [Range(0, 10, 10)]})
    lake.put_new(key(1), b"torn")
    found = Parts(lake).look()
    assert found.coverage()[CHAIN.label].end == 10
    assert list(found.unreadable) == [key(1)]
    with pytest.raises(UnreadablePart, match=r"part-1\.parquet: no archive part of this program"):
        Parts(lake).of(CHAIN)


def test_a_part_is_read_once_a_version_and_again_when_it_was_replaced(lake, monkeypatch):
    from engagement.raw import coverage as module

    reads = []
    real = module.read_part
    monkeypatch.setattr(module, "read_part", lambda lake, key: reads.append(key) or real(lake, key))
    put(lake, key(0), {CHAIN: [Range(0, 10, 10)]})
    parts = Parts(lake)
    assert parts.of(CHAIN).end == parts.of(CHAIN).end == 10
    assert len(reads) == 1
    lake.delete(key(0))
    put(lake, key(0), {CHAIN: [Range(0, 10, 10, {"erased": 1})]})
    assert parts.look().ranges()[CHAIN.label][0].rejects == {"erased": 1}
    assert len(reads) == 2


def test_what_is_no_part_is_passed_over(lake):
    lake.put_new("archive/session/README.txt", b"")
    lake.put_new("archive/session/year=2026/month=03/day=11/part-0.parquet.tmp", b"")
    assert Parts(lake).look().unreadable == {}


def test_a_part_under_another_topics_folder_is_refused(lake):
    """It would be missed by whoever asks for one chain."""
    put(lake, key(0, topic="install"), {CHAIN: [Range(0, 10, 10)]})
    with pytest.raises(UnreadablePart, match="covers chains of topic session, which belong in another folder"):
        read_part(lake, key(0, topic="install"))


def test_a_part_with_other_rows_than_it_says_is_refused(lake):
    put(lake, key(0), {CHAIN: [Range(0, 10, 10)]}, rows=9)
    with pytest.raises(UnreadablePart, match="its footer says 10 rows, it has 9"):
        read_part(lake, key(0))


LABEL = CHAIN.label.encode()


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b"{}", b'{"covers": 1}', b'{"covers": {"x": []}}', b'{"covers": {"%b": [{}]}}' % LABEL, b'{"covers": {"%b": 1}}' % LABEL],
)
def test_a_footer_of_another_shape_is_refused(lake, text):
    path = lake.path(key(0))
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({FOOTER_KEY: text}), path)
    with pytest.raises(UnreadablePart):
        read_part(lake, key(0))
