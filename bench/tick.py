"""What a tick costs at the end of a busy hour: the refresh from raw to the big table at minute 59 beside that at minute 5.

    .venv/bin/python bench/tick.py [--events 1000000] [--slot-minutes 10] [--json]

An hour of so many events, and the hour before it as full, arrive minute by minute; a few ticks around both minutes are
timed, each after one minute's arrivals, with the hour before not touched by them. Per minute the tick with the least CPU is
shown. No broker, no Dagster: a run adds its start to these seconds. At the end the hour's row must be what the events say.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import crowd
import measure

from engagement import settings as settings_module
from engagement.model import units
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.tables import big_table, views
from engagement.tables.context import TableContext, open_tables
from engagement.waiting import refresh

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
TOPIC_ID = "be" * 16
EARLY, LATE = (5, 6, 7), (57, 58, 59)
ALL = "device_type = 'ALL_DEVICES' AND app_version = 'ALL_VERSIONS' AND country = 'ALL_COUNTRIES'"


@dataclass(frozen=True, slots=True)
class Tick:
    """One refresh: at which minute, how many events the hour then holds, how many of them are new; seconds."""

    minute: int
    held: int
    new: int
    cpu: float
    wall: float
    day_cpu: float
    """Of the day's rows, which a run of their own makes."""


class Wrong(Exception):
    """The hour's row is not what the events say."""


def main() -> int:
    """Measure and print the ticks of both minutes and their ratio; 1 where the numbers are wrong."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=1_000_000, help="of the hour, copies included")
    options.add_argument("--slot-minutes", type=int, default=10)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="bench-tick-") as folder:
            ticks = measured(Path(folder), asked.events, asked.slot_minutes)
    except Wrong as error:
        print(f"tick: {error}", file=sys.stderr)
        return 1
    early, late = (min((tick for tick in ticks if tick.minute in minutes), key=lambda tick: tick.cpu) for minutes in (EARLY, LATE))
    if asked.json:
        print(json.dumps({"machine": measure.machine(), "slot_minutes": asked.slot_minutes, "ticks": [asdict(tick) for tick in ticks]}))
        return 0
    print(
        f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}; slots of {asked.slot_minutes} minutes"
    )
    print(measure.table([as_row(early), as_row(late)]))
    print(f"CPU ratio {late.cpu / early.cpu:.1f}")
    return 0


def measured(folder: Path, events: int, slot_minutes: int) -> list[Tick]:
    """The ticks; raises Wrong."""
    begins = HOUR - units.HOUR
    drawn = crowd.draw(2 * events, begins, 2 * 3600, late=0.0)
    settings = settings_module.load({}, folder, lake_url=f"{folder}/lake", state_dir=folder / "state", slot_minutes=slot_minutes)
    ticks = []
    with open_tables(settings) as context:
        sent = begins
        for minute in (*EARLY, *LATE):
            until = HOUR + timedelta(minutes=minute)
            append(context, between(drawn, sent, until - timedelta(minutes=1)))
            tick(context)
            new = between(drawn, until - timedelta(minutes=1), until)
            append(context, new)
            before, cpu = time.perf_counter(), time.process_time()
            tick(context)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - before
            day_cpu = time.process_time()
            big_table.refresh_day(context, HOUR.date())
            held = len(between(drawn, HOUR, until))
            ticks.append(Tick(minute, held, len(new), cpu, wall, time.process_time() - day_cpu))
            print(f"minute {minute}: {cpu:.2f} CPU-s", file=sys.stderr)
            sent = until
        check(settings, between(drawn, begins, sent))
    return ticks


def tick(context: TableContext) -> None:
    """What the live lane refreshes: this hour and the one before."""
    refresh.hours(context, [HOUR - units.HOUR, HOUR])


def between(drawn: crowd.Crowd, since: datetime, until: datetime) -> crowd.Crowd:
    """What arrives in [since, until)."""
    return crowd.part(drawn, *(int(moment.timestamp()) * 10**6 for moment in (since, until)))


def append(context: TableContext, arrived: crowd.Crowd) -> None:
    """One raw object after the last one, as a flush leaves it; none where nothing arrived."""
    import numpy as np

    if not len(arrived):
        return
    chain = topic_chain("session", TOPIC_ID, 0)
    last = files.last_link(context.lake, chain)
    start = last.end if last else 0
    slot_us = context.format.slot_minutes * 60 * 10**6
    slots = {
        instant(int(slot) * slot_us): int(count)
        for slot, count in zip(*np.unique(arrived.at_us // slot_us, return_counts=True), strict=True)
    }
    spans = [instant(int(found)) for times in (arrived.at_us, arrived.received_us) for found in (times.min(), times.max())]
    batch = rows.Batch(crowd.raw_rows(arrived, TOPIC_ID, start), {}, slots, *spans, {})
    files.write(context.lake, chain, start, start + len(arrived), batch)


def instant(micros: int) -> datetime:
    """Microseconds since 1970 as UTC."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def check(settings: settings_module.Settings, arrived: crowd.Crowd) -> None:
    """Compare the hour's row over all dimensions with the events themselves; raises Wrong."""
    import numpy as np

    since = int(HOUR.timestamp()) * 10**6
    of_hour = np.flatnonzero((arrived.at_us >= since) & (arrived.at_us < since + 3600 * 10**6))
    events = len(np.unique(arrived.identity[of_hour], axis=0))
    wanted = (events, len(np.unique(arrived.user[of_hour])))
    with views.open_views(settings) as con:
        found = con.execute(
            f"SELECT total_events, active_users FROM daily_aggregates_with_dimensions WHERE hour = {HOUR.hour} AND {ALL}"
        ).fetchall()
    if found != [wanted]:
        raise Wrong(f"the hour's row says {found}, the events say {wanted}")


def as_row(found: Tick) -> dict[str, str]:
    """For people."""
    return {
        "tick at minute": str(found.minute), "events of the hour": f"{found.held:,}", "new": f"{found.new:,}",
        "CPU s": f"{found.cpu:.2f}", "wall s": f"{found.wall:.2f}", "day rows CPU s": f"{found.day_cpu:.2f}",
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
