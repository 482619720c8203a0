"""A Dagster instance that is never tidied, and what `engagement maintain` does about it: SQLite and PostgreSQL, 100,000 runs each.

    .venv/bin/python bench/instance.py [--runs 100000] [--storage sqlite postgres]

One real refresh of two hours is run, and its records (run, tags, events, check evaluations, event file) are copied under new ids,
one every ten seconds backwards from now, 360 an hour of partitions, as a flush of ten seconds makes them. Then, in the same
instance: what the sensor asks each tick, what the exporter asks each look, and one maintenance run, which removes the oldest
10,000 of those that are older than two days. What Dagster knows of every partition must be the same before and after.
SQLite's event file a run is a hard link for all but every thousandth run, so this needs no 35 GB of disk, and does not measure how
long a disk takes to give their bytes back. PostgreSQL needs Debian's package `postgresql`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import measure

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import lake_helpers  # noqa: E402 - tools of the tests
import postgres  # noqa: E402

from engagement.exporter import dagster as exported  # noqa: E402
from engagement.model import units  # noqa: E402
from engagement.settings import Settings  # noqa: E402
from engagement.tables.context import open_tables  # noqa: E402

if TYPE_CHECKING:
    from dagster import DagsterInstance

EVERY = timedelta(seconds=10)
KEPT = timedelta(days=2)
BATCH = 500
LOOKS = 5
LINKS = 1000
"""Event files that share their bytes; a file system allows some ten thousand."""


def main() -> int:
    """Measure each storage; 1 where a partition was told differently afterwards."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--storage", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    asked = options.parse_args()
    warnings.simplefilter("ignore")
    print(
        f"{measure.machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {asked.runs:,} runs",
        flush=True,
    )
    found = []
    for name in asked.storage:
        with tempfile.TemporaryDirectory(prefix="instance-") as folder, storage(name, Path(folder)) as settings:
            found.append({"storage": name} | measured(settings, asked.runs))
            print(measure.table(found), flush=True)
    return 0 if all(row["partitions as before"] == "yes" for row in found) else 1


@contextmanager
def storage(name: str, folder: Path) -> Iterator[Settings]:
    """Settings of a fresh lake whose instance lies there."""
    if name == "sqlite":
        yield lake_helpers.settings_of(folder)
        return
    with postgres.server(folder / "postgres") as url:
        os.environ["ENGAGEMENT_DAGSTER_STORAGE"] = url
        try:
            yield lake_helpers.settings_of(folder, dagster_storage=url)
        finally:
            del os.environ["ENGAGEMENT_DAGSTER_STORAGE"]


def measured(settings: Settings, runs: int) -> dict[str, str]:
    """One instance filled and looked at."""
    from engagement_assets import run_records
    from engagement_assets.local_runs import local_instance
    from sensors import arrivals

    with local_instance(settings) as instance:
        run = real_run(settings, instance)
        began = time.perf_counter()
        multiply(instance, run, runs)
        print(f"filled in {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
        sensor = sum(seconds(lambda kind=kind: arrivals.past_runs(instance, kind)) for kind in ("hours", "days"))
        sensor += seconds(lambda: arrivals.under_way(instance))
        look = seconds(lambda: list(exported.look(instance, datetime.now(UTC))))
        known = partitions(instance)
        began, cpu = time.perf_counter(), time.process_time()
        done = run_records.tidy(instance, datetime.now(UTC) - KEPT)
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        return {
            "sensor's queries ms": f"{sensor * 1000:,.0f}",
            "exporter's look ms": f"{look * 1000:,.0f}",
            "runs removed": f"{done.runs:,}",
            "evaluations removed": f"{done.evaluations:,}",
            "seconds": f"{wall:,.0f}",
            "CPU-s": f"{cpu:,.0f}",
            "partitions as before": "yes" if partitions(instance) == known else "NO",
        }


def real_run(settings: Settings, instance: DagsterInstance) -> str:
    """One refresh of two hours with a few events; its run id."""
    from engagement_assets.local_runs import LocalRuns
    from sensors.chunks import Chunk

    start = datetime(2026, 3, 10, tzinfo=UTC)
    with open_tables(settings) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(number, start + number * timedelta(minutes=10)) for number in range(12)])
    return LocalRuns(settings, instance).run(Chunk(start, start + units.HOUR), lane="live").run_id


