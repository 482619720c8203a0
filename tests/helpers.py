"""Small helpers shared by all tests. No test sleeps: it polls what it waits for, with a deadline that only a failure reaches."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from engagement.stack import processes

T = TypeVar("T")

DEMO_PORTS = ("ENGAGEMENT_DAGSTER_PORT", "ENGAGEMENT_DASHBOARD_PORT", "ENGAGEMENT_METRICS_PORT", "ENGAGEMENT_EXPORTER_PORT")
"""Settings of the ports that a demo listens on, besides its broker's."""


def demo_environment(folder: Path, not_inherited: tuple[str, ...] = ("ENGAGEMENT_",), **own: str) -> dict[str, str]:
    """The environment of a demo in a world of its own: folders and free ports; `own` on top, nothing inherited with these prefixes."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(not_inherited)}
    ports = dict(zip(DEMO_PORTS, map(str, processes.free_ports("127.0.0.1", len(DEMO_PORTS))), strict=True))
    return inherited | ports | {"ENGAGEMENT_LAKE_URL": str(folder / "lake"), "ENGAGEMENT_STATE_DIR": str(folder / "state")} | own


def eventually(predicate: Callable[[], T], seconds: float = 60.0, pause: float = 0.05) -> T:
    """The predicate's first truthy result; AssertionError with its last one after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        result = predicate()
        if result:
            return result
        assert time.monotonic() < deadline, f"still {result!r} after {seconds:g} s"
        time.sleep(pause)
