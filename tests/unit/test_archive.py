"""The archive writer and raw expiry on real objects: what a part holds, what is left alone, what may go and what never."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import archive_helpers
import lake_helpers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement.contract import TimeWindow
from engagement.lake import Changed, LocalLake, open_lake
from engagement.raw import archive, compaction, coverage, erasures, expiry, files, footers, rows
from engagement.raw.audit import audit
from engagement.raw.coverage import Gap, Slot
from engagement.raw.index import RawIndex
from engagement.raw.names import import_chain, topic_chain

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
FIRST = rows.Coordinates("session", "5e" * 16, 0)
SECOND = rows.Coordinates("session", "5e" * 16, 1)
IMPORTED = rows.Coordinates("import", "ab" * 32, 0)
WINDOW = TimeWindow.of(datetime(2020, 1, 1, tzinfo=UTC).date(), 10**9, None)
DAY = timedelta(days=1)
PART = "archive/session/year=2026/month=03/day=11/part-0.parquet"


@pytest.fixture
def lake(tmp_path):
    return open_lake(lake_helpers.settings_of(tmp_path))[0]


def chain(where):
    return import_chain(where.topic_id) if where is IMPORTED else topic_chain(where.topic, where.topic_id, where.partition)


def put(lake, where, start, values, *, came=HOUR, source=None):
    """A raw object from `start` on: an event of each user, at HOUR and every half hour after it; None is a reject."""
    records = [
        rows.Record(start + at, came + at * timedelta(seconds=1), b"k", b"{" if user is None else event(start + at, user), [("h", b"1")])
        for at, user in enumerate(values)
    ]
    batch = rows.build(where, records, WINDOW, 60)
    return files.write(lake, chain(where), start, start + len(records), batch, source)


def event(number, user):
    return json.dumps(
        {
            "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}",
            "user_id": user,
            "event_type": "tap",
            "timestamp": (HOUR + number * timedelta(minutes=30)).isoformat(),
            "geo_location": {"country": "DE"},
        }
    ).encode()


def part_of(lake, key=PART):
    return coverage.read_part(lake, key)


def test_a_part_holds_the_same_rows_in_total_order_and_says_what_it_covers(lake):
    put(lake, SECOND, 0, ["a", None])
    put(lake, FIRST, 0, ["a", "b", None])
    put(lake, FIRST, 3, ["c"], came=HOUR + timedelta(minutes=5))
    raw = pa.concat_tables(pq.read_table(lake.path(chain(where).key(start))) for where, start in ((FIRST, 0), (FIRST, 3), (SECOND, 0)))
    (written,) = archive_helpers.archive(lake).parts
    assert (written.name.key, written.objects, written.rows, written.erased) == (PART, 3, 6, 0)
    with pq.ParquetFile(lake.path(PART)) as file:
        assert file.read().equals(raw.replace_schema_metadata(None))
        assert file.schema_arrow.equals(rows.schema())
    first, second = part_of(lake).ranges[chain(FIRST).label], part_of(lake).ranges[chain(SECOND).label]
    (held,) = first
    assert (held.start, held.end, held.rows, held.rejects) == (0, 4, 4, {"bad_json": 1})
    assert held.slots == {HOUR: Slot(1, 2), HOUR + timedelta(hours=1): Slot(3, 1)}
    assert (held.first_received_at, held.last_received_at) == (HOUR, HOUR + timedelta(minutes=5))
    assert [(item.start, item.end, item.rows) for item in second] == [(0, 2, 2)]
    assert written.bytes_out == lake.stat(PART).size
    assert written.offsets == {chain(FIRST).label: 4, chain(SECOND).label: 2}


def test_gaps_keep_their_times_and_objects_that_do_not_follow_one_another_make_ranges_of_their_own(lake):
    put(lake, FIRST, 0, ["a"])
    files.write_gap(lake, chain(FIRST), 1, 5)
    put(lake, FIRST, 5, ["b"], came=HOUR + timedelta(minutes=9))
    put(lake, FIRST, 8, ["c"])
    archive_helpers.archive(lake)
    first, second = part_of(lake).ranges[chain(FIRST).label]
    assert first.gaps == (Gap(1, 5, HOUR, HOUR + timedelta(minutes=9)),)
    assert [(item.start, item.end) for item in (first, second)] == [(0, 6), (8, 9)]


def test_imports_are_archived_by_the_day_of_the_import_and_keep_their_file_name(lake):
    put(lake, IMPORTED, 0, ["a", "b"], source="old.jsonl")
    (written,) = archive_helpers.archive(lake).parts
    assert written.name.key == PART.replace("session", "import")
    (held,) = part_of(lake, written.name.key).ranges[chain(IMPORTED).label]
    assert (held.source, held.rows) == ("old.jsonl", 2)


def test_a_second_run_does_nothing_and_what_comes_later_becomes_the_next_part(lake):
    put(lake, FIRST, 0, ["a"])
    archive_helpers.archive(lake)
    assert archive_helpers.archive(lake).parts == ()
    put(lake, FIRST, 1, ["b"])
    (written,) = archive_helpers.archive(lake).parts
    assert (written.name.number, written.rows) == (1, 1)


def test_a_dry_run_says_the_same_and_writes_nothing(lake):
    put(lake, FIRST, 0, ["a"])
    would = archive_helpers.archive(lake, dry_run=True)
    assert lake.stat(PART) is None
    did = archive_helpers.archive(lake)
    assert (would.objects, would.rows, would.bytes_in) == (did.objects, did.rows, did.bytes_in)
    assert (would.bytes_out, would.parts[0].name) == (0, did.parts[0].name)


def test_records_of_erased_users_become_erased_rows_on_the_way(lake):
    put(lake, FIRST, 0, ["a", "b", "a"])
    erasures.ErasureList(lake, [b"k" * 32]).add(["a"])
    (written,) = archive_helpers.archive(lake, hash_keys=[b"k" * 32]).parts
    part = part_of(lake)
    (held,) = part.ranges[chain(FIRST).label]
    assert (written.erased, part.erasures, held.rejects, held.rows) == (2, 1, {"erased": 2}, 3)
    assert held.slots == {HOUR: Slot(1, 1)}
    assert held.erased == {HOUR: 1, HOUR + timedelta(hours=1): 1}
    assert pq.read_table(lake.path(PART))["user_id"].to_pylist() == [None, "b", None]


def test_a_list_of_erased_users_without_its_key_stops_the_writer(lake):
    put(lake, FIRST, 0, ["a"])
    erasures.ErasureList(lake, [b"k" * 32]).add(["a"])
    with pytest.raises(erasures.KeyMissing):
        archive_helpers.archive(lake)
    assert lake.stat(PART) is None


def test_objects_of_older_and_newer_programs_lie_in_one_part(lake):
    """A column that one lacks is null there; one that this program does not know is kept."""
    put(lake, FIRST, 0, ["a"])
    put(lake, FIRST, 1, ["b"])
    put(lake, FIRST, 2, ["c"])
    rewrite(lake, chain(FIRST).key(0), lambda table: table.drop_columns(["city"]))
    rewrite(lake, chain(FIRST).key(1), lambda table: table.append_column("battery", pa.array(["low"])))
    archive_helpers.archive(lake)
    table = pq.read_table(lake.path(PART))
    assert table["battery"].to_pylist() == [None, "low", None]
    assert table["city"].to_pylist() == [None, None, None]
    assert table["event_id"].null_count == 0


def rewrite(lake, key, change):
    path = lake.path(key)
    table = pq.ParquetFile(path).read()
    footer = pq.read_metadata(path).metadata[footers.FOOTER_KEY]
    pq.write_table(change(table).replace_schema_metadata({footers.FOOTER_KEY: footer}), path)


def test_row_groups_end_where_memory_would_and_every_row_is_there(lake, monkeypatch):
    monkeypatch.setattr(compaction, "GROUP_ROWS", 3)
    for start in range(5):
        put(lake, FIRST, 2 * start, ["a", "b"])
    archive_helpers.archive(lake)
    metadata = pq.read_metadata(lake.path(PART))
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [4, 4, 2]
    assert pq.read_table(lake.path(PART))["kafka_offset"].to_pylist() == list(range(10))


# What is left alone.


def test_an_object_that_cannot_be_read_is_left_alone_and_told(lake):
    put(lake, FIRST, 0, ["a"])
    bad = put(lake, FIRST, 1, ["b"])
    put(lake, FIRST, 2, ["c"])
    damage_pages(lake.path(bad.key))
    report = archive.archive(lake, now=archive_helpers.LATER, after=timedelta(0))
    assert [problem.split(": ")[0] for problem in report.problems] == [bad.key]
    assert [item.link for item in part_of(lake).ranges[chain(FIRST).label]] == [files.Link(0, 1), files.Link(2, 3)]
    assert expiry.expire(lake, grace=timedelta(0)).deleted[0].key == chain(FIRST).key(0)


def damage_pages(path):
    """Bytes of the columns are lost, the footer is whole."""
    whole = path.read_bytes()
    path.write_bytes(whole[:4] + bytes(200) + whole[204:])


def test_an_object_whose_footer_tells_of_other_rows_is_left_alone(lake):
    raw = put(lake, FIRST, 0, ["a", None])
    path = lake.path(raw.key)
    table = pq.ParquetFile(path).read()
    lie = json.loads(pq.read_metadata(path).metadata[footers.FOOTER_KEY]) | {"rejects": {"bad_json": 2}, "event_slots": {}}
    pq.write_table(table.replace_schema_metadata({footers.FOOTER_KEY: json.dumps(lie)}), path)
    report = archive.archive(lake, now=archive_helpers.LATER, after=timedelta(0))
    assert report.parts == ()
    assert report.problems == (f"{raw.key}: has other rows than its footer tells: restore it from a copy",)


def test_a_part_that_cannot_be_read_stops_its_topic_and_no_other(lake):
    put(lake, FIRST, 0, ["a"])
    put(lake, IMPORTED, 0, ["a"])
    lake.put_new(PART, b"torn")
    report = archive.archive(lake, now=archive_helpers.LATER, after=timedelta(0))
    assert [part.name.topic for part in report.parts] == ["import"]
    assert report.problems[0].startswith(f"{PART}: its topic is not archived: no archive part of this program")


def test_a_day_whose_first_parts_are_missing_gets_no_more(lake):
    put(lake, FIRST, 0, ["a"])
    archive_helpers.archive(lake)
    lake.path(PART).rename(lake.path(PART.replace("part-0", "part-1")))
    put(lake, FIRST, 1, ["b"])
    report = archive.archive(lake, now=archive_helpers.LATER, after=timedelta(0))
    assert report.parts == ()
    assert report.problems == (f"{PART}: is the first of its day that is missing: restore it, nobody knows what it covered",)


def test_another_writer_that_is_always_faster_does_not_hold_this_one_for_ever(lake, monkeypatch):
    put(lake, FIRST, 0, ["a"])

    @contextmanager
    def taken(_self, _key):
        raise Changed("again")
        yield

    monkeypatch.setattr(LocalLake, "creating", taken)
    report = archive.archive(lake, now=archive_helpers.LATER, after=timedelta(0))
    assert report.problems == (f"session: other writers changed the lake at each of {archive.LOOKS} looks; the next run goes on",)


# Expiry.


def kept(lake, where=FIRST):
    return [entry.key for entry in lake.list(chain(where).folder)]


def expire(lake, grace=DAY, **options):
    return expiry.expire(lake, grace=grace, **options)


def archived(lake, where=FIRST, count=3):
    raw = [put(lake, where, start, ["a"]) for start in range(count)]
    archive_helpers.archive(lake)
    return [item.key for item in raw]


def test_what_is_archived_goes_after_the_grace_but_for_the_last_of_its_chain(lake):
    keys = archived(lake)
    assert expire(lake).deleted == ()
    later = lake.clock() + DAY
    assert [entry.key for entry in expire(lake, now=later, dry_run=True).deleted] == keys[:2]
    assert kept(lake) == keys
    report = expire(lake, now=later)
    assert (report.objects, report.problems) == (2, ())
    assert kept(lake) == keys[2:]
    assert expire(lake, now=later).deleted == ()


def test_what_no_part_covers_never_goes(lake):
    archived(lake)
    new = put(lake, FIRST, 3, ["b"])
    put(lake, SECOND, 0, ["b"])
    put(lake, SECOND, 1, ["b"])
    expire(lake, now=lake.clock() + 10 * DAY)
    assert kept(lake) == [new.key]
    assert len(kept(lake, SECOND)) == 2


def test_the_grace_is_told_by_the_store_not_by_what_a_writer_says(lake):
    """A writer that stood still for days between its last byte and the name publishes a part that looks old."""
    archived(lake)
    long_ago = (lake.clock() - 10 * DAY).timestamp()
    os.utime(lake.path(PART), (long_ago, long_ago))
    assert expire(lake).deleted == ()


def test_a_part_whose_bytes_are_damaged_lets_nothing_go(lake):
    keys = archived(lake)
    damage_pages(lake.path(PART))
    report = expire(lake, now=lake.clock() + 2 * DAY)
    assert report.deleted == ()
    assert report.problems[0].startswith(f"{PART}: nothing that it covers is deleted: it cannot be read: ")
    assert kept(lake) == keys


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda table: table.slice(1), "its footer says 3 rows, it has 2"),
        (
            lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1)]),
            r"its rows 0 to 3 are not of session/5e5e5e5e-00000 \[0, 3\)",
        ),
        (lambda table: pa.concat_tables([table.slice(0, 1)] * 3), r"its rows 0 to 3 are not of"),
        (lambda table: table.set_column(3, "kafka_offset", pa.array([7, 8, 9])), r"its rows 0 to 3 are not of"),
        (lambda table: table.set_column(2, "kafka_partition", pa.array([1, 1, 1], pa.int32())), r"its rows 0 to 3 are not of"),
    ],
)
def test_a_part_that_does_not_hold_what_it_says_lets_nothing_go(lake, change, why):
    keys = archived(lake)
    rewrite(lake, PART, change)
    report = expire(lake, now=lake.clock() + 2 * DAY)
    assert report.deleted == ()
    assert re.search(why, report.problems[0])
    assert kept(lake) == keys


def test_all_is_proven_again_just_before_the_deletion(lake, monkeypatch):
    """Between the look and the deletion the part is rewritten, as by an erasure: its grace begins anew."""
    keys = archived(lake)
    later = lake.clock() + 2 * DAY
    real = expiry._Run._delete

    def rewritten(self, *arguments):
        path = lake.path(PART)
        path.write_bytes(path.read_bytes())
        return real(self, *arguments)

    monkeypatch.setattr(expiry._Run, "_delete", rewritten)
    assert expire(lake, now=later).deleted == ()
    assert kept(lake) == keys


def test_an_audit_finds_the_chain_whole_after_it_all(lake, tmp_path):
    archived(lake)
    expire(lake, now=lake.clock() + 2 * DAY)
    found = audit(RawIndex(lake, tmp_path / "state"))
    (told,) = found.chains
    assert (told.whole, told.rows, told.files, told.hidden, told.archived) == (True, 3, 0, 1, 1)
