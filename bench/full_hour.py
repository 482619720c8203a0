"""What a tick costs at the end of a busy hour: the refresh of an hour that already holds most of its events.

    .venv/bin/python bench/full_hour.py [--rate 200] [--history 0.98]

Fills one hour at the given rate up to a share of it, then times the refresh of ten more seconds of events,
beside the same refresh of an hour that is nearly empty: the ratio says what the size of the hour costs.
Events are the simulator's. No broker, no Dagster: a run adds its start-up to these seconds.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engagement import settings as settings_module
from engagement.contract import TimeWindow
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.stack.simulator import events
from engagement.tables import refresh, units
from engagement.tables.context import TableContext, open_tables

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
WHERE = rows.Coordinates("session", "be" * 16, 0)
TICK_SECONDS = 10


def main() -> int:
    """Measure both hours and print their seconds and the ratio."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rate", type=float, default=200.0, help="events a second")
    options.add_argument("--history", type=float, default=0.98, help="share of the hour that is there already")
    asked = options.parse_args()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"{machine}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {asked.rate:g} events/s")
    found = {name: measure(asked.rate, share) for name, share in (("nearly empty hour", 0.01), ("nearly full hour", asked.history))}
    for name, (count, seconds, cpu) in found.items():
        print(f"{name:<18} {count:>9,} events  refresh {seconds:6.2f} s wall  {cpu:6.2f} CPU-s")
    small, large = (seconds for _, seconds, _ in found.values())
    print(f"ratio {large / small:.1f}")
    return 0


def measure(rate: float, share: float) -> tuple[int, float, float]:
    """Events in the hour, and wall and CPU seconds of the refresh after one more tick."""
    end = HOUR + share * units.HOUR
    with tempfile.TemporaryDirectory() as folder:
        settings = settings_module.load({}, Path(folder), lake_url=f"{folder}/lake", state_dir=Path(folder) / "state")
        with open_tables(settings) as context:
            write(context, events(7, HOUR, end, users=20_000, rate=rate))
            refresh.hours(context, [HOUR - units.HOUR, HOUR])
            write(context, events(8, end, end + timedelta(seconds=TICK_SECONDS), users=20_000, rate=rate))
            began, cpu = time.perf_counter(), time.process_time()
            refresh.hours(context, [HOUR - units.HOUR, HOUR])
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
            facts = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, HOUR)))
    return int(facts["rows"]), seconds, used


def write(context: TableContext, records: Iterable[object]) -> None:
    """All records as one raw object after the last one."""
    chain = topic_chain(WHERE.topic, WHERE.topic_id, WHERE.partition)
    last = files.last_link(context.lake, chain)
    start = last.end if last else 0
    window = TimeWindow.of(context.format.history_start, 300, None)
    found = [rows.Record(start + place, record.due_at, record.key, record.value) for place, record in enumerate(records)]  # type: ignore[attr-defined]
    files.write(context.lake, chain, start, start + len(found), rows.build(WHERE, found, window, context.format.slot_minutes))


if __name__ == "__main__":
    sys.exit(main())
