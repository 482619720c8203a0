"""The live path beside a backfill of 90 days: how old numbers are without it, with it, and without it again, in one running demo.

    .venv/bin/python bench/beside.py [--rate 100] [--seconds 240] [--filled 20] [--events-per-day 1000000]

Wanted: the live path's p95 at most 10 % worse. The lake begins with 20 days of 1,000,000 events, archived and in the tables, as a
lake of some age is; then a demo runs on it, flushing every 10 s and gathering late rows as a real pipeline does. What it
sends first is judged by the suites before anything is measured. The backfill asks the demo's daemon for 90 days, of which the
filled ones come first: more than the measured time can rebuild. It is withdrawn for the last stretch. Latency is defined in the
interface: from log-append time to the first look that finds the record covered by its hour row.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import backfill
import latency
import measure

from engagement.lake import open_lake
from engagement.raw import archive, expiry
from engagement.settings import Settings, load
from engagement.stack import processes
from engagement.stack.broker import Broker
from engagement.stack.latency import LakeWatch, Latency

DAYS = 90
WANTED = 1.10
POLL_SECONDS = 0.5
STARTS_SECONDS = 600
QUIET_SECONDS = 60
SETTLES_SECONDS = 45
LATE = {"ENGAGEMENT_LATE_MINUTES": "15", "ENGAGEMENT_LATE_ROWS": "100000"}
"""The pipeline's own; a demo gathers late rows every minute, for show, and has their hours judged anew as often."""
ENGAGEMENT = [sys.executable, "-m", "engagement"]


def main() -> int:
    """Measure; 1 where the p95 with the backfill is more than a tenth worse than the mean of those around it."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rate", type=float, default=100.0, help="live events a second")
    options.add_argument("--seconds", type=int, default=240, help="length of each stretch")
    options.add_argument("--filled", type=int, default=20, help="days of the backfill that hold events")
    options.add_argument("--events-per-day", type=int, default=1_000_000)
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    when = f"load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    print(f"{measure.machine()}, {when}, {asked.rate:g} events/s live, days of {asked.events_per_day:,} events", flush=True)
    with tempfile.TemporaryDirectory(prefix="beside-") as name, ExitStack() as stack:
        folder = Path(name)
        broker = stack.enter_context(Broker(folder / "kafka"))
        environment = latency.environment(folder, broker.bootstrap, 10) | LATE
        settings = load({name: text for name, text in environment.items() if name.startswith("ENGAGEMENT_")}, folder)
        fill(settings, asked.filled, asked.events_per_day)
        log = stack.enter_context((folder / "demo.log").open("wb"))
        child = processes.start([*ENGAGEMENT, "demo", "--rate", str(asked.rate)], log, environment)
        stack.callback(processes.stop, child, 60)
        started(settings)
        found = [stretch(settings, asked.seconds)]
        first, last = backfill.FIRST, backfill.FIRST + timedelta(days=DAYS - 1)
        command = [*ENGAGEMENT, "backfill", "--from", str(first), "--to", str(last), "--detach"]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        time.sleep(SETTLES_SECONDS)
        found.append(stretch(settings, asked.seconds))
        done = rebuilt(settings)
        time.sleep(SETTLES_SECONDS)
        found.append(stretch(settings, asked.seconds))
    ratio = 2 * found[1][1] / (found[0][1] + found[2][1])
    names = ("before", "beside the backfill", "after")
    print(measure.table([row(name, *numbers) for name, numbers in zip(names, found, strict=True)]))
    verdict = "met" if ratio <= WANTED else "MISSED"
    print(
        f"p95 {ratio:.2f} times that of the stretches around it (wanted {WANTED}): {verdict}; {done} runs of the backfill ended meanwhile"
    )
    return 0 if ratio <= WANTED else 1


def row(name: str, p50: float, p95: float, count: int) -> dict[str, str]:
    """One line of the table."""
    return {"": name, "p50 s": f"{p50:.1f}", "p95 s": f"{p95:.1f}", "records": f"{count:,}"}


def fill(settings: Settings, days: int, events_per_day: int) -> None:
    """The history, in the archive and in the tables."""
    lake, _ = open_lake(settings)
    with ProcessPoolExecutor() as pool:
        list(pool.map(partial(backfill.make, lake, events_per_day), backfill.days_of(days)))
    later = datetime.now(UTC) + timedelta(days=999)
    archive.archive(lake, now=later, after=timedelta(0))
    expiry.expire(lake, grace=timedelta(0), now=later)
    backfill.rebuild_of(settings, days)


def started(settings: Settings) -> None:
    """Until the demo has sent its history, and the suites have been quiet for a while after they judged it."""
    deadline = time.monotonic() + STARTS_SECONDS
    judged, quiet_since = 0, deadline
    while not judged or time.monotonic() - quiet_since < QUIET_SECONDS:
        if time.monotonic() > deadline:
            raise measure.Failed("the demo did not start, or its history was not judged")
        time.sleep(1)
        if (settings.state_dir / "history-sent").exists():
            judged, under_way = suites(settings)
            quiet_since = time.monotonic() if under_way else min(quiet_since, time.monotonic())


def suites(settings: Settings) -> tuple[int, int]:
    """Runs of the suites that ended well, and those that are under way."""
    from dagster import DagsterRunStatus, RunsFilter

    from engagement_assets.local_runs import local_instance
    from resources import tags
    from sensors import arrivals, settled

    lane = {tags.LANE: settled.LANE}
    with local_instance(settings) as instance:
        done = instance.get_runs_count(RunsFilter(tags=lane, statuses=[DagsterRunStatus.SUCCESS]))
        return done, instance.get_runs_count(RunsFilter(tags=lane, statuses=arrivals.UNDER_WAY))


def stretch(settings: Settings, seconds: int) -> tuple[float, float, int]:
    """p50 and p95 in seconds of the records of a stretch of time, and how many they are."""
    watch = LakeWatch(settings)
    known: dict[str, int] = {}
    watch.new_files(known)
    found = Latency(datetime.now(UTC), watch.times_of)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(POLL_SECONDS)
        now = datetime.now(UTC)
        found.poll(now, watch.new_files(known), watch.coverage(now), watch.newest(now))
    watch.close()
    p50, p95 = found.percentile(0.5), found.percentile(0.95)
    if p50 is None or p95 is None:
        raise measure.Failed("no record was seen")
    print(f"p50 {p50:.1f} s, p95 {p95:.1f} s", file=sys.stderr, flush=True)
    return p50, p95, len(found.seconds)


def rebuilt(settings: Settings) -> int:
    """Withdraw the backfill; how many of its runs have ended."""
    from dagster import DagsterRunStatus, RunsFilter

    from engagement_assets.local_runs import local_instance
    from resources import tags
    from sensors import backfills

    with local_instance(settings) as instance:
        (asked,) = backfills.asked(instance)
        backfills.withdraw(instance, asked)
        for run in instance.get_runs(RunsFilter(statuses=[DagsterRunStatus.QUEUED])):
            if run.tags.get(tags.LANE) == backfills.LANE:
                instance.report_run_canceled(run)
        return len(backfills.standing(instance, asked).done)


if __name__ == "__main__":
    sys.exit(main())
