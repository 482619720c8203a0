"""The index of raw footers: a cache that always says what the lake says."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import lake_helpers
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engagement.contract import TimeWindow
from engagement.errors import PermanentError
from engagement.lake import open_lake
from engagement.raw import files, footers, looking, rows
from engagement.raw.index import RawIndex
from engagement.raw.looking import Head, living
from engagement.raw.names import import_chain, topic_chain

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
FIRST = rows.Coordinates("session", "5e" * 16, 0)
SECOND = rows.Coordinates("session", "5e" * 16, 1)
IMPORTED = rows.Coordinates("import", "ab" * 32, 0)


@pytest.fixture
def lake(tmp_path):
    return open_lake(lake_helpers.settings_of(tmp_path))[0]


@pytest.fixture
def index(lake, tmp_path):
    found = RawIndex(lake, tmp_path / "state")
    yield found
    found.close()


def put(lake, where, start, times, *, received_at=HOUR, rejects=0):
    """A raw object with one event at each time and so many rejects, from `start` on."""
    values = [
        json.dumps(
            {
                "event_id": f"0f8fad5b-d9cb-469f-a165-{start + number:012x}",
                "user_id": "u",
                "event_type": "tap",
                "timestamp": time.isoformat(),
            }
        )
        for number, time in enumerate(times)
    ] + ["x"] * rejects
    records = [rows.Record(start + number, received_at, None, value.encode()) for number, value in enumerate(values)]
    batch = rows.build(where, records, TimeWindow.of(datetime(2020, 1, 1, tzinfo=UTC).date(), 10**9, None), 60)
    chain = import_chain(where.topic_id) if where is IMPORTED else topic_chain(where.topic, where.topic_id, where.partition)
    return files.write(lake, chain, start, start + len(records), batch)


class Meeting(sqlite3.Connection):
    """Waits, where SQLite would fail at once for a second connection, whether there is a second one."""

    both = threading.Barrier(2)
    met = False

    def execute(self, *statement):
        if "journal_mode" in statement[0]:
            with suppress(threading.BrokenBarrierError):
                Meeting.both.wait(timeout=0.3)
                Meeting.met = True
        return super().execute(*statement)


def test_of_two_processes_that_open_a_new_index_one_waits_for_the_other(lake, tmp_path, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *arguments, **options: connect(*arguments, **options, factory=Meeting))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: RawIndex(lake, tmp_path / "state").close(), range(2)))
    assert not Meeting.met


def test_sync_returns_what_is_new_and_only_once(lake, index):
    assert index.sync() == []
    first = put(lake, FIRST, 0, [HOUR])
    assert index.sync() == [first]
    assert index.sync() == []
    second, other = put(lake, FIRST, 1, [HOUR]), put(lake, SECOND, 0, [], rejects=1)
    assert index.sync() == [second, other]
    assert index.files() == [first, second, other]


def test_sync_forgets_what_vanished(lake, index):
    first, second = put(lake, FIRST, 0, [HOUR]), put(lake, FIRST, 1, [HOUR])
    index.sync()
    lake.delete(first.key)
    assert index.sync() == []
    assert index.files() == [second]
    assert index.touching(HOUR) == [second]


def test_what_is_no_claim_is_not_indexed(lake, index):
    lake.put_new("raw/session/README.txt", b"")
    assert index.sync() == []


DAMAGED = topic_chain("session", "5e" * 16, 0)


def replace_footer(path, **changes):
    """The same rows under a footer that says something else."""
    table = pq.ParquetFile(path).read()
    footer = json.loads(table.schema.metadata[footers.FOOTER_KEY]) | changes
    path.unlink()
    pq.write_table(table.replace_schema_metadata({footers.FOOTER_KEY: json.dumps(footer)}), path)


def flip_footer(path):
    """Parquet's own footer overwritten, magic bytes and length intact."""
    data = path.read_bytes()
    length = int.from_bytes(data[-8:-4], "little")
    path.write_bytes(data[: -8 - length] + b"\xff" * length + data[-8:])


def shift_offsets(path, by):
    """Rows of other offsets under the same footer."""
    table = pq.ParquetFile(path).read()
    place = table.schema.names.index("kafka_offset")
    path.unlink()
    pq.write_table(table.set_column(place, "kafka_offset", pc.add(table["kafka_offset"], by)), path)


