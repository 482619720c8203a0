"""What was measured for a constraint, and what that means: one place that judges, whichever engine measured."""

from __future__ import annotations

from dataclasses import dataclass

from engagement.verdicts.result import Status
from quality.constraints import Constraint


@dataclass(frozen=True, slots=True)
class Measured:
    """The number of one constraint. `value` is None where there was no row, or no value, to measure."""

    name: str
    value: float | None
    rows: int = 0
    """Rows that were looked at: those that `where` lets through, of a uniqueness those that are not null altogether."""
    violations: int | None = None
    """Rows that break the constraint; None where rows cannot be told apart, or were not counted."""
    problem: str = ""
    """Why it could not be measured, in one line."""


def status(constraint: Constraint, found: Measured) -> Status:
    """What becomes of the constraint. Nothing passes because nothing was looked at."""
    if found.problem:
        return Status.BROKEN
    if found.value is None or found.rows == 0:
        return Status.EMPTY
    return Status.PASSED if constraint.threshold.holds(found.value) else Status.FAILED
