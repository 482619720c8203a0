"""The lake that fails on purpose comes to every point in order, and leaves what a crash there would leave."""

from __future__ import annotations

import errno
import os

import pytest
from faults.faulty_lake import FaultyLake

from engagement.lake import AlreadyExists, LakeUnavailable, LocalLake

KEY = "raw/session/5e5e5e5e-00000/00000000000000000000.parquet"


@pytest.fixture
def seen():
    return []


def lake_of(folder, seen, fails=None, **options):
    def reach(point, key):
        temporaries = [path.stat().st_size for path in (folder / ".tmp").glob("*")]
        seen.append((point, key, temporaries, LocalLake(folder).read(KEY)))
        if point == fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return FaultyLake(folder, reach, lambda event, key: seen.append((event, key)), **options)


def test_the_points_are_where_their_names_say(tmp_path, seen):
    lake = lake_of(tmp_path, seen)
    lake.put_new(KEY, b"abcd")
    assert list(lake.list("raw/session"))
    assert seen == [
        ("before", KEY, [], None),
        ("half", KEY, [2], None),
        ("written", KEY, [4], None),
        ("claimed", KEY),
        ("linked", KEY, [4], b"abcd"),
        ("list", "raw/session", [], b"abcd"),
    ]


@pytest.mark.parametrize("point", ["before", "half", "written"])
def test_an_error_before_the_name_leaves_nothing(point, tmp_path, seen):
    with pytest.raises(LakeUnavailable, match="No space left"):
        lake_of(tmp_path, seen, point).put_new(KEY, b"abcd")
    assert LocalLake(tmp_path).read(KEY) is None
    assert list((tmp_path / ".tmp").glob("*")) == []


def test_an_answer_lost_leaves_the_object(tmp_path, seen):
    with pytest.raises(LakeUnavailable):
        lake_of(tmp_path, seen, "linked").put_new(KEY, b"abcd")
    assert LocalLake(tmp_path).read(KEY) == b"abcd"


def test_a_listing_that_fails_is_unavailable(tmp_path, seen):
    with pytest.raises(LakeUnavailable):
        list(lake_of(tmp_path, seen, "list").list("raw/session"))


def test_a_refused_claim_is_reported(tmp_path, seen):
    LocalLake(tmp_path).put_new(KEY, b"first")
    with pytest.raises(AlreadyExists):
        lake_of(tmp_path, seen).put_new(KEY, b"second")
    assert seen[-1] == ("refused", KEY)
    assert LocalLake(tmp_path).read(KEY) == b"first"


def test_the_planted_defect_overwrites(tmp_path, seen):
    LocalLake(tmp_path).put_new(KEY, b"first")
    lake_of(tmp_path, seen, overwrites=True).put_new(KEY, b"second")
    assert LocalLake(tmp_path).read(KEY) == b"second"


def test_what_is_no_raw_object_is_left_alone(tmp_path, seen):
    lake_of(tmp_path, seen, "half").put_new("lake.json", b"{}")
    assert seen == []
