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

import load
import measure
from peers import connect, spark

from engagement import settings as settings_module
from engagement.settings import Settings
from engagement.stack import jars, topics
from engagement.stack.broker import Broker

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Log:
    """What everyone reads."""

    settings: Settings
    events: int
    payload_bytes: int


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


def ours(log: Log, folder: Path) -> measure.Usage:
    """`engagement ingest --until-idle` into a new lake, all settings but the addresses left at their defaults."""
    environment = measure.clean_environment(
        ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=log.settings.kafka_bootstrap_servers,
        ENGAGEMENT_CONSUMER_GROUP=folder.name, ENGAGEMENT_LAKE_URL=str(folder / "lake"), ENGAGEMENT_STATE_DIR=str(folder / "state"),
    )  # fmt: skip
    command = [sys.executable, "-m", "engagement", "ingest", "--until-idle"]
    return measure.run(command, folder / "output", begun=lambda text: '"assigned"' in text, environment=environment)


def floor(log: Log, folder: Path) -> measure.Usage:
    """librdkafka, msgspec and Parquet without any promise (`peers/floor.py`)."""
    arguments = [log.settings.kafka_bootstrap_servers, ",".join(log.settings.topics), str(folder), str(log.events)]
    return measure.run(
        [sys.executable, str(ROOT / "bench/peers/floor.py"), *arguments], folder / "output",
        begun=lambda text: "begun" in text, environment=measure.clean_environment(PYTHONPATH=str(ROOT)),
    )  # fmt: skip


def kafka_connect(log: Log, folder: Path) -> measure.Usage:
    """Kafka Connect with the Iceberg sink (`peers/connect.py`)."""
    return connect.run(log.settings, log.events, folder)


def spark_streaming(log: Log, folder: Path) -> measure.Usage:
    """Spark Structured Streaming (`peers/spark.py`)."""
    return spark.run(log.settings, folder)


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
    """Measure and print a table, or one JSON object."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=2_000_000)
    options.add_argument("--only", default=",".join(CONTENDERS), help="comma-separated: " + ",".join(CONTENDERS))
    options.add_argument("--runs", type=int, default=2, help="rounds; the run with the least CPU counts")
    options.add_argument("--full", action="store_true", help="events as the simulator makes them, about 460 bytes")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    names = asked.only.split(",")
    if jars.main([]):
        return 1
    with tempfile.TemporaryDirectory(prefix="engagement-bench-") as scratch, Broker(Path(scratch) / "kafka") as broker:
        settings = settings_module.load({}, Path(scratch), kafka_bootstrap_servers=broker.bootstrap)
        topics.ensure(settings)
        loaded = load.fill(settings, load.templates(settings, min(asked.events, load.TEMPLATES), slim=not asked.full), asked.events)
        log = Log(settings, asked.events, loaded["bytes"])
        print(f"{log.events:,} events of {log.payload_bytes / log.events:.0f} bytes are loaded", file=sys.stderr)
        found: dict[str, list[Result]] = {name: [] for name in names}
        for _ in range(asked.runs):
            for name in names:
                found[name].append(measured(name, log, Path(scratch)))
    best = {name: min(results, key=lambda result: result.usage.cpu - result.usage.start_cpu) for name, results in found.items()}
    print(as_json(log, best) if asked.json else as_table(log, best, asked.runs))
    return 0


def measured(name: str, log: Log, scratch: Path) -> Result:
    """One run into a new folder, which is deleted; its rows must be the events."""
    with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=scratch) as folder:
        usage = CONTENDERS[name].run(log, Path(folder))
        rows = CONTENDERS[name].rows(Path(folder))
        files = measure.parquet_files(Path(folder))
        result = Result(log.events, usage, sum(size for size, _ in files), len(files))
    if rows != log.events:
        raise measure.Failed(f"{name} wrote {rows:,} rows of {log.events:,} events")
    print(f"{name}: {result.rate:,.0f} events per CPU-second, {usage.wall:.1f} s", file=sys.stderr)
    return result


def as_table(log: Log, best: dict[str, Result], runs: int) -> str:
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
    head = (
        f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {log.events:,} events of {log.payload_bytes / log.events:.0f} bytes"
    )
    return f"{head}; best of {runs} interleaved runs\n{measure.table(rows)}"


def ratio(one: Result | None, other: Result | None) -> str:
    """How many times the other's rate, or a dash where one was not measured."""
    return f"{one.rate / other.rate:.2f}x" if one and other else "-"


def as_json(log: Log, best: dict[str, Result]) -> str:
    """For programs."""
    return json.dumps({
        "machine": measure.machine(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "events": log.events,
        "payload_bytes": log.payload_bytes,
        "contenders": {name: {"events_per_cpu_second": result.rate, **asdict(result)} for name, result in best.items()},
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
