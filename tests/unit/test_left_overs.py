"""What dead writers left is swept; what a living writer holds never is, even if it stands still for days."""

from __future__ import annotations

import multiprocessing
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from engagement.lake import LocalLake
from engagement.lake.entry import TEMP_FOLDER
from engagement.lake.interface import LOCK_FOLDER

KEY = "processed/t/year=2026/month=03/day=11/hour=10/slot-00.parquet"
HOURS_6 = timedelta(hours=6)
LATER = datetime.now(UTC) + timedelta(days=3)
"""A clock by which every file is old."""
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path / "lake")


def swept(lake, *, now=LATER, remove=True):
    return [found.name for found in lake.left_overs(now, HOURS_6, remove=remove)]


def temporaries(lake):
    return sorted(path.name for path in (lake.root / TEMP_FOLDER).iterdir())


class StandsStill(LocalLake):
    """Stops its process in the middle of an object, as a laptop that sleeps does."""

    def _fill(self, handle, data):
        handle.write(data[:5])
        handle.flush()
        os.kill(os.getpid(), signal.SIGSTOP)
        super()._fill(handle, data[5:])


@pytest.fixture
def stopped(lake):
    """The process of a writer that stands still while it writes an object."""
    writer = FORK.Process(target=StandsStill(lake.root).put_new, args=(KEY, b"0123456789"))
    writer.start()
    os.waitid(os.P_PID, writer.pid, os.WSTOPPED)
    yield writer
    if writer.is_alive():
        os.kill(writer.pid, signal.SIGKILL)
    writer.join()


def test_a_writer_that_stands_still_keeps_its_file_and_finishes(lake, stopped):
    before = temporaries(lake)
    assert len(before) == 1
    assert swept(lake) == []
    assert temporaries(lake) == before
    os.kill(stopped.pid, signal.SIGCONT)
    stopped.join()
    assert stopped.exitcode == 0
    assert lake.read(KEY) == b"0123456789"


def test_what_a_killed_writer_left_is_swept(lake, stopped):
    (left,) = temporaries(lake)
    os.kill(stopped.pid, signal.SIGKILL)
    stopped.join()
    assert swept(lake, remove=False) == [f"{TEMP_FOLDER}/{left}"]
    assert temporaries(lake) == [left], "a dry run takes nothing"
    assert swept(lake) == [f"{TEMP_FOLDER}/{left}"]
    assert temporaries(lake) == []


def test_a_young_file_stays(lake):
    (lake.root / TEMP_FOLDER).mkdir(parents=True)
    (lake.root / TEMP_FOLDER / "1-1-x").write_bytes(b"half")
    assert swept(lake, now=datetime.now(UTC)) == []
    assert [(found.name, found.size) for found in lake.left_overs(LATER, HOURS_6, remove=True)] == [(f"{TEMP_FOLDER}/1-1-x", 4)]


def test_a_lake_without_left_overs_and_one_that_is_not_there(lake, tmp_path):
    lake.put_new(KEY, b"x")
    assert swept(lake) == []
    assert swept(LocalLake(tmp_path / "nowhere")) == []


def test_a_lock_that_is_held_stays_and_one_that_nobody_holds_goes(lake):
    with lake.lock("some/key"):
        assert swept(lake) == []
    assert swept(lake) == [f"{LOCK_FOLDER}/some~key.lock"]
    with lake.lock("some/key"):
        assert swept(lake) == []


def _count_up(root, times):
    lake = LocalLake(root)
    for _ in range(times):
        with lake.lock("counter"):
            path = root / "counter"
            number = int(path.read_text())
            path.write_text(str(number + 1))


def test_a_lock_that_is_swept_again_and_again_still_lets_in_one_at_a_time(lake):
    lake.root.mkdir()
    (lake.root / "counter").write_text("0")
    writers = [FORK.Process(target=_count_up, args=(lake.root, 300)) for _ in range(3)]
    for writer in writers:
        writer.start()
    swept_at_all = 0
    while any(writer.is_alive() for writer in writers):
        swept_at_all += len(swept(lake))
    for writer in writers:
        writer.join()
    assert (lake.root / "counter").read_text() == "900"
    assert swept_at_all > 0


def test_folders_without_objects_go_up_to_the_lake(lake):
    lake.put_new(KEY, b"x")
    lake.put_new("processed/t/year=2026/month=04/day=01/hour=00/slot-00.parquet", b"x")
    lake.prune("processed/t/year=2026/month=03/day=11")
    assert lake.read(KEY) == b"x"
    lake.delete(KEY)
    lake.prune("processed/t/year=2026/month=03/day=11")
    assert not (lake.root / "processed/t/year=2026/month=03").exists()
    assert (lake.root / "processed/t/year=2026/month=04/day=01").exists()
    lake.prune("processed/t/year=2026/month=03/day=11")
