"""How fast history comes in: `engagement import` of the same events as JSON lines, CSV and Parquet.

    .venv/bin/python bench/import_history.py [--rows 1500000]

Each file is imported by the real command into a lake of its own, start and end of the process included; the time to
read a file once more and hash it is part of it. CPU and memory are of all its processes together.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import measure

KINDS = ("jsonl", "jsonl.gz", "jsonl.zst", "csv", "parquet")
FIRST = datetime(2025, 1, 1, tzinfo=UTC)
SEED = 7
CHUNK = 50_000


def main() -> int:
    """Make the files, import each, print a table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rows", type=int, default=1_500_000)
    asked = options.parse_args()
    load = os.getloadavg()[0]
    print(f"{measure.machine()}, load {load:.1f}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {asked.rows:,} rows, seed {SEED}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder, asked.rows)
        print(measure.table([imported(folder, kind, asked.rows) for kind in KINDS]))
    return 0


def imported(folder: Path, kind: str, rows: int) -> dict[str, str]:
    """Import one file into a new lake, and what that cost."""
    path, lake = folder / f"history.{kind}", folder / "lake"
    environment = measure.clean_environment(ENGAGEMENT_LAKE_URL=str(lake), ENGAGEMENT_STATE_DIR=str(folder / "state"))
    command = [sys.executable, "-m", "engagement", "import", "--json", str(path)]
    usage = measure.run(command, folder / "out", begun=bool, environment=environment)
    report = json.loads((folder / "out").read_text().splitlines()[-1])
    assert (report["rows"], report["rejects"]) == (rows, {}), report
    assert sum(count for _, count in measure.parquet_files(lake / "raw")) == rows
    shutil.rmtree(lake)
    return {
        "file": path.name,
        "MB": f"{path.stat().st_size / 1e6:.0f}",
        "rows/s": f"{rows / usage.wall:,.0f}",
        "seconds": f"{usage.wall:.1f}",
        "CPU-s": f"{usage.cpu:.1f}",
        "rows/CPU-s": f"{rows / usage.cpu:,.0f}",
        "peak MiB": f"{usage.peak_rss / 2**20:.0f}",
    }


def write(folder: Path, rows: int) -> None:
    """The same events in every kind of file."""
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    plain = folder / "history.jsonl"
    with plain.open("wb") as lines, (folder / "history.csv").open("w", newline="") as text:
        table, writer = csv.writer(text, lineterminator="\n"), None
        for chunk in chunks(rows):
            flat = [dict(columns(event)) for event in chunk]
            if writer is None:
                table.writerow(flat[0])
                writer = pq.ParquetWriter(folder / "history.parquet", pa.Table.from_pylist(flat[:1]).schema, compression="zstd")
            lines.writelines(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in chunk)
            table.writerows(row.values() for row in flat)
            writer.write_table(pa.Table.from_pylist(flat, writer.schema))
        assert writer is not None
        writer.close()
    with plain.open("rb") as source, gzip.open(folder / "history.jsonl.gz", "wb", 6) as packed:
        shutil.copyfileobj(source, packed, 1 << 20)
    with plain.open("rb") as source, pa.CompressedOutputStream(str(folder / "history.jsonl.zst"), "zstd") as packed:
        shutil.copyfileobj(source, packed, 1 << 20)


def chunks(rows: int) -> Iterator[list[dict[str, object]]]:
    """Events of about 380 bytes of JSON, some at a time."""
    chance = random.Random(SEED)
    for start in range(0, rows, CHUNK):
        yield [event(chance, number) for number in range(start, min(rows, start + CHUNK))]


def event(chance: random.Random, number: int) -> dict[str, object]:
    """One event as an app sends it."""
    return {
        "event_id": str(UUID(int=chance.getrandbits(128), version=4)),
        "user_id": f"u-{chance.randrange(50_000)}",
        "session_id": f"s-{chance.randrange(10**6)}",
        "event_type": chance.choice(("tap", "screen_view", "swipe", "install")),
        "timestamp": (FIRST + timedelta(milliseconds=100 * number, microseconds=chance.randrange(10**5))).isoformat(),
        "device_info": {"device_type": "iPhone", "model": f"iPhone{chance.randrange(12, 18)},3", "os_version": "18.1", "locale": "de_DE"},
        "geo_location": {"country": chance.choice(("DE", "FR", "US", "JP")), "region": "BE", "city": "Berlin"},
        "app_version": chance.choice(("3.1.0", "3.2.0", "3.2.1")),
        "properties": {"screen": chance.choice(("home", "cart", "search")), "n": number},
    }


def columns(found: dict[str, object]) -> Iterator[tuple[str, object]]:
    """Names and values of an event in a flat file."""
    for name, value in found.items():
        if name == "properties":
            yield name, json.dumps(value, separators=(",", ":"))
        elif isinstance(value, dict):
            yield from ((f"{name}.{inner}", text) for inner, text in value.items())
        else:
            yield name, value


if __name__ == "__main__":
    sys.exit(main())
