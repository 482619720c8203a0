"""Names that are claims, and where a chain goes on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import PermanentError
from engagement.lake import LocalLake
from engagement.raw import files
from engagement.raw.chain import NO_COVERAGE, AheadOfLog, Coverage, Link, gap, resume, visible
from engagement.raw.footers import RawFile
from engagement.raw.names import Chain, import_chain, parse_key, topic_chain

TOPICS = st.from_regex(r"[a-zA-Z0-9._-]{1,30}", fullmatch=True)
HEX = "0123456789abcdef"
CHAINS = st.builds(topic_chain, TOPICS, st.text(HEX, min_size=32, max_size=32), st.integers(0, 10**6)) | st.builds(
    import_chain, st.text(HEX, min_size=64, max_size=64)
)
OFFSETS = st.integers(0, 2**63 - 1)


def test_a_key_is_as_written_in_the_rules():
    chain = topic_chain("session", "0123456789abcdef" * 2, 7)
    assert chain.key(42) == "raw/session/01234567-00007/00000000000000000042.parquet"
    assert chain.label == "session/01234567-00007"
    assert import_chain("ab" * 32).key(500_000) == f"raw/import/{'ab' * 32}-00000/00000000000000500000.parquet"


@given(CHAINS, OFFSETS)
def test_a_key_reads_back_as_its_chain_and_start(chain, start):
    assert parse_key(chain.key(start)) == (chain, start)
    assert Chain.parse(chain.label) == chain
    assert chain.key(start).startswith(chain.folder + "/")


@given(CHAINS, OFFSETS, CHAINS, OFFSETS)
def test_two_claims_share_a_key_only_if_they_are_the_same_claim(chain, start, other, other_start):
    assert (chain.key(start) == other.key(other_start)) == ((chain, start) == (other, other_start))


@given(CHAINS, st.lists(OFFSETS, min_size=2, unique=True))
def test_keys_sort_as_their_starts(chain, starts):
    assert [parse_key(key)[1] for key in sorted(chain.key(start) for start in starts)] == sorted(starts)


def test_a_key_depends_on_nothing_but_chain_and_start():
    """Two writers with other records, other ends and other clocks make the same claim (R2)."""
    chain = topic_chain("session", "5e" * 16, 0)
    now = datetime(2026, 3, 11, tzinfo=UTC)
    first = RawFile(chain, 10, 20, 10, {"empty": 1}, {now: 9}, None, now, now)
    second = RawFile(chain, 10, 99, 3, {}, {}, (10, 99), None, None, "x")
    assert first.key == second.key


@pytest.mark.parametrize(
    "key",
    [
        "raw/session/5e5e5e5e-00000/.x.parquet",
        "raw/session/5e5e5e5e-00000/0.parquet",
        "raw/session/5E5E5E5E-00000/00000000000000000000.parquet",
        "raw/session/5e5e5e5e-0/00000000000000000000.parquet",
        "raw/session/5e5e5e5e-00000/00000000000000000000.parquet.tmp",
        "raw/session/x/5e5e5e5e-00000/00000000000000000000.parquet",
        "archive/session/5e5e5e5e-00000/00000000000000000000.parquet",
        "lake.json",
        "",
    ],
)
def test_what_is_no_claim_is_no_key(key):
    assert parse_key(key) is None


# Footers

INSTANTS = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is added
RAW_FILES = st.builds(
    RawFile,
    CHAINS,
    OFFSETS,
    OFFSETS,
    st.integers(0, 10**6),
    st.dictionaries(st.sampled_from(["bad_json", "missing:user_id", "too_late"]), st.integers(1, 99)),
    st.dictionaries(INSTANTS, st.integers(1, 99), max_size=3),
    st.none() | st.tuples(OFFSETS, OFFSETS),
    st.none() | INSTANTS,
    st.none() | INSTANTS,
    st.none() | st.text(),
)


@given(RAW_FILES)
def test_a_footer_reads_back_as_written(raw):
    assert RawFile.from_json(raw.to_json()) == raw
    assert RawFile.from_json(raw.to_json().encode()) == raw


def test_the_ingest_hour_is_the_first_records_and_a_gap_has_none():
    chain = topic_chain("session", "5e" * 16, 0)
    first = datetime(2026, 3, 11, 10, 59, 59, 999_999, tzinfo=UTC)
    assert RawFile(chain, 0, 1, 1, first_received_at=first, last_received_at=first + timedelta(hours=2)).ingest_hour == first.replace(
        minute=0, second=0, microsecond=0
    )
    assert RawFile(chain, 0, 9, 0, gap=(0, 9)).ingest_hour is None


# Chaining


def test_the_last_link_has_the_greatest_start_not_the_greatest_end(tmp_path):
    lake, chain = LocalLake(tmp_path), topic_chain("session", "5e" * 16, 0)
    assert files.last_link(lake, chain) is None
    for start, end in ((0, 900), (10, 20), (5, 1000)):
        files.write_gap(lake, chain, start, end)
    assert files.last_link(lake, chain) == Link(10, 20)


def test_an_empty_chain_goes_on_at_0():
    assert resume(None, NO_COVERAGE) == 0


def test_a_chain_goes_on_at_the_end_of_its_last_object_not_at_the_greatest_end():
    assert resume(Link(10, 20), NO_COVERAGE) == 20
    assert resume(Link(10, 20), Coverage.of([Link(0, 10), Link(40, 50)])) == 20


def test_a_chain_never_goes_on_inside_of_what_is_archived():
    """A torn listing shows neither the object that was just deleted nor the one that came before the deletion."""
    assert resume(Link(10, 20), Coverage.of([Link(0, 20), Link(20, 25), Link(25, 30)])) == 30
    assert resume(Link(10, 20), Coverage.of([Link(0, 25)])) == 25


def test_a_chain_without_raw_objects_goes_on_at_the_end_of_what_is_archived():
    assert resume(None, Coverage.of([Link(10, 30), Link(0, 10)])) == 30


def test_what_the_log_lost_is_a_gap_up_to_its_start():
    assert gap(0, 7, 50) == Link(0, 7)
    assert gap(20, 50, 50) == Link(20, 50)
    assert gap(20, 20, 50) is None
    assert gap(0, 0, 0) is None


def test_a_lake_ahead_of_the_log_stops_the_partition_and_says_where():
    with pytest.raises(AheadOfLog, match="the lake resumes at offset 20, but the log ends at 19") as error:
        gap(20, 0, 19)
    assert isinstance(error.value, PermanentError)


def test_interleaved_coverage_hides_only_what_it_holds():
    coverage = Coverage.of([Link(20, 30), Link(0, 10)])
    links = [Link(0, 10), Link(5, 12), Link(10, 20), Link(20, 21), Link(30, 31)]
    assert visible(reversed(links), coverage) == [Link(10, 20), Link(30, 31)]
    assert visible(links, NO_COVERAGE) == links


def test_ranges_inside_of_each_other_hide_their_union():
    coverage = Coverage.of([Link(0, 100), Link(10, 20), Link(90, 120)])
    assert [coverage.holds(start) for start in (0, 15, 50, 110, 120)] == [True, True, True, True, False]
    assert coverage.end == 120


@given(st.sets(st.integers(0, 40)), st.integers(-1, 41))
def test_coverage_holds_exactly_the_offsets_of_its_ranges(offsets, start):
    assert Coverage.of(Link(offset, offset + 1) for offset in offsets).holds(start) == (start in offsets)
