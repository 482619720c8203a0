"""Which deviations begin an incident, and which hours of it teach later judgements nothing. Pure: hours are numbers.

The same cause within a few hours is the same incident; one that grows far beyond what was told is told again. What is
out of line is no example of what is usual, so its first day is left out of the history; a change that stays is learned then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from quality.anomalies.judging import Deviation, Scope

SAME = 3
"""Hours without the cause after which it is another incident."""
GROWN = 2.5
"""So many times the spreads that were told."""
LEFT_OUT = 24
"""Hours of an incident that are left out of the history."""


@dataclass(slots=True)
class Incident:
    """A cause that goes on: its first and its last hour, and the most spreads that were told."""

    cause: str
    first: int
    last: int
    spreads: float


@dataclass(slots=True)
class Incidents:
    """The incidents of one run of hours, in order."""

    known: dict[str, Incident] = field(default_factory=dict)

    def take(self, hour: int, deviations: Iterable[Deviation]) -> list[tuple[Deviation, Incident, bool]]:
        """Each deviation with its incident, and whether people are to be told now."""
        found = []
        for deviation in deviations:
            spreads = abs(deviation.finding.spreads)
            before = self.known.get(deviation.cause)
            if before is None or hour - before.last > SAME:
                made, told = Incident(deviation.cause, hour, hour, spreads), True
            else:
                told = spreads >= GROWN * before.spreads
                made = Incident(deviation.cause, before.first, hour, max(spreads, before.spreads) if told else before.spreads)
            self.known[deviation.cause] = made
            found.append((deviation, made, told))
        return found


def left_out(deviation: Deviation, incident: Incident, hour: int) -> Scope | None:
    """The scope whose hour is no example for later ones; None where it is to be learned from."""
    return deviation.scope if deviation.pages and hour - incident.first < LEFT_OUT else None