DAMAGES = {
    "no Parquet file": lambda path: path.write_bytes(b"not Parquet"),
    "or the disk lost part": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "no Parquet file, or": flip_footer,
    "has no engagement footer": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "footer of another shape": lambda path: replace_footer(path, chain=7),
    "it was copied or renamed": lambda path: replace_footer(path, start=5),
    "says it has 3 rows, and has 2": lambda path: replace_footer(path, rows=3),
    "claims offsets 0 to 0, and has rows of 0 to 1": lambda path: replace_footer(path, end=1),
    "claims offsets 0 to 1, and has rows of -1 to 0": lambda path: shift_offsets(path, -1),
}


@pytest.mark.parametrize("why", DAMAGES)
def test_an_object_that_cannot_be_read_is_named_and_the_others_are_indexed(lake, index, why):
    bad, good = put(lake, FIRST, 0, [HOUR, HOUR]), put(lake, SECOND, 0, [HOUR])
    DAMAGES[why](lake.path(bad.key))
    assert index.sync() == [good]
    (found,) = index.unreadable()
    assert (found.key, found.chain, found.start) == (bad.key, bad.chain, 0)
    assert why in found.why
    assert index.files() == index.touching(HOUR) == [good]
    with pytest.raises(PermanentError, match=r"00000000000000000000\.parquet .*"):
        files.last_link(lake, bad.chain)


def test_an_object_damaged_after_it_was_indexed_is_no_longer_trusted_and_is_again_once_it_is_mended(lake, index):
    first = put(lake, FIRST, 0, [HOUR])
    assert index.sync() == [first]
    whole = lake.path(first.key).read_bytes()
    lake.path(first.key).write_bytes(whole[:100])
    assert index.sync() == []
    assert [item.key for item in index.unreadable()] == [first.key]
    assert index.files() == index.touching(HOUR) == []
    lake.path(first.key).write_bytes(whole)
    assert index.sync() == [first]
    assert index.unreadable() == []


def test_an_object_that_was_replaced_touches_what_it_now_says(lake, index):
    """As erasure does: same claim, same number of rows, fewer good ones."""
    first = put(lake, FIRST, 0, [HOUR, HOUR + timedelta(hours=1)])
    index.sync()
    assert index.good_rows() == {HOUR: 1, HOUR + timedelta(hours=1): 1}
    lake.delete(first.key)
    again = put(lake, FIRST, 0, [HOUR], rejects=1)
    assert index.sync() == [again]
    assert index.touching(HOUR + timedelta(hours=1)) == []
    assert index.touched() == {HOUR: {first.chain.label: 2}}
    assert index.good_rows() == {HOUR: 1}


def test_a_claim_under_a_second_spelling_of_its_name_is_named(lake, index):
    """The pattern of a key takes more than five digits of a partition; the claim has one spelling alone."""
    first = put(lake, FIRST, 0, [HOUR])
    lake.put_new(first.key.replace("-00000/", "-000000/"), lake.read(first.key))
    assert index.sync() == [first]
    assert ["copied or renamed" in item.why for item in index.unreadable()] == [True]


def test_an_object_that_vanishes_between_listing_and_reading_is_the_next_listings_matter(lake, index, monkeypatch):
    first, second = put(lake, FIRST, 0, [HOUR]), put(lake, FIRST, 1, [HOUR])
    real = footers.read

    def read(lake, key):
        lake.delete(first.key)
        return real(lake, key)

    monkeypatch.setattr(footers, "read", read)
    assert index.sync() == [second]
    assert index.unreadable() == []


def test_touching_are_the_objects_with_good_rows_in_the_slot(lake, index):
    first = put(lake, FIRST, 0, [HOUR, HOUR + timedelta(hours=1)], rejects=1)
    second = put(lake, SECOND, 0, [HOUR + timedelta(minutes=59)])
    put(lake, FIRST, 3, [], rejects=2)
    index.sync()
    assert index.touching(HOUR) == [first, second]
    assert index.touching(HOUR + timedelta(hours=1)) == [first]
    assert index.touching(HOUR - timedelta(hours=1)) == []


def test_touched_tells_how_far_each_chain_reaches_into_each_slot(lake, index):
    put(lake, FIRST, 0, [HOUR, HOUR + timedelta(hours=1)])
    put(lake, FIRST, 2, [HOUR])
    put(lake, FIRST, 3, [], rejects=4)
    put(lake, SECOND, 0, [HOUR], rejects=1)
    index.sync()
    assert index.touched() == {
        HOUR: {"session/5e5e5e5e-00000": 3, "session/5e5e5e5e-00001": 2},
        HOUR + timedelta(hours=1): {"session/5e5e5e5e-00000": 2},
    }


