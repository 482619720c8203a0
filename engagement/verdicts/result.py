"""What a check found of one period of one table, as a plain value that is stored, shown and sent to Dagster alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum


class Severity(StrEnum):
    """What a failure means: `error` makes commands exit 1, `warning` is told and blocks nothing."""

    ERROR = "error"
    WARNING = "warning"


class Status(StrEnum):
    """What became of a check.

    `empty`: there was no row to look at, so it neither passed nor failed; `broken`: it could not be carried out.
    """

    PASSED = "passed"
    FAILED = "failed"
    EMPTY = "empty"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One UTC hour or one UTC day: the partition that a result is of."""

    start: datetime
    kind: str = "hour"
    """`hour` or `day`."""

    @staticmethod
    def of_day(day: date) -> Period:
        """The whole UTC day."""
        return Period(datetime(day.year, day.month, day.day, tzinfo=UTC), "day")

    @property
    def end(self) -> datetime:
        """The first instant after it."""
        return self.start + timedelta(hours=24 if self.kind == "day" else 1)

    @property
    def key(self) -> str:
        """The Dagster partition key, such as `2026-03-11-10:00` or `2026-03-11`."""
        return f"{self.start:%Y-%m-%d}" if self.kind == "day" else f"{self.start:%Y-%m-%d-%H:%M}"


@dataclass(frozen=True, slots=True)
class Result:
    """One constraint of one suite, judged on one period by one engine."""

    suite: str
    check: str
    """Name of the constraint, of the metric that is out of line, or of what drifted; unique within its suite."""
    asset: str
    """The Dagster asset whose partition was judged."""
    period: Period
    engine: str
    """`gate`, `duckdb`, `deequ`, `anomaly` or `drift`."""
    severity: Severity
    status: Status
    value: float | None
    """What was measured; None where nothing was."""
    threshold: str
    """What was wanted of the value, for people, such as `>= 0.99`."""
    hint: str
    """What to do about a failure."""
    message: str = ""
    """One line for people: what was found, and of a broken check why."""
    rows: int | None = None
    """Rows that were looked at."""
    violations: int | None = None
    """Rows that broke the constraint; None where rows cannot be told apart."""
    sample: tuple[Mapping[str, str], ...] = ()
    """A few offending rows as text, persons pseudonymized (`quality.samples`)."""
    query: str = ""
    """A SELECT for `engagement query` that shows the offending rows; empty where none can."""
    inputs: str = ""
    """Digest of the versions of the objects that were judged: the same objects need not be judged again."""
    measured_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def passed(self) -> bool:
        """Whether something was looked at and found right."""
        return self.status is Status.PASSED

    @property
    def is_error(self) -> bool:
        """Whether a command has to exit 1 for it: an error that failed, or any check that could not be carried out."""
        return self.status is Status.BROKEN or (self.status is Status.FAILED and self.severity is Severity.ERROR)
