"""The lake's promises: one winner a name, whole objects or none, and a format that is fixed for life."""

from __future__ import annotations

import errno
import functools
import glob
import json
import multiprocessing
import os
from datetime import date

import lake_helpers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_race import claims
from lake_suite import *  # noqa: F403 - the tests that hold for every store
from lake_suite import KEY, race

from engagement.errors import PermanentError
from engagement.lake import LakeFormat, LakeUnavailable, LocalLake, open_lake


@pytest.fixture
def opener(tmp_path):
    return functools.partial(LocalLake, tmp_path / "lake")


@pytest.fixture
def processes():
    return "fork"


def visible(lake):
    """What a plain glob of any reader finds: shell and Python globs skip dot folders unless asked."""
    found = glob.glob("**/*", root_dir=lake.root, recursive=True)  # noqa: PTH207 - Path.glob shows dot folders
    return sorted(name for name in found if (lake.root / name).is_file())


def everything(lake):
    return sorted(str(path.relative_to(lake.root)) for path in lake.root.rglob("*") if path.is_file() and ".locks" not in path.parts)


def fail_at(monkeypatch, function, number=0):
    """`os.FUNCTION` fails at its call with this number as a full disk would."""
    real, calls = getattr(os, function), iter(range(10**6))

    def failing(*args, **kwargs):
        if next(calls) == number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, function, failing)


@pytest.mark.parametrize("function", ["fsync", "link"])
def test_a_put_that_fails_leaves_nothing(function, lake, monkeypatch):
    (lake.root / KEY).parent.mkdir(parents=True)
    fail_at(monkeypatch, function)
    with pytest.raises(LakeUnavailable, match=r"00000\.parquet: No space left on device"):
        lake.put_new(KEY, b"abc")
    assert everything(lake) == []
    assert lake.stat(KEY) is None
    monkeypatch.undo()
    lake.put_new(KEY, b"abc")


@pytest.mark.parametrize("function", ["fsync", "rename"])
def test_a_replacement_that_fails_leaves_the_old_object(function, lake, monkeypatch):
    old = lake.put_new("t/a.parquet", b"old")
    fail_at(monkeypatch, function)
    with pytest.raises(LakeUnavailable):
        lake.replace("t/a.parquet", b"new", old)
    assert lake.stat("t/a.parquet") == old
    assert lake.read("t/a.parquet") == b"old"
    assert everything(lake) == ["t/a.parquet"]


@pytest.mark.parametrize("number", range(8))
def test_wherever_fsync_fails_an_object_is_whole_or_absent(number, lake, monkeypatch):
    fail_at(monkeypatch, "fsync", number)
    try:
        lake.put_new(KEY, b"abc")
    except LakeUnavailable:
        # the folder's fsync comes after the link: the outcome is unknown, and the writer looks again
        assert lake.read(KEY) in (None, b"abc")
    else:
        assert lake.read(KEY) == b"abc"
    assert set(everything(lake)) <= {KEY}


def test_a_write_that_fails_leaves_nothing(lake, monkeypatch):
    from pathlib import Path

    real = Path.open

    def full(self, mode="r", *args, **kwargs):
        handle = real(self, mode, *args, **kwargs)
        if "w" in mode:
            handle.close()
            handle = os.fdopen(os.open("/dev/full", os.O_WRONLY), "wb")
        return handle

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(LakeUnavailable, match="No space left"):
        lake.put_new(KEY, b"abc")
    monkeypatch.undo()
    assert everything(lake) == []


def test_no_glob_sees_a_temporary_or_a_lock(lake, monkeypatch):
    seen = []
    real = os.link

    def looking(*args):
        seen.append((visible(lake), everything(lake)))
        real(*args)

    monkeypatch.setattr(os, "link", looking)
    with lake.lock(KEY):
        lake.put_new(KEY, b"abc")
    ((found, all_files),) = seen
    assert found == []
    assert len(all_files) == 1
    assert all_files[0].startswith(".tmp/")
    assert visible(lake) == [KEY]


def test_temporaries_of_two_lakes_in_one_process_never_meet(tmp_path):
    first, second = LocalLake(tmp_path), LocalLake(tmp_path)
    results = race(lambda name: claims(first if name else second, f"raw/{name}.parquet", b"%d" % name), 2)
    assert all(won for _, won in results)


def test_two_lakes_in_one_process_use_different_temporaries_for_one_key(tmp_path):
    with LocalLake(tmp_path)._temporary(KEY, b"first") as one, LocalLake(tmp_path)._temporary(KEY, b"second") as two:
        assert one != two
        assert one.read_bytes() == b"first"


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("")
    lake = LocalLake(tmp_path / "file" / "lake")
    with pytest.raises(LakeUnavailable):
        lake.put_new(KEY, b"")
    with pytest.raises(LakeUnavailable), lake.lock("x"):
        pass


def test_a_folder_where_an_object_should_be_is_unavailable(lake):
    (lake.root / "t").mkdir(parents=True)
    with pytest.raises(LakeUnavailable):
        lake.read("t")


# lake.json


def lake_json(folder):
    return json.loads((folder / "lake" / "lake.json").read_text())


def test_a_new_lake_records_how_it_is_cut(tmp_path):
    _, found = open_lake(lake_helpers.settings_of(tmp_path, slot_minutes=20, session_mode="client", session_gap_seconds=60))
    assert found == LakeFormat(1, 20, 60, "client", date(2020, 1, 1))
    assert lake_json(tmp_path) == {
        "format_version": 1, "slot_minutes": 20, "session_gap_seconds": 60, "session_mode": "client", "history_start": "2020-01-01",
    }  # fmt: skip


