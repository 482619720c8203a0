"""How old a number is: the whole demo at 200 events/s, flushing every 10 s and every 60 s, for a bounded time each.

    .venv/bin/python bench/latency.py [--rate 200] [--seconds 150]

Runs `engagement demo --seconds` as people do, but in a temporary state folder, on free ports and with a broker
of its own. Latency is defined in the interface: from log-append time to the first poll that finds the record
covered by its hour row. Start-up is part of the run: records that wait for Dagster's first tick count too.
What a run has not covered when it ends is not counted.
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

ROOT = Path(__file__).resolve().parent.parent
FLUSH_SECONDS = (10, 60)
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
)


def main() -> int:
    """Measure and print one line a flush interval."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rate", type=float, default=200.0, help="live events a second")
    options.add_argument("--seconds", type=int, default=150, help="length of each run, start-up included; the 60 s flush gets 90 s more")
    asked = options.parse_args()
    if jars.main([]):
        return 1
    print(f"{measure.machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {asked.rate:g} events/s")
    print("flush_s  " + "  ".join(COLUMNS))
    failed = False
    for flush in FLUSH_SECONDS:
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
        peak = Peak(Path(folder) / "state", broker)
        peak.start()
        try:
            output, said = command.communicate(timeout=seconds + STOP_SECONDS)
        except subprocess.TimeoutExpired:
            command.terminate()
            output, said = command.communicate(timeout=STOP_SECONDS)
        if command.returncode or not output.strip():
            print(said, file=sys.stderr)
            return None
        return dict(json.loads(output)) | {"peak_memory_mib": peak.mib}


class Peak(threading.Thread):
    """The greatest proportional memory (PSS) of all processes of a demo and its broker, looked at every few seconds."""

    def __init__(self, state: Path, broker: Broker) -> None:
        super().__init__(daemon=True)
        self._state, self._broker = str(state.resolve()), broker
        self.mib = 0

    def run(self) -> None:
        """Look until the broker is gone."""
        while self._broker.pid:
            pids = [*processes.marked(MARK, self._state), self._broker.pid]
            self.mib = max(self.mib, sum(pss_kib(pid) for pid in pids if pid) // 1024)
            time.sleep(3)


def pss_kib(pid: int) -> int:
    """Proportional memory of one process; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def environment(folder: Path, bootstrap: str, flush: int) -> dict[str, str]:
    """Of the demo: a folder, free ports and a broker of its own."""
    dagster, dashboard, metrics = processes.free_ports(HOST, 3)
    return measure.clean_environment(
        ENGAGEMENT_STATE_DIR=str(folder / "state"),
        ENGAGEMENT_LAKE_URL=str(folder / "lake"),
        ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS=bootstrap,
        ENGAGEMENT_FLUSH_SECONDS=str(flush),
        ENGAGEMENT_DAGSTER_PORT=str(dagster),
        ENGAGEMENT_DASHBOARD_PORT=str(dashboard),
        ENGAGEMENT_METRICS_PORT=str(metrics),
    )


def show(value: float | None) -> str:
    """A number, or a dash for what was never seen."""
    return "-" if value is None else f"{value:g}"


if __name__ == "__main__":
    sys.exit(main())
