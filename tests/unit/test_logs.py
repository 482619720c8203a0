"""Logs of our processes: JSON, and never a reason to stop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SPEAK = "from engagement.logs import to_stderr\nto_stderr('test')\nimport structlog\n"


def spoken(code, **given):
    return subprocess.run([sys.executable, "-c", SPEAK + code], text=True, check=False, **given)


def test_a_line_is_one_json_object_with_its_process():
    done = spoken("structlog.get_logger().info('flushed', partition=3)", stderr=subprocess.PIPE)
    (line,) = done.stderr.splitlines()
    found = json.loads(line)
    assert (found["event"], found["partition"], found["process"], found["level"]) == ("flushed", 3, "test", "info")


GO_ON = """
for number in range(3):
    structlog.get_logger().warning("lost", number=number)
import os, sys
sys.stdout.write("went on")
sys.stdout.flush()
os._exit(0)
"""


def test_a_full_disk_stops_nobody():
    with Path("/dev/full").open("wb") as full:
        done = spoken(GO_ON, stderr=full, stdout=subprocess.PIPE)
    assert (done.returncode, done.stdout) == (0, "went on")


def test_a_reader_that_is_gone_stops_nobody():
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = spoken(GO_ON, stderr=writing, stdout=subprocess.PIPE)
    finally:
        os.close(writing)
    assert (done.returncode, done.stdout) == (0, "went on")
