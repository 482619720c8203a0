"""Whole days rebuilt from the raw log, raw to big table: events a second, CPU, memory, and whether the cost grows in line with the days.

    .venv/bin/python bench/backfill.py [--days 1 10 30 90] [--events-per-day 1000000]

Wanted: 500,000 events/s on two cores, at most 3 GiB, and a cost a day that does not grow with the number of days.
The log (`synthetic`) is archived first and its raw objects expire but for the last of each chain, as history that old is found.
The days are rebuilt as `engagement backfill` does, table by table, with the gates in force, but without Dagster: a run adds its
start and its records of partitions and checks. A child process of its own does the work; making the archive is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import measure
import synthetic

from engagement import settings as settings_module
from engagement.lake import Lake, open_lake
from engagement.model import units
from engagement.raw import archive, expiry
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import refresh
from quality import gates

FIRST = date(2026, 3, 1)
WANTED_RATE = 500_000
WANTED_BYTES = 3 << 30
WANTED_GROWTH = 1.25
"""Seconds a day at the most days, to those at ten: more is not linear."""
CHUNK_DAYS = 7
"""Days rebuilt in one call; of the neighbours of a chunk only fragments are read."""
BEGUN = "begun"


def main() -> int:
    """Measure each number of days; 1 where something wanted was missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--days", type=int, nargs="+", default=[1, 10, 30, 90])
    options.add_argument("--events-per-day", type=int, default=1_000_000)
    options.add_argument("--json", action="store_true")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        rebuild(asked.child, asked.days[0])
        return 0
    with tempfile.TemporaryDirectory(prefix="backfill-") as folder:
        found = [measured(Path(folder) / str(days), days, asked.events_per_day) for days in sorted(asked.days)]
    print(json.dumps(found) if asked.json else text(found, asked.events_per_day))
    return 0 if met(found) else 1


def measured(folder: Path, days: int, events_per_day: int) -> dict[str, float]:
    """One lake made, its days rebuilt in a child, and the lake removed."""
    import shutil

    lake, _ = open_lake(settings_of(folder))
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(make, lake, events_per_day), days_of(days)))
    later = datetime.now(UTC) + timedelta(days=999)
    archive.archive(lake, now=later, after=timedelta(0))
    expiry.expire(lake, grace=timedelta(0), now=later)
    command = [sys.executable, __file__, "--child", str(folder), "--days", str(days)]
    usage = measure.run(
        command, folder / "output.txt", begun=lambda output: BEGUN in output, environment=measure.clean_environment(), limit_seconds=7200
    )
    rows = sum(count for _, count in measure.parquet_files(lake.path(units.EVENTS)))
    shutil.rmtree(folder)
    expected = days * synthetic.events_of(events_per_day)
    if rows != expected:
        raise measure.Failed(f"{days} days: {rows} events in the tables, expected {expected}")
    events, wall, cpu = days * events_per_day, usage.wall - usage.start_wall, usage.cpu - usage.start_cpu
    return {"days": days, "events": events, "wall": wall, "cpu": cpu, "rate": events / wall, "rss": usage.peak_rss}


def make(lake: Lake, events_per_day: int, day: date) -> None:
    """The raw objects of one day."""
    synthetic.write_day(lake, day, events_per_day)


def rebuild(folder: Path, days: int) -> None:
    """The child's work."""
    rebuild_of(settings_of(folder), days)


def rebuild_of(settings: Settings, days: int) -> None:
    """Rebuild all days, as a backfill's runs do one after another."""
    with open_tables(settings) as context:
        judges = gates.Gates(context)
        context.judge, context.judge_all = judges.judge, judges.judge_all
        print(BEGUN, flush=True)
        wanted = days_of(days)
        for start in range(0, days, CHUNK_DAYS):
            began = time.perf_counter()
            chunk = wanted[start : start + CHUNK_DAYS]
            refresh.days(context, chunk, rebuild=True)
            print(f"{chunk[0]} to {chunk[-1]}: {time.perf_counter() - began:.1f} s", flush=True)


def days_of(count: int) -> list[date]:
    """So many days."""
    return [FIRST + timedelta(days=number) for number in range(count)]


def settings_of(folder: Path) -> Settings:
    """A lake in the folder, nothing of the caller's."""
    return settings_module.load({}, folder, lake_url=f"{folder}/lake", state_dir=folder / "state")


def met(found: list[dict[str, float]]) -> bool:
    """Whether all that is wanted was reached."""
    return all(row["rate"] >= WANTED_RATE and row["rss"] <= WANTED_BYTES for row in found) and growth(found) <= WANTED_GROWTH


def growth(found: list[dict[str, float]]) -> float:
    """CPU a day at the most days to CPU a day at ten, or at the fewest."""
    a_day = {int(row["days"]): row["cpu"] / row["days"] for row in found}
    return a_day[max(a_day)] / a_day.get(10, a_day[min(a_day)])


def text(found: list[dict[str, float]], events_per_day: int) -> str:
    """The table for people."""
    return "\n".join(lines(found, events_per_day))


def lines(found: list[dict[str, float]], events_per_day: int) -> Iterator[str]:
    """Its lines."""
    yield f"{measure.machine()}, load {os.getloadavg()[0]:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {events_per_day:,} events a day"
    yield measure.table(
        [
            {
                "days": f"{row['days']:,}",
                "events": f"{row['events']:,}",
                "wall s": f"{row['wall']:,.1f}",
                "events/s": f"{row['rate']:,.0f}",
                "CPU-s": f"{row['cpu']:,.1f}",
                "events/CPU-s": f"{row['events'] / row['cpu']:,.0f}",
                "peak MiB": f"{row['rss'] / 2**20:,.0f}",
            }
            for row in found
        ]
    )
    verdict = "met" if met(found) else "MISSED"
    yield f"wanted {WANTED_RATE:,} events/s, {WANTED_BYTES >> 20:,} MiB; CPU a day grew {growth(found):.2f} times: {verdict}"


if __name__ == "__main__":
    sys.exit(main())
