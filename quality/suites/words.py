"""Short ways to say a constraint, so that a suite reads as a list of sentences."""

from __future__ import annotations

from engagement.verdicts.result import Severity
from quality.constraints import Constraint, Kind, Threshold


def unique(name: str, columns: str, description: str, hint: str, *, gate: bool = False, where: str = "") -> Constraint:
    """No combination of these columns stands twice; an error."""
    names = tuple(columns.split())
    return Constraint(name, Kind.UNIQUENESS, Severity.ERROR, description, hint, names, where=where, gate=gate)


def holds(name: str, predicate: str, description: str, hint: str, *, where: str = "", gate: bool = False) -> Constraint:
    """The predicate is true in every row; an error."""
    return Constraint(name, Kind.COMPLIANCE, Severity.ERROR, description, hint, predicate=predicate, where=where, gate=gate)


def present(names: str) -> str:
    """Predicate: none of these columns is null."""
    return " AND ".join(f"{name} IS NOT NULL" for name in names.split())


def matches(name: str, column: str, pattern: str, description: str, hint: str, *, where: str = "") -> Constraint:
    """Every value matches the regular expression; an error."""
    return Constraint(name, Kind.PATTERN, Severity.ERROR, description, hint, (column,), pattern, where=where)


def usually(name: str, predicate: str, share: float, description: str, hint: str, *, where: str = "") -> Constraint:
    """The predicate is true in at least this share of the rows; a warning."""
    threshold = Threshold(at_least=share)
    return Constraint(name, Kind.COMPLIANCE, Severity.WARNING, description, hint, predicate=predicate, threshold=threshold, where=where)


def mostly_present(name: str, column: str, share: float, description: str, hint: str) -> Constraint:
    """The column is not null in at least this share of the rows; a warning."""
    return Constraint(name, Kind.COMPLETENESS, Severity.WARNING, description, hint, (column,), threshold=Threshold(at_least=share))


def at_most(name: str, column: str, bound: float, description: str, hint: str) -> Constraint:
    """No value of the column is greater; a warning."""
    return Constraint(name, Kind.MAXIMUM, Severity.WARNING, description, hint, (column,), threshold=Threshold(at_most=bound))


def some(name: str, description: str, hint: str) -> Constraint:
    """There is at least one row; an error."""
    return Constraint(name, Kind.SIZE, Severity.ERROR, description, hint, threshold=Threshold(at_least=1))
