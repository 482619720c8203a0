"""How long people wait for the big table: queries over 90 days of day rows and of hour rows, and what opening it costs.

    .venv/bin/python bench/queries.py [--days 90] [--versions 12] [--countries 40] [--runs 5] [--json]

Each day has its two objects, encoded as the pipeline encodes them, every cell of the cube in every hour; beside them lie the
slots of all other tables, one row each, since opening the tables must list them. Queries run through the views, as
`engagement query` and the page run them; opening and the command's start are told apart. Times are medians. The sums of the
answers must be those of the numbers that were written.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import measure

from engagement import settings as settings_module
from engagement.lake import Lake, open_lake
from engagement.model import schemas, units
from engagement.tables import objects, views

ROOT = Path(__file__).resolve().parent.parent
FIRST = date(2026, 8, 1)
DEVICES = ("ALL_DEVICES", "iPad", "iPhone", "iPod")
ALL = "device_type = 'ALL_DEVICES' AND app_version = 'ALL_VERSIONS' AND country = 'ALL_COUNTRIES'"
TABLE = "daily_aggregates_with_dimensions"
QUERIES = {
    "day rows, everything": f"SELECT year, month, day, active_users, bounce_rate, total_events FROM {TABLE} WHERE hour IS NULL AND {ALL}",
    "day rows, by country": f"""SELECT country, year, month, day, active_users, total_events FROM {TABLE}
        WHERE hour IS NULL AND device_type = 'ALL_DEVICES' AND app_version = 'ALL_VERSIONS' AND country <> 'ALL_COUNTRIES'""",
    "hour rows, everything": f"SELECT year, month, day, hour, active_users, total_events FROM {TABLE} WHERE hour IS NOT NULL AND {ALL}",
    "hour rows, by version": f"""SELECT app_version, hour, avg(active_users), sum(total_events) FROM {TABLE} WHERE hour IS NOT NULL
        AND device_type = 'ALL_DEVICES' AND app_version <> 'ALL_VERSIONS' AND country = 'ALL_COUNTRIES' GROUP BY ALL""",
}
"""What is asked; the last column is of `total_events`."""


class Wrong(Exception):
    """An answer is not what was written."""


def main() -> int:
    """Measure and print a table, or one JSON object; 1 where an answer is wrong."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--days", type=int, default=90)
    options.add_argument("--versions", type=int, default=12)
    options.add_argument("--countries", type=int, default=40)
    options.add_argument("--runs", type=int, default=5)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-queries-") as folder:
        settings = settings_module.load({}, Path(folder), lake_url=f"{folder}/lake", state_dir=Path(folder) / "state")
        written = fill(open_lake(settings)[0], asked.days, asked.versions, asked.countries)
        try:
            found = timed(settings, written, asked.runs)
        except Wrong as error:
            print(f"queries: {error}", file=sys.stderr)
            return 1
        found["`engagement query`, whole command"] = seconds(lambda: command(folder), asked.runs)
    rows = written["rows"]
    if asked.json:
        print(
            json.dumps(
                {
                    "machine": measure.machine(),
                    "days": asked.days,
                    **rows,
                    "milliseconds": {name: 1000 * took for name, took in found.items()},
                }
            )
        )
        return 0
    head = f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}"
    print(f"{head}; {asked.days} days, {rows['day_rows']:,} day rows, {rows['hour_rows']:,} hour rows; median of {asked.runs}")
    print(measure.table([{"what": name, "ms": f"{1000 * took:,.0f}"} for name, took in found.items()]))
    return 0


def timed(settings: settings_module.Settings, written: dict[str, Any], runs: int) -> dict[str, float]:
    """Median seconds of opening the views and of each query on a connection that is open; raises Wrong."""
    found = {"opening the tables": seconds(lambda: opened(settings), runs)}
    with views.open_views(settings) as con:
        for name, query in QUERIES.items():
            answer = con.execute(query).fetchall()
            if name in written["events"] and (total := sum(row[-1] for row in answer)) != written["events"][name]:
                raise Wrong(f"{name}: {total} events, {written['events'][name]} were written")
            found[name] = seconds(lambda query=query: con.execute(query).fetchall(), runs)
    return found


