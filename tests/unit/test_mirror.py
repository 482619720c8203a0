"""The mirror of a distant lake: whole files by version, shared, bounded."""

from __future__ import annotations

import time

import pytest

from engagement.errors import PermanentError
from engagement.lake import Entry, LakeUnavailable
from engagement.lake.mirror import KEEP_SECONDS, Mirror

START = time.time()
"""Temporary files bear the machine's own time."""


class World:
    """Objects far away, and a clock."""

    def __init__(self, folder, limit=1000):
        self.now = START
        self.asked = []
        self.mirror = Mirror(folder, limit, lambda: self.now)

    def download(self, entry):
        self.asked.append(entry.key)
        return entry, iter([b"x" * (entry.size // 2), b"y" * (entry.size - entry.size // 2)])

    def get(self, *entries):
        return self.mirror.files(list(entries), self.download, 4)

    def held(self):
        return sorted(path.name for path in self.mirror.folder.rglob("*") if path.is_file())


@pytest.fixture
def world(tmp_path):
    return World(tmp_path / "mirror")


def entry(name, size=100, version="v1"):
    return Entry(f"t/year=2026/{name}.parquet", size, version)


def test_each_version_is_fetched_once_and_has_a_file_of_its_own(world):
    first, second = world.get(entry("a"), entry("a", version="v2"))
    assert first != second
    assert first.parent == second.parent == world.mirror.folder / "t" / "year=2026"
    assert world.get(entry("a"), entry("a", version="v2"), entry("a")) == [first, second, first]
    assert len(world.asked) == 2


def test_an_answer_that_is_short_is_no_file(world):
    def short(wanted):
        return wanted, iter([b"x"])

    with pytest.raises(LakeUnavailable, match=r"1 of 100 bytes came"):
        world.mirror.files([entry("a")], short, 1)
    assert world.held() == []


def test_of_an_object_that_is_gone_there_is_no_file(world):
    (path,) = world.mirror.files([entry("a")], lambda _entry: None, 1)
    assert not path.exists()


def test_what_was_used_longest_ago_goes_first(world):
    for number in range(12):
        world.now += 1
        world.get(entry(f"f{number:02}"))
    world.now += KEEP_SECONDS + 1
    world.get(entry("f00"))
    assert world.mirror.sweep() == 200
    assert world.held() == ["f00.v1.parquet", *(f"f{number:02}.v1.parquet" for number in range(3, 12))]


def test_nothing_goes_that_was_handed_out_just_now(world):
    for number in range(30):
        world.get(entry(f"f{number}"))
    assert world.mirror.sweep() == 0
    assert len(world.held()) == 30


def test_it_sweeps_by_itself_as_it_grows(world):
    for number in range(30):
        world.now += KEEP_SECONDS / 5
        world.get(entry(f"f{number}"))
    assert len(world.held()) <= 12


def test_what_a_killed_process_left_goes_too(world):
    world.get(entry("a"))
    left = world.mirror.folder / ".tmp" / "99999-0"
    left.write_bytes(b"half")
    world.now += 10 * 365 * 86400
    world.mirror.sweep()
    assert not left.exists()


def test_a_key_that_leads_out_of_the_lake_is_refused(world):
    for key in ("../../etc/passwd", "t/../../x", "/etc/passwd"):
        with pytest.raises(PermanentError, match="leads out of the lake"):
            world.get(Entry(key, 1, "v"))


def test_a_version_of_any_text_is_a_file_name(world):
    (path,) = world.get(entry("a", version='W/"../odd tag"'))
    assert path.parent == world.mirror.folder / "t" / "year=2026"
    assert path.exists()
