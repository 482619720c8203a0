"""What a suite says, as plain data: which rows, which constraint, which threshold, how bad a failure is, and what to do then.

A constraint measures one number and compares it with a threshold, in Deequ and in its DuckDB twin alike; what the number
means stands at its kind. Predicates are SQL that DuckDB and Spark read alike. Nothing is measured here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from engagement.verdicts.result import Severity


class Kind(StrEnum):
    """What a constraint measures, of the rows that `where` lets through.

    `size`: number of rows. `completeness`: share of rows whose column is not null. `uniqueness`: share of rows whose
    combination of the columns stands exactly once. `compliance`: share of rows for which the predicate is true (null is not).
    `pattern`: share of rows whose column matches the regular expression somewhere (null does not).
    `minimum`, `maximum`, `mean`, `sum`: of the column's values that are not null.
    """

    SIZE = "size"
    COMPLETENESS = "completeness"
    UNIQUENESS = "uniqueness"
    COMPLIANCE = "compliance"
    PATTERN = "pattern"
    MINIMUM = "minimum"
    MAXIMUM = "maximum"
    MEAN = "mean"
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class Threshold:
    """Bounds of a value, both included; raises ValueError where there is none, or none can hold."""

    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise ValueError("a threshold without a bound passes everything")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"no value is at least {self.at_least} and at most {self.at_most}")

    def holds(self, value: float) -> bool:
        """Whether the value lies within the bounds; NaN never does."""
        if math.isnan(value):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        """For people: `= 1`, `>= 0.99`, `<= 5`, `0 to 1`."""
        if self.at_least == self.at_most:
            return f"= {self.at_least:g}"
        if self.at_most is None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_least is None else f"{self.at_least:g} to {self.at_most:g}"


ALL = Threshold(1.0, 1.0)
"""Of shares: every row."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """One number that is measured and compared. `name` is unique in its suite and the name of the asset check."""

    name: str
    kind: Kind
    severity: Severity
    description: str
    """One sentence: what is so when it passes, with its rule, such as R6."""
    hint: str
    """One sentence: what to do when it fails."""
    columns: tuple[str, ...] = ()
    predicate: str = ""
    """SQL of a `compliance`, the regular expression of a `pattern`."""
    threshold: Threshold = ALL
    where: str = ""
    """SQL filter of the rows; empty for all."""
    gate: bool = False
    """Whether it judges candidates before publication (design §7): structural rules alone, always of severity error."""


@dataclass(frozen=True, slots=True)
class Suite:
    """Constraints over the same rows of one period of an asset."""

    name: str
    asset: str
    """The Dagster asset whose check each constraint is."""
    rows: str
    """A SELECT over the views of `quality.looking`, or the name of one of them."""
    grain: str
    """One row per …"""
    constraints: tuple[Constraint, ...]
    period: Literal["hour", "day"] = "hour"
