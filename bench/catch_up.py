"""After an outage: how fast ours reads what waits, in how much memory, and into what files.

    .venv/bin/python bench/catch_up.py [--records 12000000]

Twelve million records are ten minutes of lag at 20,000 events/s, spread over the three topics with six partitions
each. Wanted: 150,000 records/s or more, at most 1 GiB of memory, and files as large as a flush may make them.
The broker works on the same cores.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import measure
from ingest import ours
from load import log

WANTED_RATE = 150_000
WANTED_BYTES = 1 << 30
MIB = 1 << 20


def main() -> int:
    """Load, catch up, print; 1 where rows and records differ."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--records", type=int, default=12_000_000)
    asked = options.parse_args()
    with log(asked.records) as loaded, tempfile.TemporaryDirectory(prefix="ours-", dir=loaded.folder) as folder:
        usage = ours(loaded, Path(folder))
        files = measure.parquet_files(Path(folder))
    rows, sizes = sum(rows for _, rows in files), sorted(size / MIB for size, _ in files)
    rate = loaded.events / (usage.wall - usage.start_wall)
    per_cpu = loaded.events / (usage.cpu - usage.start_cpu)
    print(f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {loaded}")
    print(f"rate    {rate:,.0f} records/s, wanted {WANTED_RATE:,}: {verdict(rate >= WANTED_RATE)}")
    print(f"memory  {usage.peak_rss / MIB:,.0f} MiB at most, wanted {WANTED_BYTES // MIB:,}: {verdict(usage.peak_rss <= WANTED_BYTES)}")
    print(f"CPU     {usage.cpu:.1f} s, of it {usage.start_cpu:.1f} s to start; {per_cpu:,.0f} records per CPU-second after that")
    print(f"files   {len(sizes)} of {sizes[0]:.1f} to {sizes[-1]:.1f} MiB, median {statistics.median(sizes):.1f}")
    print(f"size    {sum(sizes) * MIB / rows:.1f} bytes a record")
    print(f"rows    {rows:,} of {loaded.events:,}: {verdict(rows == loaded.events)}")
    return 0 if rows == loaded.events else 1


def verdict(met: bool) -> str:
    """In a word."""
    return "met" if met else "MISSED"


if __name__ == "__main__":
    sys.exit(main())
