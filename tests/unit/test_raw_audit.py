"""The chain audit: every valid history passes, every single damage is found and named."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engagement.ingest.importer import ROWS_PER_OBJECT
from engagement.lake import LocalLake
from engagement.raw import files
from engagement.raw.audit import IMPORT_ROWS, audit, examine
from engagement.raw.coverage import Gap, Range, Slot
from engagement.raw.findings import Audit, Backwards, ChainAudit, Duplicate, Hole, Miscounted, Overlap, Unreadable, UnreadablePart
from engagement.raw.footers import RawFile
from engagement.raw.index import RawIndex, UnreadableFile
from engagement.raw.names import import_chain, topic_chain

CHAIN = topic_chain("session", "5e" * 16, 0)
FILE = import_chain("ab" * 32)
LAW = settings(deadline=None, max_examples=40)
T0 = datetime(2026, 3, 11, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def raw(start, end, *, rows=None, rejects=0, chain=CHAIN, at=None):
    rows = end - start if rows is None else rows
    slots = {T0: rows - rejects} if rows > rejects else {}
    at = at or T0 + start * MINUTE
    return RawFile(chain, start, end, rows, {"bad_json": rejects} if rejects else {}, slots, None, at, at + MINUTE)


def gap(start, end):
    return RawFile(CHAIN, start, end, 0, gap=(start, end))


def archived(*raws):
    """What a part says of raw objects that follow one another."""
    slots = {}
    for item in raws:
        for slot, rows in item.event_slots.items():
            slots[slot] = Slot(item.end - 1, rows + (slots[slot].rows if slot in slots else 0))
    rejects = {}
    for item in raws:
        for name, count in item.rejects.items():
            rejects[name] = rejects.get(name, 0) + count
    times = [item for item in raws if item.first_received_at]
    gaps = tuple(Gap(*item.gap) for item in raws if item.gap)
    return Range(
        raws[0].start, raws[-1].end, sum(item.rows for item in raws), rejects, gaps, slots,
        times[0].first_received_at if times else None, times[-1].last_received_at if times else None,
    )  # fmt: skip


def audited(*files, ranges=(), unreadable=(), reached=0):
    return examine(CHAIN.label, files, ranges, unreadable, reached)


# ---------------------------------------------------------------- the law


@st.composite
def chains(draw):
    """Raw objects of a valid chain from 0 on, gaps among them, holes of the log inside some."""
    found, position = [], 0
    for _ in range(draw(st.integers(1, 8))):
        end = position + draw(st.integers(1, 50))
        if draw(st.integers(0, 5)) == 0:
            found.append(gap(position, end))
        else:
            rows = draw(st.integers(1, end - position))
            found.append(raw(position, end, rows=rows, rejects=draw(st.integers(0, rows))))
        position = end
    return found


@st.composite
def lakes(draw):
    """A valid chain of which an archive holds some runs; raw objects of these may stay for their grace."""
    files = draw(chains())
    parts = []
    kept = list(files)
    place = 0
    while place < len(files):
        length = draw(st.integers(0, 3))
        run = files[place : place + length]
        if run:
            parts.append(archived(*run))
            kept = [item for item in kept if item not in run or item is files[-1] or draw(st.booleans())]
        place += max(1, length)
    return files, kept, parts


@LAW
@given(lakes())
def test_every_valid_chain_is_whole_and_each_row_counts_once(lake):
    files, kept, parts = lake
    found = audited(*kept, ranges=parts, reached=files[-1].end)
    assert found.findings == ()
    assert found.end == files[-1].end
    assert found.rows == sum(item.rows for item in files)
    assert sum(found.rejects.values()) == sum(sum(item.rejects.values()) for item in files)
    assert [(item.start, item.end) for item in found.gaps] == [item.gap for item in files if item.gap]
    assert found.rows + found.without_rows + sum(item.offsets for item in found.gaps) == found.end
    assert found.files + found.hidden == len(kept)


def mutate(files, how, place, by):
    item = files[place]
    change = {
        "dropped": [],
        "doubled": [item, item],
        "start moved back": [replace(item, start=item.start - by)],
        "start moved on": [replace(item, start=item.start + by)],
        "end moved back": [replace(item, end=item.end - by)],
        "end moved on": [replace(item, end=item.end + by)],
        "more rows than offsets": [replace(item, rows=item.end - item.start + by, gap=None)],
        "a row less": [replace(item, rows=item.rows - 1)],
    }[how]
    return [*files[:place], *change, *files[place + 1 :]]


DAMAGE = (
    "dropped", "doubled", "start moved back", "start moved on", "end moved back", "end moved on", "more rows than offsets", "a row less",
)  # fmt: skip


@pytest.mark.parametrize("how", DAMAGE)
@LAW
@given(files=chains(), place=st.integers(0, 7), by=st.integers(1, 60))
def test_any_single_damage_to_a_raw_chain_is_found(how, files, place, by):
    place %= len(files)
    # The greatest end has nothing behind it that contradicts it: Parquet's own least and greatest offset do (`footers`).
    assume(not (how == "end moved on" and place == len(files) - 1))
    damaged = mutate(files, how, place, by)
    assert audited(*damaged, reached=files[-1].end).findings


def hidden_in(files, parts):
    return [item for item in files if any(part.start <= item.start < part.end for part in parts)]


@pytest.mark.parametrize("how", DAMAGE)
@LAW
@given(lake=lakes(), place=st.integers(0, 7), by=st.integers(1, 60))
def test_any_single_damage_to_what_readers_see_is_found_with_an_archive_too(how, lake, place, by):
    files, kept, parts = lake
    seen = [item for item in kept if item not in hidden_in(kept, parts)]
    assume(seen)
    place %= len(seen)
    assume(not (how == "end moved on" and seen[place] is files[-1]))
    damaged = mutate(seen, how, place, by) + hidden_in(kept, parts)
    assert audited(*damaged, ranges=parts, reached=files[-1].end).findings


@LAW
@given(lake=lakes(), place=st.integers(0, 7))
def test_a_lost_or_doubled_part_is_found_unless_its_raw_objects_are_all_there_still(lake, place):
    files, kept, parts = lake
    assume(parts)
    place %= len(parts)
    assert audited(*kept, ranges=[*parts, parts[place]]).findings
    left = parts[:place] + parts[place + 1 :]
    needed = hidden_in(files, [parts[place]])
    assert audited(*kept, ranges=left, reached=files[-1].end).whole == all(item in kept for item in needed)


@LAW
@given(chains())
def test_the_order_of_the_listing_does_not_matter(files):
    assert audited(*reversed(files)) == audited(*files)


# ---------------------------------------------------------------- each kind of finding


def test_a_missing_object_is_a_hole_with_its_offsets():
    assert audited(raw(0, 10), raw(25, 30)).findings == (Hole(CHAIN.label, 10, 25),)


def test_a_chain_that_does_not_start_at_0_begins_with_a_hole():
    assert audited(raw(7, 10)).findings == (Hole(CHAIN.label, 0, 7),)


def test_a_chain_that_ends_before_what_tables_were_made_from_lost_its_last_objects():
    assert audited(raw(0, 10), reached=30).findings == (Hole(CHAIN.label, 10, 30),)
    assert audited(reached=30).findings == (Hole(CHAIN.label, 0, 30),)
    assert audited(raw(0, 10), reached=10).whole


def test_two_claims_that_overlap_are_named_by_the_offsets_seen_twice():
    assert audited(raw(0, 10), raw(8, 20)).findings == (Overlap(CHAIN.label, 8, 10),)
    assert audited(raw(0, 20), raw(5, 9), raw(20, 30)).findings == (Overlap(CHAIN.label, 5, 9),)


def test_two_parts_that_hold_the_same_range_are_a_duplicate():
    files = [raw(0, 10), raw(10, 20)]
    twice = [archived(*files), archived(*files)]
    assert audited(ranges=twice).findings == (Duplicate(CHAIN.label, 0, 20),)


def test_a_raw_object_that_reaches_into_a_covered_range_is_seen_twice_there():
    assert audited(raw(0, 12), ranges=[archived(raw(10, 20))]).findings == (Overlap(CHAIN.label, 10, 12),)


def test_a_claim_that_ends_before_it_begins_is_told():
    assert Backwards(CHAIN.label, 10, 10) in audited(raw(0, 10), raw(10, 10)).findings


def test_more_rows_than_offsets_and_rows_that_are_neither_good_nor_rejected_are_miscounted():
    assert [type(found) for found in audited(raw(0, 10, rows=11)).findings] == [Miscounted]
    assert [type(found) for found in audited(replace(raw(0, 10), rejects={"empty": 1})).findings] == [Miscounted]
    assert [type(found) for found in audited(ranges=[replace(archived(raw(0, 10)), slots={})]).findings] == [Miscounted]


def test_rows_and_a_gap_must_fit_into_the_claim_together_and_the_gap_inside_it():
    assert audited(replace(raw(0, 10, rows=6), gap=(0, 4))).whole
    assert not audited(replace(raw(0, 10, rows=7), gap=(0, 4))).whole
    assert not audited(replace(gap(0, 10), gap=(5, 12))).whole


def test_an_object_that_cannot_be_read_is_named_with_the_offsets_up_to_the_next_claim():
    dark = UnreadableFile(CHAIN.key(10), CHAIN, 10, "is torn")
    assert audited(raw(0, 10), raw(15, 20), unreadable=[dark]).findings == (Unreadable(CHAIN.label, 10, 15, "is torn"),)
    (last,) = audited(raw(0, 10), unreadable=[dark]).findings
    assert last == Unreadable(CHAIN.label, 10, 10, "is torn")
    assert last.text == "session/5e5e5e5e-00000 offsets from 10: its object is torn"


def test_a_hidden_object_that_cannot_be_read_harms_nobody():
    dark = UnreadableFile(CHAIN.key(0), CHAIN, 0, "torn")
    found = audited(raw(10, 15), ranges=[archived(raw(0, 10))], unreadable=[dark])
    assert (found.whole, found.hidden, found.files) == (True, 1, 1)


# ---------------------------------------------------------------- what is no finding


def test_recorded_gaps_are_listed_with_the_times_around_them():
    found = audited(gap(0, 5), raw(5, 10), gap(10, 12), gap(12, 13), raw(13, 20), gap(20, 21))
    assert found.whole
    first, second, later = T0 + 5 * MINUTE, T0 + 6 * MINUTE, T0 + 13 * MINUTE
    assert found.gaps == (
        Gap(0, 5, None, first),
        Gap(10, 12, second, later),
        Gap(12, 13, second, later),
        Gap(20, 21, T0 + 14 * MINUTE, None),
    )


def test_a_gap_inside_an_archived_range_keeps_the_times_that_the_part_recorded():
    held = replace(archived(raw(0, 5), gap(5, 8), raw(8, 10)), gaps=(Gap(5, 8, T0, T0 + MINUTE),))
    assert audited(raw(10, 20), ranges=[held]).gaps == (Gap(5, 8, T0, T0 + MINUTE),)


def test_offsets_of_transactions_without_rows_are_counted_and_no_finding():
    found = audited(raw(0, 10, rows=7), gap(10, 20), raw(20, 30, rows=9))
    assert (found.whole, found.without_rows) == (True, 4)


def test_an_imported_file_has_a_row_for_every_line():
    assert examine(FILE.label, [raw(0, 10, chain=FILE)]).whole
    (found,) = examine(FILE.label, [raw(0, 10, rows=9, chain=FILE)]).findings
    assert "9 rows of 10 lines" in found.text


def test_only_an_import_whose_last_object_is_full_may_go_on():
    assert IMPORT_ROWS == ROWS_PER_OBJECT
    full, rest = raw(0, IMPORT_ROWS, chain=FILE), raw(IMPORT_ROWS, IMPORT_ROWS + 3, chain=FILE)
    assert examine(FILE.label, [full]).may_go_on
    assert not examine(FILE.label, [full, rest]).may_go_on
    assert not examine(CHAIN.label, [raw(0, IMPORT_ROWS)]).may_go_on


def test_raw_objects_in_covered_ranges_are_hidden_whatever_they_claim():
    """A zombie's longer object under a freed name is such a one: the archive holds what it holds."""
    stray = raw(0, 12)
    found = audited(stray, raw(10, 20), ranges=[archived(raw(0, 10))])
    assert (found.whole, found.files, found.hidden, found.rows) == (True, 1, 1, 20)


