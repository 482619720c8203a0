"""What checks cost over an hour of a million events: gates, the DuckDB twin of all suites, and Deequ with Spark's start.

    .venv/bin/python bench/checks.py [--events 1000000] [--hours 3] [--json]

Wanted: gates at most 1 CPU-second an hour, the full Deequ suites at most 40 with Spark's start and 2 GiB, and hours that are due
together share one start. Each is measured in a process of its own, by what it and all that it starts use. Gates are beside the
refresh that they are part of.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import crowd
import measure
import psutil
import pyarrow.compute as pc
import tick

from engagement import settings as settings_module
from engagement.model import units
from engagement.settings import Settings
from engagement.tables.context import TableContext, open_tables
from engagement.tables.objects import Candidate
from engagement.verdicts.result import Period, Status
from engagement.waiting import refresh
from quality import checking, gates

FIRST = tick.HOUR
WANTED = {"gates": 1.0, "deequ, one hour": 40.0}
WANTED_BYTES = 2 << 30


def main() -> int:
    """Measure and print; 1 where something wanted was missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=1_000_000, help="of each hour, copies included")
    options.add_argument("--hours", type=int, default=3)
    options.add_argument("--json", action="store_true")
    options.add_argument("--child", choices=list(WORK), help=argparse.SUPPRESS)
    options.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        WORK[asked.child](asked.folder, asked.hours)
        return 0
    with tempfile.TemporaryDirectory(prefix="bench-checks-") as folder:
        make(Path(folder), asked.events, asked.hours)
        found = {name: measured(Path(folder), name, asked.hours) for name in WORK}
    print(json.dumps(found) if asked.json else "\n".join(lines(found, asked.events, asked.hours)))
    return 0 if met(found) else 1


def make(folder: Path, events: int, hours: int) -> None:
    """Hours of so many events, their tables made."""
    settings = settings_of(folder)
    with open_tables(settings) as context:
        drawn = crowd.draw(events * hours, FIRST, 3600 * hours, late=0.0)
        tick.append(context, drawn)
        refresh.hours(context, [FIRST + number * units.HOUR for number in range(hours)])


def settings_of(folder: Path) -> Settings:
    """A lake in the folder, nothing of the caller's."""
    return settings_module.load({}, folder, lake_url=f"{folder}/lake", state_dir=folder / "state", threads=1)


def measured(folder: Path, name: str, hours: int) -> dict[str, float]:
    """One piece of work in a child, which says what it used."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder), "--hours", str(hours)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=measure.clean_environment(), check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


class _Used:
    """CPU of this process and of all that it starts, as long as they live, and their memory together at its most."""

    def __init__(self) -> None:
        self._mine, self._seen, self._rss = time.process_time(), {}, 0
        self._over = threading.Event()
        self._began = time.perf_counter()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        wall = time.perf_counter() - self._began
        self._over.set()
        self._watcher.join()
        cpu = time.process_time() - self._mine + sum(self._seen.values())
        print(json.dumps({"cpu": cpu, "wall": wall, "rss": self._rss}))

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            rss = psutil.Process().memory_info().rss
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    times = child.cpu_times()
                    self._seen[child.pid] = times.user + times.system
                    rss += child.memory_info().rss
            self._rss = max(self._rss, rss)


def _refresh(folder: Path) -> None:
    with open_tables(settings_of(folder)) as context:
        refresh.hours(context, [FIRST], rebuild=True)  # warm: the first queries of a process load and plan everything
        with _Used():
            refresh.hours(context, [FIRST], rebuild=True)


def _gates(folder: Path) -> None:
    """The gates of all tables of the hour alone, over the rows that stand."""
    with open_tables(settings_of(folder)) as context:
        made = []
        for table, key in (
            (units.EVENTS, units.slot_key(units.EVENTS, FIRST)), (units.SESSIONS, units.slot_key(units.SESSIONS, FIRST)),
            (units.BIG_TABLE, units.hours_key(FIRST.date())),
        ):  # fmt: skip
            entry = context.lake.stat(key)
            rows = context.table_of(f"SELECT * FROM {context.relation([entry], table)}", {}, table)
            of_hour = rows.filter(pc.equal(rows["hour"], FIRST.hour)) if table == units.BIG_TABLE else rows
            made.append((table, Candidate(of_hour, context.footers.of(entry), FIRST, key)))
        for _ in range(2):  # the second time counts
            with _Used():
                failed = [gates.verdict(gates.judge(context, table, candidate)) for table, candidate in made]
        if any(failed):
            raise measure.Failed(str(failed))


def _check(folder: Path, hours: int, engine: checking.Engine) -> None:
    with open_tables(settings_of(folder)) as context, _Used():
        _require_passed(context, [Period(FIRST + number * units.HOUR) for number in range(hours)], engine)


def _require_passed(context: TableContext, periods: list[Period], engine: checking.Engine) -> None:
    wrong = [
        (result.check, result.message)
        for result in checking.check(context, periods, engine=engine)
        if result.status is Status.BROKEN or (result.status is Status.FAILED and result.is_error)
    ]
    if wrong:
        raise measure.Failed(f"{engine}: {wrong}")


WORK: dict[str, Callable[[Path, int], None]] = {
    "refresh of an hour": lambda folder, _: _refresh(folder),
    "gates": lambda folder, _: _gates(folder),
    "twin of all suites, one hour": lambda folder, _: _check(folder, 1, "duckdb"),
    "deequ, one hour": lambda folder, _: _check(folder, 1, "deequ"),
    "deequ, hours together": lambda folder, hours: _check(folder, hours, "deequ"),
}


def met(found: dict[str, dict[str, float]]) -> bool:
    """Whether all that is wanted was reached."""
    return all(found[name]["cpu"] <= most for name, most in WANTED.items()) and found["deequ, one hour"]["rss"] <= WANTED_BYTES


def lines(found: dict[str, dict[str, float]], events: int, hours: int) -> Iterator[str]:
    """The table for people."""
    yield f"{measure.machine()}, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, hours of {events:,} events"
    yield measure.table(
        [
            {
                "what": name,
                "CPU s": f"{row['cpu']:.2f}",
                "wall s": f"{row['wall']:.1f}",
                "peak MiB": f"{row['rss'] / 2**20:,.0f}",
            }
            for name, row in found.items()
        ]
    )
    together = found["deequ, hours together"]["cpu"]
    yield f"{hours} hours with one start of Spark: {together:.1f} CPU-s, {together / hours:.1f} an hour"
    wanted = ", ".join(f"{name} {most:g} CPU-s" for name, most in WANTED.items())
    yield f"wanted at most {wanted}, {WANTED_BYTES >> 20:,} MiB: {'met' if met(found) else 'MISSED'}"


if __name__ == "__main__":
    sys.exit(main())
