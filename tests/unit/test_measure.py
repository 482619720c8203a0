"""What the benches take from /proc: a wrong field there would make every published figure wrong."""

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).parents[2] / "bench" / "measure.py"
spec = importlib.util.spec_from_file_location("measure", PATH)
measure = importlib.util.module_from_spec(spec)
sys.modules["measure"] = measure
spec.loader.exec_module(measure)

STAT = "42 (a (b) c) {state} 1 7 3 0 -1 4194304 100 200 0 0 150 50 900 900 20 0 1 0 12345 0 0 18446744073709551615"
STATUS = "Name:\ta\nVmPeak:\t  900 kB\nVmHWM:\t    300 kB\nVmRSS:\t     20 kB\n"

BURN = """
import subprocess, sys, time
print("begun", flush=True)
burn = "import time\\nwhile time.process_time() < 0.3: pass"
child = subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE)
while open(f"/proc/{child.pid}/stat").read().rpartition(")")[2].split()[0] != "Z": time.sleep(0.01)
import os; os._exit(0)
"""
"""Its child's CPU is never waited for, as that of Spark's Java is not."""


def test_a_process_whose_name_holds_brackets_is_read_right() -> None:
    found = measure.parse(STAT.format(state="S"), STATUS)
    assert found == measure.Process(group=7, cpu=200 / measure.TICKS, peak_rss=300 * 1024)


def test_a_zombie_does_not_hide_what_was_seen_of_it_alive() -> None:
    assert measure.parse(STAT.format(state="Z"), "Name:\ta\n") is None


def test_children_that_nobody_waits_for_count(tmp_path: Path) -> None:
    usage = measure.run([sys.executable, "-c", BURN], tmp_path / "output", begun=lambda text: "begun" in text)
    assert usage.cpu > 0.1
    assert usage.start_cpu < usage.cpu


def test_a_command_that_fails_is_told_with_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(measure.Failed, match="no such thing"):
        measure.run([sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "output", begun=lambda _: True)


def test_done_stops_a_command_that_would_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    usage = measure.run(command, tmp_path / "output", begun=lambda _: True, done=lambda: True, limit_seconds=30)
    assert usage.peak_rss > 0


def test_the_table_lines_up() -> None:
    assert measure.table([{"name": "a", "n": "1"}, {"name": "long", "n": "22"}]) == "name   n\na      1\nlong  22"
