"""Kafka to raw Parquet: events per CPU-second of ours, of the peers, and of the floor without any commit protocol.

    .venv/bin/python bench/ingest.py [--events 2000000] [--only ours,floor] [--runs 2] [--json]

Loads a real broker with events of about 380 bytes (`--full`: as the simulator makes them, about 460), then lets each
contender read the same three topics from beginning to end, in a process tree of its own, and counts its rows. Rounds
are interleaved; of each contender the run with the least CPU is shown. The broker's CPU is not counted. What was used
before the first record could be read (starting Python or Java, joining a group) is shown apart and not in the rate.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import measure
from load import Log, log
from peers import connect, spark

from engagement.errors import EngagementError

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Result:
    """One contender's run."""

    events: int
    usage: measure.Usage
    file_bytes: int
    files: int

    @property
    def rate(self) -> float:
        """Events per CPU-second, start-up left out."""
        return self.events / (self.usage.cpu - self.usage.start_cpu)


def ours(read: Log, folder: Path) -> measure.Usage:
    """`engagement ingest --until-idle` into a new lake, all settings but the addresses left at their defaults."""
    environment = measure.clean_environment(
        ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=read.settings.kafka_bootstrap_servers,
        ENGAGEMENT_CONSUMER_GROUP=folder.name, ENGAGEMENT_LAKE_URL=str(folder / "lake"), ENGAGEMENT_STATE_DIR=str(folder / "state"),
    )  # fmt: skip
    command = [sys.executable, "-m", "engagement", "ingest", "--until-idle"]
    return measure.run(command, folder / "output", begun=lambda text: '"assigned"' in text, environment=environment)


def floor(read: Log, folder: Path) -> measure.Usage:
    """librdkafka, msgspec and Parquet without any promise (`peers/floor.py`)."""
    arguments = [read.settings.kafka_bootstrap_servers, ",".join(read.settings.topics), str(folder), str(read.events)]
    return measure.run(
        [sys.executable, str(ROOT / "bench/peers/floor.py"), *arguments], folder / "output",
        begun=lambda text: "begun" in text, environment=measure.clean_environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip


def kafka_connect(read: Log, folder: Path) -> measure.Usage:
    """Kafka Connect with the Iceberg sink (`peers/connect.py`)."""
    return connect.run(read.settings, read.events, folder)


def spark_streaming(read: Log, folder: Path) -> measure.Usage:
    """Spark Structured Streaming (`peers/spark.py`)."""
    return spark.run(read.settings, folder)


def rows_in_files(folder: Path) -> int:
    """Rows of all Parquet files."""
    return sum(rows for _, rows in measure.parquet_files(folder))


@dataclass(frozen=True, slots=True)
class Contender:
    """`run` reads the whole log into a folder, `rows` counts what can be seen there afterwards."""

    run: Callable[[Log, Path], measure.Usage]
    rows: Callable[[Path], int] = rows_in_files


CONTENDERS = {
    "ours": Contender(ours),
    "floor": Contender(floor),
    "connect": Contender(kafka_connect, connect.rows),
    "spark": Contender(spark_streaming),
}


def main() -> int:
    """Measure and print a table, or one JSON object, of all that did not fail; 1 where something did."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=2_000_000)
    options.add_argument("--only", default=",".join(CONTENDERS), help="comma-separated: " + ",".join(CONTENDERS))
    options.add_argument("--runs", type=int, default=2, help="rounds; the run with the least CPU counts")
    options.add_argument("--full", action="store_true", help="events as the simulator makes them, about 460 bytes")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    names = asked.only.split(",")
    if unknown := set(names) - set(CONTENDERS):
        options.error(f"--only {','.join(sorted(unknown))}: not one of {', '.join(CONTENDERS)}")
    with log(asked.events, slim=not asked.full) as loaded:
        found: dict[str, list[Result]] = {name: [] for name in names}
        for _ in range(asked.runs):
            for name in names:
                found[name] += measured(name, loaded)
    best = {name: min(results, key=lambda result: result.usage.cpu - result.usage.start_cpu) for name, results in found.items() if results}
    if best:
        print(as_json(loaded, best) if asked.json else as_table(loaded, best, asked.runs))
    return 0 if all(len(results) == asked.runs for results in found.values()) else 1


def measured(name: str, read: Log) -> list[Result]:
    """One run into a new folder, which is deleted; nothing, told on stderr, where it failed or its rows are not the events."""
    contender = CONTENDERS[name]
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=read.folder) as folder:
        try:
            usage = contender.run(read, Path(folder))
        except (measure.Failed, EngagementError) as error:
            print(f"{name} failed: {error}", file=sys.stderr)
            return []
        rows, files = contender.rows(Path(folder)), measure.parquet_files(Path(folder))
    if rows != read.events:
        print(f"{name} failed: it wrote {rows:,} rows of {read.events:,} events", file=sys.stderr)
        return []
    result = Result(read.events, usage, sum(size for size, _ in files), len(files))
    print(f"{name}: {result.rate:,.0f} events per CPU-second, {usage.wall:.1f} s", file=sys.stderr)
    return [result]


def as_table(read: Log, best: dict[str, Result], runs: int) -> str:
    """For people."""
    rows = [
        {
            "contender": name,
            "events/CPU-s": f"{result.rate:,.0f}",
            "CPU s": f"{result.usage.cpu - result.usage.start_cpu:.2f}",
            "start CPU s": f"{result.usage.start_cpu:.2f}",
            "wall s": f"{result.usage.wall:.1f}",
            "peak MiB": f"{result.usage.peak_rss / 2**20:.0f}",
            "B/event": f"{result.file_bytes / result.events:.1f}",
            "files": str(result.files),
            "of floor": ratio(result, best.get("floor")),
            "ours is": ratio(best.get("ours"), result),
        }
        for name, result in best.items()
    ]
    head = f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {read}; best of {runs} interleaved runs"
    return f"{head}\n{measure.table(rows)}"


def ratio(one: Result | None, other: Result | None) -> str:
    """How many times the other's rate, or a dash where one was not measured."""
    return f"{one.rate / other.rate:.2f}x" if one and other else "-"


def as_json(read: Log, best: dict[str, Result]) -> str:
    """For programs."""
    return json.dumps({
        "machine": measure.machine(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "events": read.events,
        "payload_bytes": read.payload_bytes,
        "contenders": {name: {"events_per_cpu_second": result.rate, **asdict(result)} for name, result in best.items()},
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
