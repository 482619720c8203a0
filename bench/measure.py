"""What a measured command cost: CPU of its whole process tree, memory, wall time; and the machine it ran on.

A command leads a process group of its own, so its tree is every process of that group. CPU and peak memory are what /proc
said of each process when it was last seen; where the command has ended by itself, the kernel's account of it and of
the children it waited for is used if it is higher.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engagement.stack import processes

TICKS = os.sysconf("SC_CLK_TCK")
LOOK_SECONDS = 0.05
STOP_GRACE_SECONDS = 20.0


class Failed(Exception):
    """The command ended in error or did not end in time; the text holds the end of its output."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Cost of a command, in seconds and bytes; `start_*` is the part before it said that it had begun to work."""

    cpu: float
    start_cpu: float
    wall: float
    start_wall: float
    peak_rss: int


@dataclass(frozen=True, slots=True)
class Process:
    """What /proc says of one process: CPU seconds, peak memory in bytes."""

    group: int
    cpu: float
    peak_rss: int


def run(
    command: Sequence[str], output: Path, *, begun: Callable[[str], bool], done: Callable[[], bool] | None = None,
    environment: Mapping[str, str] | None = None, limit_seconds: float = 1800.0,
) -> Usage:  # fmt: skip
    """Run a command to its end, or until `done`, when it is stopped; raises Failed.

    `begun` is asked with its output so far until it says yes.
    """
    started = time.monotonic()
    start_cpu, start_wall, cpu, seen = None, 0.0, 0.0, dict[int, Process]()
    with output.open("wb") as sink:
        child = processes.start(command, sink, environment)
        try:
            while not os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                seen |= members(child.pid)
                cpu, wall = sum(process.cpu for process in seen.values()), time.monotonic() - started
                if start_cpu is None and begun(output.read_text(errors="replace")):
                    start_cpu, start_wall = cpu, wall
                if done and done():
                    break
                if wall > limit_seconds:
                    raise Failed(f"no end after {limit_seconds:.0f} s:\n{tail(output)}")
                time.sleep(LOOK_SECONDS)
            else:
                _, status, used = os.wait4(child.pid, 0)
                child.returncode = os.waitstatus_to_exitcode(status)
                cpu, wall = max(cpu, used.ru_utime + used.ru_stime), time.monotonic() - started
                if child.returncode or done:
                    raise Failed(f"ended with exit {child.returncode}:\n{tail(output)}")
        finally:
            processes.stop(child, STOP_GRACE_SECONDS)
    if start_cpu is None:
        raise Failed(f"never said that it had begun:\n{tail(output)}")
    return Usage(cpu, start_cpu, wall, start_wall, sum(process.peak_rss for process in seen.values()))


def members(leader: int) -> dict[int, Process]:
    """Living processes of a process group."""
    found = {int(folder.name): look(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()}
    return {pid: process for pid, process in found.items() if process and process.group == leader}


def look(folder: Path) -> Process | None:
    """One process by its folder in /proc; None where it is gone."""
    try:
        return parse((folder / "stat").read_text(), (folder / "status").read_text())
    except OSError:
        return None


def parse(stat: str, status: str) -> Process | None:
    """The texts of /proc/PID/stat and /proc/PID/status; None of a zombie, whose memory is gone already."""
    fields = stat.rpartition(")")[2].split()  # a name may hold spaces and brackets
    if fields[0] == "Z":
        return None
    peak = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)
    return Process(int(fields[2]), sum(int(ticks) for ticks in fields[11:13]) / TICKS, peak)


def tail(output: Path, lines: int = 15) -> str:
    """The end of a command's output."""
    return "\n".join(output.read_text(errors="replace").splitlines()[-lines:])


def parquet_files(folder: Path) -> list[tuple[int, int]]:
    """Bytes and rows of each Parquet file below a folder."""
    import pyarrow.parquet as pq

    paths = [path for path in folder.rglob("*.parquet") if "_spark_metadata" not in path.parts]
    return [(path.stat().st_size, pq.read_metadata(path).num_rows) for path in paths]


def machine() -> str:
    """Cores, memory and processor of this machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    models = [line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {models[0] if models else platform.machine()}"


def clean_environment(**settings: str) -> dict[str, str]:
    """The caller's environment without their settings: a measurement must not depend on them, nor reach their lake."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")} | settings


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Rows with the same columns as aligned text, first column to the left."""
    names = list(rows[0])
    widths = {name: max(len(name), *(len(row[name]) for row in rows)) for name in names}
    lines = [{name: name for name in names}, *rows]
    return "\n".join("  ".join(f"{line[name]:{'<' if name == names[0] else '>'}{widths[name]}}" for name in names) for line in lines)
