"""Small helpers shared by all tests. No test sleeps: it polls what it waits for, with a deadline that only a failure reaches."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEMO_PORTS = ("ENGAGEMENT_DAGSTER_PORT", "ENGAGEMENT_DASHBOARD_PORT", "ENGAGEMENT_METRICS_PORT", "ENGAGEMENT_EXPORTER_PORT")
"""Settings of the ports that a demo listens on, besides its broker's."""


def eventually(predicate: Callable[[], T], seconds: float = 60.0, pause: float = 0.05) -> T:
    """The predicate's first truthy result; AssertionError with its last one after the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        result = predicate()
        if result:
            return result
        assert time.monotonic() < deadline, f"still {result!r} after {seconds:g} s"
        time.sleep(pause)