# ---------------------------------------------------------------- the verdict


def chain_audit(*findings, gaps=()):
    return ChainAudit("c", 0, 0, 0, 0, 0, 0, gaps=gaps, findings=findings)


def test_the_verdict_is_one_line():
    whole, lossy = chain_audit(), chain_audit(gaps=(Gap(0, 100), Gap(200, 240)))
    assert Audit((whole, whole)).verdict == "chains 2 whole"
    assert Audit((whole, lossy)).verdict == "chains 2 whole, 2 gaps of 140 records"
    broken = chain_audit(Hole("c", 0, 1))
    part = UnreadablePart("archive/x", "torn")
    assert Audit((whole, broken), (part,)).verdict == "1 of 2 chains whole, 2 problems"
    assert Audit((whole, broken), (part,)).findings == (part, Hole("c", 0, 1))
    assert Audit().verdict == "chains 0 whole"


# ---------------------------------------------------------------- in a lake


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path / "lake")


@pytest.fixture
def index(lake, tmp_path):
    found = RawIndex(lake, tmp_path / "state")
    yield found
    found.close()


def write_gaps(lake, *bounds):
    for start, end in pairwise(bounds):
        files.write_gap(lake, CHAIN, start, end)


def test_an_empty_lake_has_no_chains(index):
    assert audit(index) == Audit()


def test_a_listing_that_missed_an_object_while_it_came_is_no_finding(lake, index, monkeypatch):
    write_gaps(lake, 0, 5, 9)
    real, missed = LocalLake.list, [CHAIN.key(0)]

    def listing(self, prefix):
        for entry in real(self, prefix):
            if entry.key in missed:
                missed.remove(entry.key)
            else:
                yield entry

    monkeypatch.setattr(LocalLake, "list", listing)
    assert audit(index).verdict == "chains 1 whole, 2 gaps of 9 records"
    assert not missed


def test_a_chain_of_which_nothing_is_left_is_known_from_what_was_made_of_it(index):
    assert audit(index, {CHAIN.label: 7}).findings == (Hole(CHAIN.label, 0, 7),)


def test_the_archive_is_listed_after_raw(lake, index, monkeypatch):
    """The other way round, an object that is archived and deleted in between is in neither listing."""
    write_gaps(lake, 0, 5)
    asked = []
    real = LocalLake.list
    monkeypatch.setattr(LocalLake, "list", lambda self, prefix: asked.append(prefix) or real(self, prefix))
    audit(index)
    assert asked == ["raw", "archive"]
