"""How old a number is: the whole demo at 200 events/s, flushing every 10 s and every 60 s, for a bounded time each.

    .venv/bin/python bench/latency.py [--rate 200] [--seconds 150] [--flush 10,60]

Runs `engagement demo --seconds` as people do, but in a temporary state folder, on free ports and with a broker
of its own. Latency is defined in the interface: from log-append time to the first poll that finds the record
covered by its hour row. Start-up is part of the run: records that wait for Dagster's first tick count too.
What a run has not covered when it ends is not counted.

A tick is one run of the live hours; its cost is the CPU of Dagster's daemon, code server and all runs (late and day
runs, planning, imports, forks included, the webserver not), from the end of the first run to the last look, by ticks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import measure

from engagement.stack import jars, processes
from engagement.stack.broker import Broker
from engagement.stack.node import HOST
from engagement.stack.supervisor import MARK
from resources.tags import LANE

ROOT = Path(__file__).resolve().parent.parent
FLUSH_SECONDS = "10,60"
STOP_SECONDS = 180
COLUMNS = (
    "first_number_seconds",
    "latency_p50_seconds",
    "latency_p95_seconds",
    "events_produced",
    "rows_raw",
    "rows_rejected",
    "duplicates_dropped",
    "peak_memory_mib",
    "ticks",
    "tick_cpu_seconds",
)
ORCHESTRATION = (b"dagster-daemon", b"code_server", b"forkserver")
"""Command lines of the processes whose CPU a tick costs; a run is a fork of the last and keeps its command line."""


def main() -> int:
    """Measure and print one line a flush interval."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rate", type=float, default=200.0, help="live events a second")
    options.add_argument("--seconds", type=int, default=150, help="length of each run, start-up included; the 60 s flush gets 90 s more")
    options.add_argument("--flush", default=FLUSH_SECONDS, help="flush intervals in seconds, a run each")
    asked = options.parse_args()
    if jars.main([]):
        return 1
    print(f"{measure.machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {asked.rate:g} events/s")
    print("flush_s  " + "  ".join(COLUMNS))
    failed = False
    for flush in map(int, asked.flush.split(",")):
        result = run(flush, asked.rate, asked.seconds + (90 if flush > 10 else 0))
        failed |= result is None
        shown = "failed" if result is None else "  ".join(f"{show(result[name]):>{len(name)}}" for name in COLUMNS)
        print(f"{flush:>7}  {shown}", flush=True)
    return 1 if failed else 0


def run(flush: int, rate: float, seconds: int) -> dict[str, Any] | None:
    """One demo in a folder of its own; None, with what it said on stderr, where no number was ever visible."""
    with tempfile.TemporaryDirectory(prefix="engagement-bench-") as folder, Broker(Path(folder) / "kafka") as broker:
        command = subprocess.Popen(
            [sys.executable, "-m", "engagement", "demo", "--seconds", str(seconds), "--rate", str(rate)],
            cwd=ROOT, env=environment(Path(folder), broker.bootstrap, flush), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        watch = Watch(Path(folder) / "state", broker)
        watch.start()
        try:
            output, said = command.communicate(timeout=seconds + STOP_SECONDS)
        except subprocess.TimeoutExpired:
            command.terminate()
            output, said = command.communicate(timeout=STOP_SECONDS)
        if command.returncode or not output.strip():
            print(said, file=sys.stderr)
            return None
        return dict(json.loads(output)) | {"peak_memory_mib": watch.mib} | ticks(Path(folder) / "state" / "dagster", watch.cpu)


class Watch(threading.Thread):
    """All processes of a demo and its broker, looked at every few seconds: memory, and what orchestration costs."""

    def __init__(self, state: Path, broker: Broker) -> None:
        super().__init__(daemon=True)
        self._state, self._broker = str(state.resolve()), broker
        self.mib = 0
        """The greatest proportional memory (PSS) of all together."""
        self.cpu: list[tuple[float, float]] = []
        """(time of day, CPU seconds of orchestration so far)."""

    def run(self) -> None:
        """Look until the broker is gone."""
        while self._broker.pid:
            pids = [*processes.marked(MARK, self._state), self._broker.pid]
            self.mib = max(self.mib, sum(pss_kib(pid) for pid in pids if pid) // 1024)
            found = {pid: seconds for pid in pids if pid and (seconds := orchestration_cpu(pid))}
            if len(found) >= len(ORCHESTRATION):  # while the demo ends they go one by one, and their sum falls
                self.cpu.append((time.time(), sum(found.values())))
            time.sleep(3)


def orchestration_cpu(pid: int) -> float:
    """CPU seconds of a process and of the children it has waited for; 0 where it is none of Dagster's."""
    try:
        if not any(name in Path(f"/proc/{pid}/cmdline").read_bytes() for name in ORCHESTRATION):
            return 0.0
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / measure.TICKS


def ticks(home: Path, cpu: list[tuple[float, float]]) -> dict[str, Any]:
    """How many ticks the recorded runs are, and CPU seconds of each; a dash where there were none."""
    os.environ["DAGSTER_HOME"] = str(home)
    from dagster import DagsterInstance, RunsFilter

    with DagsterInstance.get() as instance:
        ends = sorted(found.end_time for found in instance.get_run_records(RunsFilter(tags={LANE: "live"})) if found.end_time)
    window = [look for look in cpu if ends and look[0] >= ends[0]]
    count = sum(window[0][0] < end <= window[-1][0] for end in ends) if window else 0
    return {"ticks": count, "tick_cpu_seconds": round((window[-1][1] - window[0][1]) / count, 2) if count else None}


def pss_kib(pid: int) -> int:
    """Proportional memory of one process; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def environment(folder: Path, bootstrap: str, flush: int) -> dict[str, str]:
    """Of the demo: a folder, free ports and a broker of its own."""
    dagster, dashboard, metrics, exporter = processes.free_ports(HOST, 4)
    return measure.clean_environment(
        ENGAGEMENT_STATE_DIR=str(folder / "state"),
        ENGAGEMENT_LAKE_URL=str(folder / "lake"),
        ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=bootstrap,
        ENGAGEMENT_FLUSH_SECONDS=str(flush),
        ENGAGEMENT_DAGSTER_PORT=str(dagster),
        ENGAGEMENT_DASHBOARD_PORT=str(dashboard),
        ENGAGEMENT_METRICS_PORT=str(metrics),
        ENGAGEMENT_EXPORTER_PORT=str(exporter),
    )


def show(value: float | None) -> str:
    """A number, or a dash for what was never seen."""
    return "-" if value is None else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
