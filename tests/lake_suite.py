"""What every store of a lake promises: the same tests for the folder and for S3.

A test module takes them by `from lake_suite import *` and gives the fixture `opener`: a callable that can be pickled and
opens the same new lake each time; `processes` is how processes that write to it may be started.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import threading
from datetime import timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lake_race import claim_in_a_process, claims

from engagement.lake import AlreadyExists, Changed, Entry

KEY = "raw/session/5e5e5e5e-00000/00000000000000000000.parquet"
HIVE = "processed/app_events/year=2026/month=01/day=02/hour=03/slot-00.parquet"
LARGE = 33 << 20
"""Bytes that a store may send in pieces."""
_numbers = itertools.count()


@pytest.fixture
def lake(opener):
    return opener()


def keys(lake, prefix="", after=None):
    return [entry.key for entry in lake.list(prefix, after)]


def race(compete, number):
    """Results of so many threads that start together."""
    barrier, results = threading.Barrier(number), []

    def run(name):
        barrier.wait()
        results.append((name, compete(name)))

    threads = [threading.Thread(target=run, args=(name,)) for name in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == number
    return results


def test_an_object_is_there_whole_after_put(lake):
    entry = lake.put_new(KEY, b"abc")
    assert lake.read(KEY) == b"abc"
    assert lake.stat(KEY) == entry
    assert (entry.key, entry.size) == (KEY, 3)
    assert list(lake.list("raw")) == [entry]
    assert keys(lake) == [KEY]


def test_another_opener_sees_it_at_once(lake, opener):
    entry = lake.put_new(KEY, b"abc")
    assert list(opener().list("raw")) == [entry]


def test_a_taken_name_is_refused_and_the_object_stays(lake):
    before = lake.put_new(KEY, b"first")
    with pytest.raises(AlreadyExists, match=KEY):
        lake.put_new(KEY, b"second")
    assert lake.read(KEY) == b"first"
    assert lake.stat(KEY) == before


def test_bytes_of_any_kind_are_taken(lake):
    lake.put_new("t/view", memoryview(b"abc")[1:])
    lake.put_new("t/empty", b"")
    assert (lake.read("t/view"), lake.read("t/empty")) == (b"bc", b"")
    with lake.open("t/empty") as file:
        assert file.read() == b""


def test_of_many_threads_exactly_one_wins_a_name(lake):
    for round_ in range(10):
        key = f"raw/{round_}.parquet"
        results = race(lambda name, key=key: claims(lake, key, b"%d" % name), 8)
        winners = [name for name, won in results if won]
        assert len(winners) == 1
        assert lake.read(key) == b"%d" % winners[0]


def test_of_many_processes_exactly_one_wins_each_name(lake, opener, processes):
    context = multiprocessing.get_context(processes)
    barrier, results = context.Barrier(3), context.Queue()
    started = [context.Process(target=claim_in_a_process, args=(opener, name, barrier, results)) for name in range(3)]
    for process in started:
        process.start()
    found = dict(results.get(timeout=60) for _ in started)
    for process in started:
        process.join()
    for number in range(20):
        winners = [name for name, won in found.items() if won[number]]
        assert len(winners) == 1
        assert lake.read(f"raw/{number}.parquet") == b"%d" % winners[0]
    assert len(keys(lake)) == 20


def test_replace_changes_the_version(lake):
    old = lake.put_new("t/a.parquet", b"one")
    new = lake.replace("t/a.parquet", b"two", old)
    assert new.version != old.version
    assert lake.stat("t/a.parquet") == new
    assert lake.read("t/a.parquet") == b"two"


def test_replace_is_refused_for_an_object_that_changed_meanwhile(lake):
    noted = lake.replace("t/a.parquet", b"1", None)
    other = lake.replace("t/a.parquet", b"2", noted)
    with pytest.raises(Changed, match=r"t/a\.parquet"):
        lake.replace("t/a.parquet", b"3", noted)
    assert (lake.read("t/a.parquet"), lake.stat("t/a.parquet")) == (b"2", other)


def test_replace_of_nothing_is_refused_when_something_appeared(lake):
    lake.put_new("t/a.parquet", b"1")
    with pytest.raises(Changed):
        lake.replace("t/a.parquet", b"2", None)


def test_replace_of_something_is_refused_when_it_vanished(lake):
    noted = lake.put_new("t/a.parquet", b"1")
    lake.delete("t/a.parquet")
    with pytest.raises(Changed):
        lake.replace("t/a.parquet", b"2", noted)
    assert lake.stat("t/a.parquet") is None


def test_of_many_who_replace_one_version_exactly_one_wins(lake):
    for round_ in range(5):
        key = f"t/{round_}"
        noted = lake.put_new(key, b"old")

        def replaces(name, key=key, noted=noted):
            with lake.replacing(key):
                try:
                    lake.replace(key, b"%d" % name, noted)
                except Changed:
                    return False
                return True

        winners = [name for name, won in race(replaces, 8) if won]
        assert len(winners) == 1
        assert lake.read(key) == b"%d" % winners[0]


def test_while_replacing_no_replacement_is_lost(lake):
    def add_one(_name):
        for _ in range(3):
            while True:
                with lake.replacing("t/count"):
                    old = lake.stat("t/count")
                    try:
                        lake.replace("t/count", b"%d" % (int(lake.read("t/count") or b"0") + 1), old)
                        break
                    except Changed:
                        continue

    race(add_one, 4)
    assert lake.read("t/count") == b"12"


def test_a_lock_is_held_by_one_at_a_time(lake, opener):
    inside, most = [], []

    def enter(name):
        with opener().lock("t/work"):
            inside.append(name)
            most.append(len(inside))
            lake.stat("t/work")
            inside.remove(name)

    race(enter, 3)
    assert most == [1, 1, 1]


def test_a_lock_is_free_again_when_its_holder_fails(lake, opener):
    with pytest.raises(ValueError, match="on purpose"), lake.lock("work"):
        raise ValueError("on purpose")
    with opener().lock("work"):
        pass
    assert keys(lake) == []


def test_deleting_nothing_is_no_error(lake):
    lake.delete("t/nothing")


def test_what_was_deleted_is_gone_and_its_name_is_free(lake):
    lake.put_new(KEY, b"abc")
    lake.delete(KEY)
    assert lake.stat(KEY) is None
    assert keys(lake) == []
    lake.put_new(KEY, b"new")


def test_what_is_not_there_reads_as_nothing(lake):
    assert lake.stat("t/a") is None
    assert lake.read("t/a") is None
    assert keys(lake, "t") == []
    assert lake.written_at("t/a") is None
    with pytest.raises(FileNotFoundError):
        lake.open("t/a")


names = st.text("ab-./", min_size=1, max_size=6).filter(
    lambda name: not ({"", ".", ".."} & set(name.split("/"))) and not any(part.startswith(".") for part in name.split("/"))
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(names=st.lists(names, unique=True, max_size=6), after=names)
def test_a_listing_is_all_objects_behind_a_key_in_the_order_of_their_bytes(names, after, lake):
    folder = f"t{next(_numbers)}"
    made = [f"{folder}/{name.replace('/', '.d/')}.parquet" for name in names]
    for key in made:
        lake.put_new(key, b"")
    lake.put_new(f"{folder}-beside", b"")
    assert keys(lake, folder) == sorted(made, key=str.encode)
    assert keys(lake, f"{folder}/", f"{folder}/{after}") == [key for key in sorted(made, key=str.encode) if key > f"{folder}/{after}"]


def test_a_listing_of_everything_leaves_out_what_is_the_stores_own(lake):
    lake.put_new("b/a", b"")
    lake.put_new("a", b"")
    with lake.lock("work"):
        assert keys(lake) == ["a", "b/a"]


def test_a_file_holds_what_the_listing_showed_and_keeps_path_keys(lake):
    entry = lake.put_new(HIVE, b"abc")
    other = lake.put_new(KEY, b"def")
    first, second, again = lake.local([entry, other, entry])
    assert (first.read_bytes(), second.read_bytes(), again) == (b"abc", b"def", first)
    assert first.is_relative_to(lake.folder)
    assert first.parent.parts[-4:] == ("year=2026", "month=01", "day=02", "hour=03")
    assert first.suffix == ".parquet"


def test_a_file_of_a_replaced_object_holds_new_bytes_and_of_a_deleted_one_there_is_none(lake):
    old = lake.put_new(HIVE, b"old")
    assert [path.read_bytes() for path in lake.local([old])] == [b"old"]
    new = lake.replace(HIVE, b"new", old)
    assert [path.read_bytes() for path in lake.local([new])] == [b"new"]
    noted = lake.put_new(KEY, b"old")
    lake.replace(KEY, b"new", noted)
    assert [path.read_bytes() for path in lake.local([noted])] == [b"new"]
    lake.delete(KEY)
    gone = Entry(KEY, 3, "1")
    assert [path.exists() for path in lake.local([gone])] == [False]


def test_a_parquet_footer_is_read_without_the_rows(lake):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": list(range(100_000))}), sink)
    lake.put_new(KEY, memoryview(sink.getvalue()))
    with lake.open(KEY) as file:
        assert pq.read_metadata(file).num_rows == 100_000
    with lake.open(KEY) as file:
        assert pq.ParquetFile(file).read()["a"].to_pylist()[-1] == 99_999


def test_an_opened_object_shows_one_version(lake):
    old = lake.put_new(KEY, b"old")
    with lake.open(KEY) as file:
        lake.replace(KEY, b"new", old)
        assert file.read() == b"old"


def test_a_sink_makes_an_object_when_it_is_closed_and_only_then(lake):
    with lake.creating(KEY) as sink:
        sink.write(b"ab")
        assert lake.stat(KEY) is None
        sink.write(b"c")
    assert lake.read(KEY) == b"abc"
    with pytest.raises(AlreadyExists), lake.creating(KEY) as sink:
        sink.write(b"other")
    with contextlib.suppress(ValueError), lake.creating("t/failed") as sink:
        sink.write(b"half")
        raise ValueError
    with lake.creating("t/empty"):
        pass
    assert keys(lake) == [KEY, "t/empty"]


def test_a_large_object_is_claimed_replaced_and_read_whole(lake):
    data = memoryview(bytes(range(256)) * (LARGE // 256))
    made = lake.put_new("t/large", data)
    assert made == lake.stat("t/large")
    assert lake.read("t/large") == data
    with pytest.raises(AlreadyExists):
        lake.put_new("t/large", data)
    new = lake.replace("t/large", data[1:], made)
    with pytest.raises(Changed):
        lake.replace("t/large", data, made)
    assert lake.stat("t/large") == new
    (path,) = lake.local([new])
    assert path.read_bytes() == data[1:]


def test_what_was_written_was_written_about_now_by_the_stores_own_clock(lake):
    before = lake.clock()
    lake.put_new(KEY, b"abc")
    assert before - timedelta(seconds=1) <= lake.written_at(KEY) <= lake.clock() + timedelta(seconds=1)
    assert keys(lake) == [KEY]
