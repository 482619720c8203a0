"""Events to sessions, copies dropped, Parquet to Parquet: ours beside what one would write or take instead.

    .venv/bin/python bench/sessions.py [--events 4000000] [--only ours,usual,pandas,polars,spark] [--runs 2] [--json]

All get the same file, drop the same copies (5 % of the events), follow the same rules, the whole-day rule included, and
write all columns of `sessions` but the path keys. Each runs in a process tree of its own with two threads; its rows must
be ours, value by value, or it failed. Rounds are interleaved; of each contender the run with the least CPU is shown.
Start-up (imports, the Java machine) is told apart and not in the rate. Spark gets fewer events and is compared on those.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import crowd
import measure
from peers import packages, spark

from engagement.errors import EngagementError
from engagement.model import schemas, units

ROOT = Path(__file__).resolve().parent.parent
START = datetime(2026, 3, 10, tzinfo=UTC)
DAYS = 2
CONTENDERS = ("ours", "usual", "pandas", "polars", "spark")
SPARK_EVENTS = 500_000
NAMES = {
    "ours": "ours", "usual": "QUALIFY + LAG/SUM on DuckDB", "pandas": "pandas", "polars": "polars", "spark": "Spark session_window",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """One contender's run."""

    events: int
    sessions: int
    usage: measure.Usage

    @property
    def cpu(self) -> float:
        """CPU seconds, start-up left out."""
        return self.usage.cpu - self.usage.start_cpu

    @property
    def rate(self) -> float:
        """Events per CPU-second."""
        return self.events / self.cpu


class Differs(Exception):
    """A contender's sessions are not ours."""


def main() -> int:
    """Measure and print a table, or one JSON object, of all that did not fail; 1 where something did."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--events", type=int, default=4_000_000)
    options.add_argument("--spark-events", type=int, default=SPARK_EVENTS)
    options.add_argument("--only", default=",".join(CONTENDERS), help="comma-separated: " + ",".join(CONTENDERS))
    options.add_argument("--runs", type=int, default=2, help="rounds; the run with the least CPU counts")
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    names = asked.only.split(",")
    if unknown := set(names) - set(CONTENDERS):
        options.error(f"--only {','.join(sorted(unknown))}: not one of {', '.join(CONTENDERS)}")
    counts = {name: min(asked.events, asked.spark_events) if name == "spark" else asked.events for name in names}
    found: dict[str, list[Result]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory(prefix="bench-sessions-") as folder:
        wanted = {count: reference(count, Path(folder)) for count in set(counts.values())}
        for _ in range(asked.runs):
            for name in names:
                found[name] += measured(name, counts[name], wanted[counts[name]], Path(folder))
    best = {name: min(results, key=lambda result: result.cpu) for name, results in found.items() if results}
    if best:
        print(as_json(best) if asked.json else as_table(best, asked.runs))
    return 0 if all(len(results) == asked.runs for results in found.values()) else 1


def reference(count: int, folder: Path) -> Path:
    """Our sessions of so many events, which every contender's are compared with."""
    target = folder / f"reference-{count}.parquet"
    run("ours", events_file(count), target, folder)
    return target


def measured(name: str, count: int, wanted: Path, folder: Path) -> list[Result]:
    """One run; nothing, told on stderr, where it failed or its sessions are others."""
    target = folder / f"{name}.parquet"
    try:
        usage = run(name, events_file(count), target, folder)
        sessions = same(wanted, target)
    except (measure.Failed, Differs, EngagementError) as error:
        print(f"{name} failed: {error}", file=sys.stderr)
        return []
    finally:
        for path in [*target.glob("*"), target] if target.is_dir() else [target]:
            path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    result = Result(count, sessions, usage)
    print(f"{name}: {result.rate:,.0f} events per CPU-second, {usage.wall:.1f} s", file=sys.stderr)
    return [result]


def run(name: str, source: Path, target: Path, folder: Path) -> measure.Usage:
    """One contender from file to file; raises Failed."""
    environment = spark.environment(folder) if name == "spark" else measure.clean_environment()
    paths = [str(ROOT), environment.get("PYTHONPATH", "")] if name == "spark" else [str(ROOT)]
    if name == "polars":
        paths.append(str(packages.folder("polars")))
        environment["POLARS_MAX_THREADS"] = "2"
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    script = ROOT / "bench" / "peers" / "sessionize.py"
    return measure.run(
        [sys.executable, str(script), name, str(source), str(target), str(folder)], folder / f"{name}.output",
        begun=lambda text: "begun" in text, environment=environment,
    )  # fmt: skip