def multiply(instance: DagsterInstance, run: str, times: int) -> None:
    """Copy the run's records so often, each under an id of its own, ten seconds apart, over partitions an hour apart."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
    from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
    from sqlalchemy import insert, select

    log, now, linked = instance.event_log_storage, datetime.now(UTC), run
    with instance.run_storage.connect() as connection:
        bodies = rows(connection, select(RunsTable).where(RunsTable.c.run_id == run))
        labels = rows(connection, select(RunTagsTable).where(RunTagsTable.c.run_id == run))
    with log.index_connection() as connection:
        events = rows(connection, select(SqlEventLogStorageTable).where(SqlEventLogStorageTable.c.run_id == run))
        checks = rows(connection, select(AssetCheckExecutionsTable).where(AssetCheckExecutionsTable.c.run_id == run))
    originals = {RunsTable: bodies, RunTagsTable: labels, SqlEventLogStorageTable: events, AssetCheckExecutionsTable: checks}
    for start in range(0, times, BATCH):
        made: dict[Any, list[dict[str, Any]]] = {table: [] for table in originals}
        for number in range(start, min(start + BATCH, times)):
            other, moment = str(uuid.uuid4()), now - (times - number) * EVERY
            hour = moment.replace(minute=0, second=0, microsecond=0)
            for table, found in originals.items():
                made[table] += [copied(row, run, other, hour, moment) for row in found]
            if hasattr(log, "path_for_shard"):
                if number % LINKS:
                    os.link(log.path_for_shard(linked), log.path_for_shard(other))
                else:
                    shutil.copyfile(log.path_for_shard(run), log.path_for_shard(other))
                    linked = other
        for table, found in made.items():
            with instance.run_storage.connect() if table in (RunsTable, RunTagsTable) else log.index_connection() as connection:
                connection.execute(insert(table), found)


def rows(connection: Any, query: Any) -> list[dict[str, Any]]:
    """The rows of a query, without their numbers."""
    return [{name: value for name, value in row.items() if name != "id"} for row in connection.execute(query).mappings()]


def copied(row: dict[str, Any], run: str, other: str, hour: datetime, moment: datetime) -> dict[str, Any]:
    """A row of another run over another partition, at another time."""
    found = {name: value.replace(run, other) if isinstance(value, str) else value for name, value in row.items()}
    if found.get("partition"):
        first = found["partition"].endswith("00:00")
        found["partition"] = (hour if first else hour + units.HOUR).strftime("%Y-%m-%d-%H:%M")
    for name in ("timestamp", "create_timestamp", "update_timestamp", "evaluation_event_timestamp"):
        if found.get(name) is not None:
            found[name] = moment.replace(tzinfo=None)
    for name in ("start_time", "end_time"):
        if name in found:
            found[name] = moment.timestamp()
    return found


def partitions(instance: DagsterInstance) -> dict[str, Any]:
    """Of each asset: which partitions were made, and the newest materialization of each."""
    from dagster import AssetKey
    from dagster._core.events import DagsterEventType

    names = ("events", "session_fragments", "user_activity", "sessions", "hourly_engagement")
    kind = DagsterEventType.ASSET_MATERIALIZATION
    return {name: dict(instance.event_log_storage.get_latest_storage_id_by_partition(AssetKey(name), kind)) for name in names}


def seconds(work: Callable[[], object]) -> float:
    """Median of some looks."""
    found = []
    for _ in range(LOOKS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return median(found)


if __name__ == "__main__":
    sys.exit(main())
