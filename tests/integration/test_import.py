"""Real import processes that are killed and interrupted: the next one goes on, and no row is lost or doubled."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from helpers import eventually

ROOT = Path(__file__).parents[2]
ROWS = 60_000
CUT = 2_000
STANDS = "IMPORT_STANDS"
"""Where this is set, the fourth object is put when the folder has a file `go`."""
PROGRAM = f"""
import os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # children of a background job inherit that it is ignored
from engagement import cli
from engagement.ingest import importer
importer.ROWS_PER_OBJECT, importer.ROWS_WORTH_PROCESSES = {CUT}, 0
put = importer.files.write
def stands(lake, chain, begin, *rest):
    while begin == 3 * {CUT} and "{STANDS}" in os.environ and not Path("go").exists():
        time.sleep(0.01)
    return put(lake, chain, begin, *rest)
importer.files.write = stands
if __name__ == "__main__":
    sys.exit(cli.run(["import", *sys.argv[1:]]))
"""


def event(number):
    return {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}",
        "user_id": f"u{number}" if number % 1000 else "",
        "event_type": "tap",
        "timestamp": f"2025-01-02T03:{number // 60 % 60:02d}:{number % 60:02d}.5Z",
        "app_version": "3.2.0",
    }


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    """The same events as JSON lines and as CSV."""
    folder = tmp_path_factory.mktemp("history")
    with (folder / "a.jsonl").open("w") as plain, (folder / "a.csv").open("w", newline="") as table:
        writer = csv.DictWriter(table, event(0))
        writer.writeheader()
        for number in range(ROWS):
            plain.write(json.dumps(event(number)) + "\n")
            writer.writerow(event(number))
    return folder


@pytest.fixture
def start(tmp_path):
    """Starts the command, with small objects and always with processes, as a child that leads its own group."""
    (tmp_path / "program.py").write_text(PROGRAM)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    environment = inherited | {"PYTHONPATH": str(ROOT), "ENGAGEMENT_LAKE_URL": str(tmp_path / "lake"), "ENGAGEMENT_THREADS": "2"}
    children = []

    def start(*arguments, stands=False):
        told = {STANDS: "1"} if stands else {}
        argv = [sys.executable, str(tmp_path / "program.py"), *map(str, arguments)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        children.append(subprocess.Popen(argv, cwd=tmp_path, env=environment | told, start_new_session=True, **pipes))
        return children[-1]

    yield start
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()


@pytest.fixture
def objects(tmp_path):
    return lambda: sorted((tmp_path / "lake" / "raw").rglob("*.parquet"))


def finish(child):
    out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    return json.loads(out)


def rows_of(paths):
    return [row for path in paths for row in pq.ParquetFile(path).read(["kafka_offset", "event_id", "reject_reason"]).to_pylist()]


def expected():
    made = []
    for number in range(ROWS):
        found = event(number)
        good = bool(found["user_id"])
        made.append(
            {"kafka_offset": number, "event_id": found["event_id"] if good else None, "reject_reason": None if good else "missing:user_id"}
        )
    return made


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_an_import_killed_in_the_middle_is_finished_by_the_next_one_and_leaves_no_process(name, history, start, objects):
    child = start(history / name, "--json")
    eventually(lambda: len(objects()) >= 3, 120, 0.01)
    family = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    child.wait()
    stood = {path: path.read_bytes() for path in objects()}
    assert 3 <= len(stood) < ROWS // CUT, "it was to be killed in the middle"
    assert len(family) >= 2, "there was to be more than one process"
    eventually(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))
    report = finish(start(history / name, "--json"))
    assert report["files"][0]["first_row"] == len(stood) * CUT + 1
    assert report["files"][0]["objects_written"] == ROWS // CUT - len(stood)
    assert report["rejects"] == {"missing:user_id": ROWS // 1000}
    assert {path: path.read_bytes() for path in stood} == stood
    assert rows_of(objects()) == expected()
    before = [(path, path.stat().st_mtime_ns) for path in objects()]
    assert finish(start(history / name, "--json"))["files"][0]["objects_written"] == 0
    assert [(path, path.stat().st_mtime_ns) for path in objects()] == before


def test_ctrl_c_ends_all_processes_with_one_line_and_what_is_written_stays(history, start, objects, tmp_path):
    child = start(history / "a.jsonl", stands=True)
    eventually(lambda: len(objects()) == 3, 120, 0.01)
    family = psutil.Process(child.pid).children(recursive=True)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: every process of the group gets it
    (tmp_path / "go").touch()
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, "")
    assert err.splitlines() == ["engagement: interrupted; the same command goes on where this one stopped"]
    eventually(lambda: not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in family))
    stood = len(objects())
    report = finish(start(history / "a.jsonl", "--json"))
    assert report["files"][0]["first_row"] == stood * CUT + 1
    assert rows_of(objects()) == expected()


def test_two_imports_of_the_same_bytes_at_once_write_each_row_once(history, start, objects):
    children = [start(history / "a.jsonl", "--json") for _ in range(2)]
    reports = [finish(child)["files"][0] for child in children]
    assert sum(report["objects_written"] for report in reports) == ROWS // CUT
    assert {report["rejects"]["missing:user_id"] for report in reports} == {ROWS // 1000}
    assert rows_of(objects()) == expected()
