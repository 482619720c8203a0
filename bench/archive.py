"""The archive: how fast parts are written beside plain compaction, in what memory, and how a day of it is read and stored.

    .venv/bin/python bench/archive.py [--rows 6000000] [--files 720] [--runs 2] [--only polars,duckdb,pyarrow] [--no-iceberg] [--json]

Wanted: input bytes a second at least 0.8 of the best plain compaction of the same run, at most 1 GiB of memory for a part of 1 GB
(memory does not grow with the part: `--rows 24000000` makes one that large), a full scan of a day at least 5 times faster than
over its minute files. Ours keeps the order of chains, counts every row, writes the footer, and syncs the file to the disk;
the others do none of it. Rounds are interleaved, the fastest of each is shown; start-up is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pyarrow as pa
import synthetic
from peers import packages

from engagement import settings as settings_module
from engagement.lake import Lake, open_lake
from engagement.raw import archive, files, rows
from engagement.raw.index import RawIndex
from engagement.raw.names import topic_chain

PEER = Path(__file__).parent / "peers" / "compaction.py"
PEERS = ("polars", "duckdb", "pyarrow")
BEGUN = "begun"
DAY = datetime(2026, 3, 11, tzinfo=UTC)
CHAINS = 6
WANTED_RATIO, WANTED_BYTES, WANTED_SCAN = 0.8, 1 << 30, 5.0
SCAN_ROWS, SCAN_FILES = 1_000_000, 8640
"""A day of a million events of one topic: its six partitions by default, a file a minute each."""
SCANS = {
    "every column": "SELECT count(*), bit_xor(hash(COLUMNS(*))) FROM {rows}",
    "events an hour and type": "SELECT date_trunc('hour', event_time) AS hour, event_type, count(*) FROM {rows} GROUP BY ALL",
}


@dataclass(frozen=True, slots=True)
class Result:
    """One contender's fastest run. `bytes_in` and `bytes_out` are of Parquet files."""

    name: str
    seconds: float
    cpu: float
    peak: int
    bytes_in: int
    bytes_out: int

    @property
    def rate(self) -> float:
        """Input bytes a second."""
        return self.bytes_in / self.seconds