def test_after_are_the_objects_that_start_at_or_after_the_position(lake, index):
    first, second, other = put(lake, FIRST, 0, [HOUR]), put(lake, FIRST, 1, [HOUR]), put(lake, SECOND, 0, [HOUR])
    index.sync()
    label = first.chain.label
    assert index.after({}) == [first, second, other]
    assert index.after({label: 1}) == [second, other]
    assert index.after({label: 2, other.chain.label: 1}) == []


def test_the_newest_received_at_is_the_logs_and_knows_rejects_but_no_imports(lake, index):
    assert index.newest_received_at() is None
    put(lake, IMPORTED, 0, [HOUR], received_at=HOUR + timedelta(days=9))
    index.sync()
    assert index.newest_received_at() is None
    put(lake, FIRST, 0, [HOUR], received_at=HOUR)
    put(lake, SECOND, 0, [], received_at=HOUR + timedelta(milliseconds=1), rejects=1)
    index.sync()
    assert index.newest_received_at() == HOUR + timedelta(milliseconds=1)


def test_a_gap_touches_nothing_and_is_indexed(lake, index):
    gap = files.write_gap(lake, topic_chain("session", "5e" * 16, 0), 0, 9)
    assert index.sync() == [gap]
    assert index.touched() == {}
    assert index.newest_received_at() is None
    assert index.files()[0].gap == (0, 9)


def test_a_second_index_of_the_same_lake_shares_the_file(lake, index, tmp_path):
    first = put(lake, FIRST, 0, [HOUR])
    index.sync()
    again = RawIndex(lake, tmp_path / "state")
    assert again.files() == [first]
    assert again.sync() == []
    again.close()


def test_a_lost_index_is_made_again(lake, index, tmp_path):
    first = put(lake, FIRST, 0, [HOUR])
    index.sync()
    index.close()
    shutil.rmtree(tmp_path / "state")
    again = RawIndex(lake, tmp_path / "state")
    assert again.sync() == [first]
    again.close()


def test_a_lake_made_anew_in_the_same_place_is_not_confused_with_the_old_one(tmp_path):
    settings = lake_helpers.settings_of(tmp_path)
    lake = open_lake(settings)[0]
    put(lake, FIRST, 0, [HOUR])
    index = RawIndex(lake, tmp_path / "state")
    index.sync()
    index.close()
    shutil.rmtree(tmp_path / "lake")
    lake = open_lake(settings)[0]
    second = put(lake, FIRST, 0, [HOUR + timedelta(hours=5)])
    index = RawIndex(lake, tmp_path / "state")
    assert index.sync() == [second]
    assert list(index.touched()) == [HOUR + timedelta(hours=5)]
    index.close()


# Looking again and again


@pytest.fixture
def asked(lake, monkeypatch):
    """What is listed: prefixes of objects and of folders, and every key."""
    found = []
    real_list, real_folders = type(lake).list, type(lake).folders

    def listed(self, prefix, after=None):
        found.append(prefix)
        for entry in real_list(self, prefix, after):
            found.append(entry.key)
            yield entry

    def folders(self, prefix):
        found.append(prefix)
        return real_folders(self, prefix)

    monkeypatch.setattr(type(lake), "list", listed)
    monkeypatch.setattr(type(lake), "folders", folders)
    return found


def whole_round(index):
    """Enough looks that everything had its turn."""
    return [raw for _ in range(24) for raw in index.sync(recent=True)]


def test_a_recent_look_sees_what_a_known_chain_has_new_at_once(index, lake):
    put(lake, FIRST, 0, [HOUR])
    index.sync()
    new = put(lake, FIRST, 1, [HOUR])
    assert index.sync(recent=True) == [new]
    assert index.sync(recent=True) == []


def test_the_first_look_is_at_everything_also_when_it_is_a_recent_one(index, lake):
    first, second = put(lake, FIRST, 0, [HOUR]), put(lake, SECOND, 0, [HOUR])
    assert index.sync(recent=True) == [first, second]


def test_a_recent_look_costs_a_listing_a_living_chain_and_two_more_whatever_there_is(index, lake, asked):
    for start in range(5):
        put(lake, FIRST, start, [HOUR])
        put(lake, SECOND, start, [HOUR])
    index.sync()
    for _ in range(10):
        asked.clear()
        index.sync(recent=True)
        keys = [name for name in asked if name.endswith(".parquet")]
        assert len(asked) - len(keys) <= 2 + 2
        assert len(keys) <= 5  # of one whole chain at most