def events_file(count: int) -> Path:
    """So many events with the columns of `events`, made once and kept in the machine's temporary folder."""
    folder = Path(tempfile.gettempdir()) / "engagement-bench"
    made_by = (Path(crowd.__file__).stat().st_mtime_ns, Path(__file__).stat().st_mtime_ns)
    path = folder / f"events-{count}-{max(made_by)}.parquet"
    if not path.exists():
        import pyarrow.parquet as pq

        folder.mkdir(exist_ok=True)
        for old in folder.glob(f"events-{count}-*"):
            old.unlink()
        print(f"bench: making {count:,} events…", file=sys.stderr)
        table = events_table(count)
        pq.write_table(table, path.with_suffix(".part"), compression="zstd", row_group_size=1_000_000)
        path.with_suffix(".part").rename(path)
    return path


def events_table(count: int) -> Any:
    """The events as rows of `events`, in the order of arrival, copies among them."""
    import numpy as np
    import pyarrow as pa

    drawn = crowd.draw(count, START, DAYS * crowd.DAY_SECONDS)
    found = crowd.columns(drawn) | {
        "device_name": pa.nulls(count, pa.string()),
        "properties": pa.repeat("{}", count),
        "kafka_topic": pa.repeat("session", count),
        "kafka_topic_id": pa.repeat("5e" * 16, count),
        "kafka_partition": pa.array(drawn.user % 6, pa.int32()),
        "kafka_offset": pa.array(np.arange(count)),
    }
    columns = schemas.arrow_schema(units.EVENTS)
    return pa.table([found[field.name].cast(field.type) for field in columns], schema=columns)


def same(wanted: Path, found: Path) -> int:
    """Number of sessions in both files; raises Differs where a value of one is another in the other.

    Both sides are brought to the same types and compared as sets of whole rows; session keys are unique.
    """
    import duckdb

    con = duckdb.connect(config={"TimeZone": "UTC", "threads": 2, "autoinstall_known_extensions": False})
    paths = {"wanted": wanted, "found": found / "*.parquet" if found.is_dir() else found}
    for name, path in paths.items():
        columns = {row[0] for row in con.execute(f"DESCRIBE SELECT * FROM read_parquet('{path}')").fetchall()}
        if missing := set(schemas.duckdb_types(units.SESSIONS)) - columns:
            raise Differs(f"it has no column {', '.join(sorted(missing))}")
        con.execute(f"CREATE TABLE {name} AS SELECT {', '.join(typed())} FROM read_parquet('{path}')")
    counts = [con.execute(f"SELECT count(*), count(DISTINCT session_key) FROM {name}").fetchall()[0] for name in paths]
    for one, other in (("wanted", "found"), ("found", "wanted")):
        rows = con.execute(f"SELECT * FROM {one} EXCEPT SELECT * FROM {other} ORDER BY ALL LIMIT 1").fetchall()
        if rows:
            raise Differs(f"{counts[1][0]:,} sessions against our {counts[0][0]:,}; only {one}: {rows[0]}")
    if counts[0] != counts[1] or counts[0][0] != counts[0][1]:
        raise Differs(f"{counts[1]} sessions and keys against our {counts[0]}")
    return int(counts[0][0])


def typed() -> list[str]:
    """The session columns as they are compared: times in microseconds, everything else in the table's own type."""
    return [
        f"epoch_us({name}) AS {name}" if kind.startswith("TIMESTAMP") else f"CAST({name} AS {kind}) AS {name}"
        for name, kind in schemas.duckdb_types(units.SESSIONS).items()
    ]


def as_table(best: dict[str, Result], runs: int) -> str:
    """For people."""
    ours = best.get("ours")
    rows = [
        {
            "means": NAMES[name],
            "events/CPU-s": f"{result.rate:,.0f}",
            "ours is": f"{ours.rate / result.rate:.1f}x" if ours else "-",
            "events": f"{result.events:,}",
            "CPU s": f"{result.cpu:.2f}",
            "start CPU s": f"{result.usage.start_cpu:.2f}",
            "wall s": f"{result.usage.wall:.1f}",
            "peak MiB": f"{result.usage.peak_rss / 2**20:,.0f}",
        }
        for name, result in best.items()
    ]
    head = f"{measure.machine()}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, load {os.getloadavg()[0]:.1f}; {versions(best)}"
    return f"{head}; equal sessions; best of {runs} interleaved runs\n{measure.table(rows)}"


def versions(names: dict[str, Result]) -> str:
    """What was measured, by version."""
    import duckdb
    import pandas as pd

    known = {"ours": f"DuckDB {duckdb.__version__}", "pandas": f"pandas {pd.__version__}"}
    known |= {peer: packages.folder(peer).name.replace("-", " ") for peer in ("polars", "spark") if peer in names}
    return ", ".join(text for name, text in known.items() if name in names)


def as_json(best: dict[str, Result]) -> str:
    """For programs."""
    return json.dumps({
        "machine": measure.machine(), "at": datetime.now(UTC).isoformat(timespec="seconds"), "load": os.getloadavg()[0],
        "versions": versions(best),
        "contenders": {name: {"events_per_cpu_second": result.rate, **asdict(result)} for name, result in best.items()},
    })  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