def main() -> int:
    """Measure; 1 where something wanted was missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=6_000_000)
    options.add_argument("--files", type=int, default=720)
    options.add_argument("--runs", type=int, default=2)
    options.add_argument("--only", default=",".join(PEERS))
    options.add_argument("--no-iceberg", action="store_true")
    options.add_argument("--json", action="store_true")
    options.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = options.parse_args()
    if asked.child:
        write(asked.child)
        return 0
    with tempfile.TemporaryDirectory(prefix="archive-") as scratch:
        folder = Path(scratch)
        lake = filled(folder / "compaction", asked.rows, asked.files)
        found = compared(lake, folder, asked.only.split(",") if asked.only else [], asked.runs)
        scanned = scans(folder)
        iceberg = None if asked.no_iceberg else one("iceberg", folder / "compaction", folder / "iceberg")
    print(json.dumps(summary(found, scanned, iceberg, asked.rows)) if asked.json else text(found, scanned, iceberg, asked.rows))
    return 0 if met(found, scanned) else 1


# The lake and our writer.


def filled(folder: Path, count: int, objects: int) -> Lake:
    """A lake with a day of raw objects of one topic, the same number of rows each."""
    lake = open_lake(settings_of(folder))[0]
    for partition in range(CHAINS):
        write_chain(lake, partition, count // CHAINS, objects // CHAINS)
    return lake


def settings_of(folder: Path) -> Any:
    """Settings of a lake in this folder."""
    return settings_module.load({}, folder, lake_url=str(folder / "lake"), state_dir=folder / "state")


def write_chain(lake: Lake, partition: int, count: int, objects: int) -> None:
    """One partition's objects, cut at even times from its events as they came."""
    topic_id = "5e" * 16
    table = synthetic.records(np.random.default_rng([7, partition, count]), DAY, count, topic_id)
    columns = {
        "kafka_topic": pa.repeat("session", count),
        "kafka_partition": pa.repeat(pa.scalar(partition, pa.int32()), count),
        "received_at": table["event_time"],
    }
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), values)
    each = -(-count // objects)
    for start in range(0, count, each):
        part = table.slice(start, each)
        files.write(lake, topic_chain("session", topic_id, partition), start, start + part.num_rows, batch_of(part))


def batch_of(part: pa.Table) -> rows.Batch:
    """The part as one flush; all its rows are good."""
    times = part["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    slots, counts = np.unique(times // 3_600_000_000, return_counts=True)
    event_slots = {datetime.fromtimestamp(int(slot) * 3600, UTC): int(found) for slot, found in zip(slots, counts, strict=True)}
    first, last = (datetime.fromtimestamp(int(micros) / 1e6, UTC) for micros in (times.min(), times.max()))
    return rows.Batch(part, {}, event_slots, first, last, first, last, {})


def write(folder: Path) -> None:
    """The child: everything as one part. Footers are in the raw index, where ingest's newest ones are put by every tick."""
    settings = settings_of(folder)
    lake = open_lake(settings)[0]
    index = RawIndex(lake, settings.state_dir)
    index.sync()
    import pandas  # noqa: F401, ICN001 - start-up is not counted; pyarrow's first array from Python values imports it
    import pyarrow.parquet  # noqa: F401

    print(BEGUN, flush=True)
    report = archive.archive(lake, now=DAY + timedelta(days=9), after=timedelta(hours=1), part_bytes=1 << 50, index=index)
    assert len(report.parts) == 1, report.problems


# Measuring.


def compared(lake: Lake, folder: Path, peers: Sequence[str], runs: int) -> list[Result]:
    """Ours and the peers, each its fastest run."""
    best: dict[str, Result] = {}
    for number in range(runs):
        for name in ("ours", *peers):
            found = ours(lake, folder) if name == "ours" else one(name, folder / "compaction", folder / f"{name}-{number}")
            if name not in best or found.seconds < best[name].seconds:
                best[name] = found
    return list(best.values())


def ours(lake: Lake, folder: Path) -> Result:
    """One run of the archive writer; the part is removed afterwards."""
    usage = measure.run(
        [sys.executable, __file__, "--child", str(folder / "compaction")], folder / "output", begun=lambda output: BEGUN in output,
        environment=measure.clean_environment(),
    )  # fmt: skip
    parts = list(lake.list("archive"))
    for part in parts:
        lake.delete(part.key)
    return result("ours", usage, folder / "compaction", sum(part.size for part in parts))


def one(name: str, source: Path, target: Path) -> Result:
    """One run of a peer."""
    own = {"polars": "polars", "iceberg": "pyiceberg"}.get(name)
    environment = measure.clean_environment(**({"PYTHONPATH": str(packages.folder(own))} if own else {}))
    command = [sys.executable, str(PEER), name, str(source / "lake" / "raw"), str(target)]
    usage = measure.run(command, target.with_suffix(".output"), begun=lambda output: BEGUN in output, environment=environment)
    held = [path for path in target.rglob("*") if path.is_file() and "catalog.db" not in path.name] if target.is_dir() else [target]
    size = sum(path.stat().st_size for path in held)
    for path in held:
        path.unlink()
    return result(name, usage, source, size)


def result(name: str, usage: measure.Usage, source: Path, bytes_out: int) -> Result:
    """A run's cost without its start."""
    bytes_in = sum(size for size, _ in measure.parquet_files(source / "lake" / "raw"))
    return Result(name, usage.wall - usage.start_wall, usage.cpu - usage.start_cpu, usage.peak_rss, bytes_in, bytes_out)


def scans(folder: Path) -> dict[str, tuple[float, float]]:
    """Seconds of each scan over the minute files and over the archive, the best of three; both give the same answer."""
    import duckdb

    lake = filled(folder / "scan", SCAN_ROWS, SCAN_FILES)
    archive.archive(lake, now=DAY + timedelta(days=9), after=timedelta(hours=1))
    con = duckdb.connect()
    found = {}
    for name, query in SCANS.items():
        seconds, answers = [], []
        for layer in ("raw", "archive"):
            sql = query.format(rows=f"read_parquet('{folder}/scan/lake/{layer}/**/*.parquet', hive_partitioning = false)")
            took = []
            for _ in range(3):
                begun = time.perf_counter()
                answer = con.execute(sql).fetchall()
                took.append(time.perf_counter() - begun)
            seconds.append(min(took))
            answers.append(sorted(answer))
        if answers[0] != answers[1]:
            raise measure.Failed(f"scan of {name}: the archive gives another answer than the minute files")
        found[name] = (seconds[0], seconds[1])
    return found


# Telling.


def ratio(found: Sequence[Result]) -> float | None:
    """Ours to the fastest peer; None without peers."""
    peers = [item.rate for item in found if item.name != "ours"]
    return found[0].rate / max(peers) if peers else None


def met(found: Sequence[Result], scanned: dict[str, tuple[float, float]]) -> bool:
    """Whether all that is wanted was reached."""
    against = ratio(found)
    faster = all(raw / archived >= WANTED_SCAN for raw, archived in scanned.values())
    return (against is None or against >= WANTED_RATIO) and found[0].peak <= WANTED_BYTES and faster


def summary(found: Sequence[Result], scanned: dict[str, tuple[float, float]], iceberg: Result | None, count: int) -> dict[str, Any]:
    """Everything as JSON values."""
    every = [*found, iceberg] if iceberg else found
    return {
        "rows": count,
        "compaction": {
            item.name: {
                "seconds": round(item.seconds, 2), "cpu_seconds": round(item.cpu, 2), "mb_per_second": round(item.rate / 1e6, 1),
                "peak_mib": item.peak >> 20, "bytes_out": item.bytes_out, "bytes_per_event": round(item.bytes_out / count, 2),
            }
            for item in every
        },
        "ratio_to_best": (against := ratio(found)) and round(against, 3),
        "scan_seconds": {name: {"minute_files": round(raw, 3), "archive": round(arch, 3)} for name, (raw, arch) in scanned.items()},
        "machine": measure.machine(),
    }  # fmt: skip


def text(found: Sequence[Result], scanned: dict[str, tuple[float, float]], iceberg: Result | None, count: int) -> str:
    """Everything as tables."""
    lines = [
        {
            "compaction": item.name, "seconds": f"{item.seconds:.1f}", "CPU s": f"{item.cpu:.1f}", "MB/s in": f"{item.rate / 1e6:.1f}",
            "peak MiB": f"{item.peak >> 20:,}", "MB out": f"{item.bytes_out / 1e6:,.0f}", "bytes/event": f"{item.bytes_out / count:.1f}",
        }
        for item in ([*found, iceberg] if iceberg else found)
    ]  # fmt: skip
    scan = [
        {"scan of a day": name, "minute files s": f"{raw:.2f}", "archive s": f"{arch:.2f}", "times faster": f"{raw / arch:.1f}"}
        for name, (raw, arch) in scanned.items()
    ]
    against = ratio(found)
    told = f"{count:,} rows, {measure.machine()}, load {os.getloadavg()[0]:.1f}"
    best = f"ours to the best: {against:.2f} (wanted {WANTED_RATIO})" if against else ""
    return "\n".join([told, measure.table(lines), best, measure.table(scan)])


if __name__ == "__main__":
    sys.exit(main())