def test_a_recent_look_lists_a_page_of_a_long_chain_and_no_more(index, lake, asked, monkeypatch):
    monkeypatch.setattr(looking, "PAGE", 3)
    for start in range(10):
        put(lake, FIRST, start, [HOUR])
    index.sync()
    for _ in range(24):
        asked.clear()
        assert index.sync(recent=True) == []
        assert len([name for name in asked if name.endswith(".parquet")]) <= 3


def test_every_page_has_its_turn(index, lake, monkeypatch):
    monkeypatch.setattr(looking, "PAGE", 3)
    found = [put(lake, FIRST, start, [HOUR]) for start in range(9)]
    index.sync()
    for gone in (found[0], found[2], found[5], found[8]):  # within a page, and its last
        lake.delete(gone.key)
    new = put(lake, FIRST, 9, [HOUR])
    assert whole_round(index) == [new]
    assert [raw.start for raw in index.files()] == [1, 3, 4, 6, 7, 9]


@pytest.mark.parametrize(("known", "pages"), [(0, 1), (2, 1), (3, 2), (4, 2), (7, 3)])
def test_pages_hold_every_place_once(known, pages, monkeypatch):
    monkeypatch.setattr(looking, "PAGE", 3)
    bounds = [looking.page(range(known), turn) for turn in range(pages)]
    assert [after for after, _ in bounds[1:]] == [until for _, until in bounds[:-1]]
    assert (bounds[0][0], bounds[-1][1]) == (None, None)
    assert looking.page(range(known), pages) == bounds[0]
    scopes = [looking.Scope("chain", *bound) for bound in bounds]
    assert [sum(scope.holds(place) for scope in scopes) for place in range(-1, 9)] == [1] * 10


def test_new_chains_and_topics_are_seen_within_a_round(index, lake):
    put(lake, FIRST, 0, [HOUR])
    index.sync()
    chain = put(lake, SECOND, 0, [HOUR])
    topic = put(lake, rows.Coordinates("install", "1a" * 16, 0), 0, [HOUR])
    imported = put(lake, IMPORTED, 0, [HOUR])
    assert {raw.key for raw in whole_round(index)} == {chain.key, topic.key, imported.key}


def test_what_was_replaced_or_deleted_is_seen_within_a_round(index, lake):
    first, second = put(lake, FIRST, 0, [HOUR, HOUR]), put(lake, FIRST, 2, [HOUR])
    index.sync()
    lake.delete(first.key)
    lake.delete(second.key)
    again = put(lake, FIRST, 2, [HOUR - timedelta(hours=1)])
    assert whole_round(index) == [again]
    assert index.files() == [again]
    assert index.touching(HOUR) == []


def test_an_object_that_cannot_be_read_is_forgotten_at_no_look_and_mended_within_a_round(index, lake):
    put(lake, FIRST, 0, [HOUR])
    index.sync()
    bad = put(lake, FIRST, 1, [HOUR])
    whole = lake.read(bad.key)
    lake.path(bad.key).write_bytes(b"damaged")
    later = put(lake, FIRST, 2, [HOUR])
    assert index.sync(recent=True) == [later]
    for _ in range(12):
        assert index.sync(recent=True) == []
        assert [item.key for item in index.unreadable()] == [bad.key]
    lake.path(bad.key).write_bytes(whole)
    assert whole_round(index) == [bad]
    assert index.unreadable() == []


def test_of_a_topic_made_anew_the_chain_with_the_newest_records_is_alive():
    old, new = Head("session/1a1a1a1a-00000", 9, "2026-03-11T10", 50.0), Head("session/0b0b0b0b-00000", 0, "2026-03-11T11", 40.0)
    done, growing = Head("import/" + "ab" * 32 + "-00000", 0, "2026", 0.0), Head("import/" + "cd" * 32 + "-00000", 0, "2026", 99_000.0)
    assert living([old, new, done, growing], 100_000.0) == [new, growing]


def test_two_processes_that_look_in_turns_see_the_same(index, lake, tmp_path):
    put(lake, FIRST, 0, [HOUR])
    index.sync()
    other = RawIndex(lake, tmp_path / "state")
    first = put(lake, FIRST, 1, [HOUR])
    assert other.sync(recent=True) == [first]
    second = put(lake, FIRST, 2, [HOUR])
    assert index.sync(recent=True) == [second]
    assert index.files() == other.files()
    other.close()
