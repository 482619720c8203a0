"""The command `demo`: the whole product on this machine with live data."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from cyclopts import Parameter

from engagement import settings as settings_module


def demo(*, seconds: int | None = None, rate: float = 20.0, logs: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Run broker, topics, history, live simulator, consumer, Dagster and the page; print the addresses when they answer.

    Ctrl-C ends everything; started again it goes on where it left off. With --seconds it stops by itself and
    prints one JSON line: what was produced and stored, and how old numbers were when they could be read.

    For example:

        engagement demo
        engagement demo --seconds 120 --rate 200

    Parameters
    ----------
    seconds
        Stop cleanly after so long (ENGAGEMENT_DEMO_SECONDS).
    rate
        Live events a second.
    logs
        Also show what every part prints, with its name before each line.
    """
    began = datetime.now(UTC)
    from engagement.stack.demo import Demo

    settings = settings_module.load(demo_seconds=seconds)
    work = Demo(settings, rate, _say, began, logs=logs)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: work.supervisor.stop.set())
    result = work.run(settings.demo_seconds, _dagster_home)
    if not settings.demo_seconds:
        return 0
    print(json.dumps(asdict(result)))
    return 0 if result.first_number_seconds is not None else 1


def _dagster_home(settings: settings_module.Settings) -> None:
    from engagement_assets.home import instance_home

    instance_home(settings)


def _say(line: str) -> None:
    print(f"demo: {line}", file=sys.stderr, flush=True)
