"""Deequ judges rows that lie in files: constraints in, numbers out. Spark runs in a child process and is started once for all.

What a number means for a unit is decided by `quality.measured`; which rows, by `quality.checking`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quality.constraints import Suite
from quality.measured import Measured

if TYPE_CHECKING:
    from engagement.settings import Settings


@dataclass(frozen=True, slots=True)
class Request:
    """One suite over the rows of these Parquet files."""

    label: str
    files: tuple[Path, ...]
    suite: Suite


@dataclass(frozen=True, slots=True)
class DeequMetric:
    """One number of Deequ's repository: of an entity (`Dataset`, `Column`, `Multicolumn`), an instance and a name."""

    entity: str
    instance: str
    name: str
    value: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What Deequ measured of a request, in the order of the suite's constraints; or the `problem` that kept it from it."""

    label: str
    results: tuple[Measured, ...] = ()
    metrics: tuple[DeequMetric, ...] = ()
    problem: str = ""


def run(
    requests: Sequence[Request], settings: Settings, *, limit_seconds: float = 600.0, tell: Callable[[str], None] | None = None
) -> list[Answer]:
    """An answer to each request, in their order; never raises and never outlives `limit_seconds` by more than a few."""
    from quality.deequ.runner import judge

    return judge(requests, settings, limit_seconds, tell)