HASH_KEY = "a key of at least sixteen characters"


def hashed(folder, key=HASH_KEY, **wishes):
    return lake_helpers.settings_of(folder, user_ids="hashed", keep_bytes="none", hash_key=key, **wishes)


def test_a_lake_that_keeps_less_of_a_person_says_so_and_older_code_refuses_it(tmp_path):
    _, made = open_lake(hashed(tmp_path, keep_place="region", keep_locale="none"))
    told = {name: value for name, value in lake_json(tmp_path).items() if name.startswith(("format", "user", "keep"))}
    expected = {"format_version": 2, "user_ids": "hashed", "keep_place": "region", "keep_locale": "none", "keep_bytes": "none"}
    assert told == expected
    assert HASH_KEY not in (tmp_path / "lake" / "lake.json").read_text()
    assert open_lake(lake_helpers.settings_of(tmp_path))[1] == made, "a reader needs no key and no wishes"
    assert open_lake(hashed(tmp_path))[1] == made


def test_a_lake_of_hashed_ids_is_not_made_without_a_key(tmp_path):
    with pytest.raises(PermanentError, match="USER_IDS=hashed needs ENGAGEMENT_HASH_KEY"):
        open_lake(hashed(tmp_path, key=None))
    assert not (tmp_path / "lake" / "lake.json").exists()


def test_who_writes_a_lake_of_hashed_ids_needs_its_own_key(tmp_path):
    from engagement.raw.privacy import KeyMissing, Policy, stored_user_id

    _, made = open_lake(hashed(tmp_path))
    assert Policy.of(hashed(tmp_path), made).stored("u1") == stored_user_id(hashed(tmp_path), "u1") != "u1"
    for key, why in ((None, "set ENGAGEMENT_HASH_KEY"), ("x" * 20, "is not the key"), (f"{HASH_KEY},{HASH_KEY}", "is not the key")):
        with pytest.raises(KeyMissing, match=why):
            Policy.of(hashed(tmp_path, key=key), made)


def test_an_opener_without_wishes_takes_the_lake_as_it_is(tmp_path):
    _, made = open_lake(lake_helpers.settings_of(tmp_path, slot_minutes=20, history_start=date(2021, 1, 1)))
    assert open_lake(lake_helpers.settings_of(tmp_path))[1] == made


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("slot_minutes", 30),
        ("session_gap_seconds", 900),
        ("session_mode", "client"),
        ("keep_place", "region"),
        ("keep_locale", "none"),
        ("keep_bytes", "none"),
    ],
)
def test_what_is_fixed_for_life_is_refused_when_it_differs(name, other, tmp_path):
    open_lake(lake_helpers.settings_of(tmp_path))
    before = lake_json(tmp_path)
    with pytest.raises(PermanentError, match=f"ENGAGEMENT_{name.upper()}={other} but the lake .* was made with"):
        open_lake(lake_helpers.settings_of(tmp_path, **{name: other}))
    assert lake_json(tmp_path) == before


def test_the_same_wish_again_is_no_change(tmp_path):
    wishes = {"slot_minutes": 30, "session_mode": "client", "session_gap_seconds": 61, "history_start": date(2022, 2, 2)}
    lake, made = open_lake(lake_helpers.settings_of(tmp_path, **wishes))
    version = lake.stat("lake.json")
    assert open_lake(lake_helpers.settings_of(tmp_path, **wishes))[1] == made
    assert lake.stat("lake.json") == version


def test_the_history_start_moves_back(tmp_path):
    open_lake(lake_helpers.settings_of(tmp_path))
    _, found = open_lake(lake_helpers.settings_of(tmp_path, history_start=date(2019, 12, 31)))
    assert found.history_start == date(2019, 12, 31)
    assert lake_json(tmp_path)["history_start"] == "2019-12-31"


def test_the_history_start_never_moves_forward(tmp_path):
    open_lake(lake_helpers.settings_of(tmp_path))
    with pytest.raises(PermanentError, match="2020-01-02 is after the lake's own 2020-01-01: it may only be moved back"):
        open_lake(lake_helpers.settings_of(tmp_path, history_start=date(2020, 1, 2)))
    assert lake_json(tmp_path)["history_start"] == "2020-01-01"


def test_a_newer_format_is_refused(tmp_path):
    open_lake(lake_helpers.settings_of(tmp_path))
    path = tmp_path / "lake" / "lake.json"
    path.write_text(json.dumps(lake_json(tmp_path) | {"format_version": 3}))
    with pytest.raises(PermanentError, match="the lake has format 3, this code knows 2: update the code"):
        open_lake(lake_helpers.settings_of(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '{"format_version": 1}', '{"format_version": "x"}', '{"format_version": null}'])
def test_a_lake_json_of_somebody_else_is_refused(text, tmp_path):
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "lake.json").write_text(text)
    with pytest.raises(PermanentError, match=r"lake\.json is not readable"):
        open_lake(lake_helpers.settings_of(tmp_path))


@given(st.builds(LakeFormat, st.just(1), st.sampled_from([1, 60]), st.integers(60, 14400), st.sampled_from(["gap", "client"]), st.dates()))
def test_a_format_reads_back_as_written(made):
    assert LakeFormat.from_json(made.to_json()) == made


def _open_in_a_process(folder, results):
    results.put(open_lake(lake_helpers.settings_of(folder))[1])


def test_of_openers_at_once_all_see_one_lake(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_open_in_a_process, args=(tmp_path, results)) for _ in range(4)]
    for process in processes:
        process.start()
    assert len({results.get() for _ in processes}) == 1
    for process in processes:
        process.join()
