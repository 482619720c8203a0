"""What a look at what waits costs in a lake of very many objects: seconds a tick, and what it lists.

    python bench/listing.py --objects 1000000

The lake is simulated: a store in memory that answers listings of as many names as wished, cut as a lake of 10-minute slots
is, with raw objects of one day. What is measured is everything that the product does around the store's answers; requests
are counted, for each takes its time on a real one (about 30 ms on S3, living chains many at once).
"""

from __future__ import annotations

import argparse
import bisect
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from engagement import settings as settings_module
from engagement.lake import Entry, LocalLake
from engagement.model import units
from engagement.raw import footers
from engagement.raw.footers import RawFile
from engagement.raw.names import parse_key, topic_chain
from engagement.tables.big_table import inputs_of
from engagement.tables.context import open_tables
from engagement.tables.objects import CODE_VERSION, Footers
from engagement.waiting import recent, waits

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
PARTITIONS = 18
SLOT_MINUTES = 10
RAW_MINUTES = 1440


class ManyObjects(LocalLake):
    """A folder that also lists names which are not there."""

    names: list[str]
    requests = 0

    def list(self, prefix: str, after: str | None = None) -> Iterator[Entry]:
        """As Lake.list, from memory."""
        ManyObjects.requests += 1
        folder = f"{prefix.rstrip('/')}/"
        start = bisect.bisect_right(self.names, max(folder, after or ""))
        for number in range(start, len(self.names)):
            if not self.names[number].startswith(folder):
                return
            if (number - start) % 1000 == 999:
                ManyObjects.requests += 1
            yield Entry(self.names[number], 1, "1")

    def folders(self, prefix: str) -> Sequence[str]:
        """As Lake.folders, from memory; of raw alone."""
        ManyObjects.requests += 1
        folder = f"{prefix.rstrip('/')}/"
        start, end = bisect.bisect_left(self.names, folder), bisect.bisect_left(self.names, f"{folder}~")
        return sorted({key[len(folder) :].partition("/")[0] for key in self.names[start:end]})


def names(objects: int) -> list[str]:
    """Raw objects of one day, and tables as far back as there are objects to name."""
    chains = [topic_chain("session", f"{number:02x}" * 16, number) for number in range(PARTITIONS)]
    raw = [chain.key(start) for chain in chains for start in range(RAW_MINUTES)]
    tables: list[str] = []
    day = NOW.date()
    while len(raw) + len(tables) < objects:
        tables += [units.hours_key(day), units.day_key(day)]
        slots = [slot for hour in units.hours_of(day) for slot in units.slots_of(hour, SLOT_MINUTES)]
        tables += [units.slot_key(table, slot) for slot in slots for table in waits.TABLES[1:]]
        day -= timedelta(days=1)
    return sorted(raw + tables)


def facts_of(key: str) -> dict[str, Any]:
    """The footer of a unit that lacks nothing."""
    if key.endswith(("hours.parquet", "day.parquet")):
        day = units.day_of_key(key)

        def inputs(slots: list[datetime]) -> dict[str, str]:
            return inputs_of(slots, lambda name: Entry(name, 1, "1"))

        slots_of = {hour: units.slots_of(hour, SLOT_MINUTES) for hour in units.hours_of(day)}
        made = {hour.isoformat(): {"inputs": inputs(slots), "offsets": {}, "model": None} for hour, slots in slots_of.items()}
        return {"hours": made, "model": None, "inputs": inputs([slot for slots in slots_of.values() for slot in slots])}
    return {"events": "1", "fragments": {}, "code": CODE_VERSION, "affects": [], "model": None}


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--ticks", type=int, default=40)
    asked = parser.parse_args()
    ManyObjects.names = names(asked.objects)

    def read(_lake: object, key: str) -> RawFile:
        chain, start = parse_key(key) or (None, 0)
        assert chain is not None
        return RawFile(chain, start, start + 1, 0, first_received_at=NOW, last_received_at=NOW)

    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch("engagement.lake.opening.LocalLake", ManyObjects),
        mock.patch.object(footers, "read", read),
        mock.patch.object(Footers, "_facts", lambda _self, entry: (facts_of(entry.key), True)),
    ):
        settings = settings_module.load(
            {}, Path(folder), lake_url=f"{folder}/lake", state_dir=Path(folder) / "state", slot_minutes=SLOT_MINUTES
        )
        first = time.perf_counter()
        with open_tables(settings) as context:
            recent.compute(context, NOW)
        first = time.perf_counter() - first
        seconds, cpu, requests, waiting = [], [], [], ""
        for _ in range(asked.ticks):
            ManyObjects.requests, before, used = 0, time.perf_counter(), time.process_time()
            with open_tables(settings) as context:
                waiting = str(recent.compute(context, NOW))[:200]
            seconds.append(time.perf_counter() - before)
            cpu.append(time.process_time() - used)
            requests.append(ManyObjects.requests)
    found = {
        "objects": len(ManyObjects.names), "partitions": PARTITIONS, "waiting": waiting, "first_look_seconds": round(first, 1),
        "tick_seconds_median": round(sorted(seconds)[len(seconds) // 2], 3), "tick_seconds_worst": round(max(seconds), 3),
        "tick_cpu_seconds_median": round(sorted(cpu)[len(cpu) // 2], 3),
        "requests_a_tick_median": sorted(requests)[len(requests) // 2], "requests_a_tick_worst": max(requests),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}", "at": datetime.now(UTC).isoformat(timespec="minutes"),
    }  # fmt: skip
    print(json.dumps(found))


if __name__ == "__main__":
    main()
