"""Erasing one user from a lake of many days: seconds of rewriting, which grow with the hours they were active in, and of the scan.

    .venv/bin/python bench/erasure.py [--days 10] [--events-per-day 100000] [--lake FOLDER]

Wanted: 90 days of 1,000,000 events in at most 10 minutes on two cores. Every user of these days is active on each of them, a
few hours a day (`synthetic`). The log is archived, its raw objects expire but for the last of each chain, and all tables are
made first. That is not counted and takes longer than what is measured: with `--lake` it is kept there, and used again by the
next run, which erases the next user.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import measure
import synthetic

from engagement import settings as settings_module
from engagement.erasure.forget import forget
from engagement.lake import open_lake
from engagement.raw import archive, erasures, expiry
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import refresh

FIRST = date(2026, 3, 1)
WANTED_SECONDS = 600.0
CHUNK_DAYS = 7
KEY = "a key for the bench of erasure"


def main() -> int:
    """Measure one erasure; 1 where it is not over after one run."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--days", type=int, default=10)
    options.add_argument("--events-per-day", type=int, default=100_000)
    options.add_argument("--lake", type=Path)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="erasure-") as folder:
        settings = made(asked.lake or Path(folder), asked.days, asked.events_per_day)
        found = measured(settings)
    found |= {"days": asked.days, "events_per_day": asked.events_per_day}
    print(json.dumps(found) if asked.json else text(found))
    return 0 if found["done"] else 1


def made(folder: Path, days: int, events: int) -> Settings:
    """The lake: archived, all tables made; one that is there already is taken as it is."""
    settings = settings_module.load({}, folder, lake_url=str(folder / "lake"), state_dir=folder / "state", hash_key=KEY)
    lake, lake_format = open_lake(settings)
    if next(iter(lake.list("archive")), None) is None:
        for number in range(days):
            synthetic.write_day(lake, FIRST + timedelta(days=number), events, lake_format.slot_minutes)
            _say(f"day {number + 1} of {days} written")
        archive.archive(lake, now=datetime.now(UTC) + timedelta(days=999), after=timedelta(0))
        expiry.expire(lake, grace=timedelta(0), now=datetime.now(UTC) + timedelta(days=999))
    with open_tables(settings) as context:
        wanted = [FIRST + timedelta(days=number) for number in range(days)]
        lacking = [day for day in wanted if context.lake.stat(_last_key(day)) is None]
        for start in range(0, len(lacking), CHUNK_DAYS):
            refresh.days(context, lacking[start : start + CHUNK_DAYS], rebuild=True)
            _say(f"{min(len(lacking), start + CHUNK_DAYS)} of {len(lacking)} days rebuilt")
    return settings


def measured(settings: Settings) -> dict[str, float | int | bool]:
    """Erase the next user and say what it took."""
    lake, _ = open_lake(settings)
    user = synthetic.user_id(erasures.length(lake))
    before, began = time.process_time(), time.monotonic()
    report = forget(settings, [user], progress=lambda what, done, total: _say(f"{what} {done:,} of {total:,}"))
    counts = report.counts()
    return {
        "done": report.done, "seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - before,
        "scan_seconds": report.seconds["scan"], "other_seconds": report.seconds["rewrite"],
        "scanned_objects": report.scanned_objects, "scanned_mib": report.scanned_bytes / 2**20,
        "hours_active": len({item.key for item in report.objects if item.key.startswith("processed/app_events/")}),
        "rewritten": counts.get("rewritten", 0), "rebuilt": counts.get("rebuilt", 0), "rows": sum(item.rows for item in report.objects),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip


def text(found: dict[str, float | int | bool]) -> str:
    """The result for people."""
    size = f"{found['days']} days of {found['events_per_day']:,} events"
    row = {name: f"{value:,.1f}" if isinstance(value, float) else f"{value:,}" for name, value in found.items() if name != "done"}
    over = "done" if found["done"] else "NOT over after one run"
    return f"{size}, {measure.machine()}: {over}, wanted at most {WANTED_SECONDS:.0f} s for 90 days of 1,000,000\n{measure.table([row])}"


def _last_key(day: date) -> str:
    from engagement.model import units

    return units.day_key(day)


def _say(what: str) -> None:
    print(what, end="\r", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