def opened(settings: settings_module.Settings) -> None:
    """What a command does before its query."""
    with views.open_views(settings):
        pass


def command(folder: str) -> None:
    """The query for people, in a process of its own."""
    environment = measure.clean_environment(
        ENGAGEMENT_LAKE_URL=f"{folder}/lake", ENGAGEMENT_STATE_DIR=f"{folder}/state", PYTHONPATH=str(ROOT)
    )
    line = [sys.executable, "-m", "engagement", "query", QUERIES["day rows, everything"], "--format", "csv"]
    subprocess.run(line, env=environment, check=True, stdout=subprocess.DEVNULL)


def seconds(what: Callable[[], Any], runs: int) -> float:
    """Median wall time."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        what()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


def fill(lake: Lake, days: int, versions: int, countries: int) -> dict[str, Any]:
    """Write the objects; returns what the queries must find."""
    import numpy as np

    cells = Cells(versions, countries)
    generator = np.random.default_rng(7)
    events = dict.fromkeys(("day rows, everything", "hour rows, everything"), 0)
    for day in (FIRST + timedelta(days=number) for number in range(days)):
        for hours, key, name in (
            (range(24), units.hours_key(day), "hour rows, everything"),
            ((None,), units.day_key(day), "day rows, everything"),
        ):
            table = cells.rows(generator, list(hours))
            lake.put_new(key, objects.encode(table, {}))
            events[name] += sum(table["total_events"].to_pylist()[:: len(cells)])
    touch_slots(lake, days)
    return {"events": events, "rows": {"day_rows": days * len(cells), "hour_rows": 24 * days * len(cells)}}


class Cells:
    """All cells of a cube, in the table's order: the one over everything comes first."""

    def __init__(self, versions: int, countries: int) -> None:
        self.values = {
            "device_type": DEVICES,
            "app_version": ("ALL_VERSIONS", *(f"v4.{number:02d}" for number in range(versions))),
            "country": ("ALL_COUNTRIES", *(f"C{number:02d}" for number in range(countries))),
        }

    def __len__(self) -> int:
        count = 1
        for values in self.values.values():
            count *= len(values)
        return count

    def rows(self, generator: Any, hours: list[int | None]) -> Any:
        """Rows of these hours with numbers drawn."""
        import numpy as np
        import pyarrow as pa

        place = np.indices([len(values) for values in self.values.values()]).reshape(len(self.values), -1)
        count = len(self) * len(hours)
        found = {"hour": pa.array(np.repeat([-1 if hour is None else hour for hour in hours], len(self)), pa.int32())}
        if hours == [None]:
            found["hour"] = pa.nulls(count, pa.int32())
        for number, (name, values) in enumerate(self.values.items()):
            found[name] = pa.array(values).take(pa.array(np.tile(place[number], len(hours))))
        schema = schemas.arrow_schema(units.BIG_TABLE)
        for field in schema:
            if field.name not in found:
                drawn = generator.integers(0, 100_000, count)
                found[field.name] = pa.array(drawn / 1000 if pa.types.is_floating(field.type) else drawn, field.type)
        return pa.table([found[field.name] for field in schema], schema=schema)


def touch_slots(lake: Lake, days: int) -> None:
    """A row of nulls for each slot of the other tables."""
    import pyarrow as pa

    for table in (units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS):
        schema = schemas.arrow_schema(table)
        data = objects.encode(pa.table([pa.nulls(1, field.type) for field in schema], schema=schema), {})
        for day in (FIRST + timedelta(days=number) for number in range(days)):
            for hour in units.hours_of(day):
                path = lake.path(units.slot_key(table, hour))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)  # thousands of fsyncs would measure nothing


if __name__ == "__main__":
    sys.exit(main())
