"""How much of the hours that wait is not on the page yet, and since when: the delay of the live hour and of stragglers (R9).

`waits` says which hours wait; here their raw rows are counted and dated, from footers alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engagement.model import units
from engagement.raw.sources import Source
from engagement.tables.context import TableContext


@dataclass(frozen=True, slots=True)
class Backlog:
    """What some hours lack; hours that wait for sessions alone lack no row."""

    rows: int = 0
    """Good raw rows that their hour rows do not carry."""
    oldest_received_at: datetime | None = None
    """Log-append (or import) time of the first record of the oldest raw object with such a row; None without rows."""
    unseen: frozenset[datetime] = frozenset()
    """Hours that have no hour rows at all."""


def measure(context: TableContext, hours: Iterable[datetime]) -> Backlog:
    """The backlog of these hours. The index has to be in step with the lake (`waits.compute` sees to that)."""
    rows, unseen = 0, set()
    received: list[datetime] = []
    for hour in hours:
        made = hour_facts(context, hour)
        if not made:
            unseen.add(hour)
        for slot in units.slots_of(hour, context.format.slot_minutes):
            lacking = beyond(context.index.touching(slot), slot, made.get("offsets", {}).get(slot.isoformat(), {}))
            rows += sum(raw.event_slots[slot] for raw in lacking)
            received += [raw.first_received_at for raw in lacking if raw.first_received_at]
    return Backlog(rows, min(received, default=None), frozenset(unseen))


def hour_facts(context: TableContext, hour: datetime) -> dict[str, Any]:
    """What the day's object of hour rows says of this hour; empty where it has none."""
    facts = context.footers.of(context.lake.stat(units.hours_key(hour.date())))
    made: dict[str, Any] = facts.get("hours", {}).get(hour.isoformat(), {})
    return made


def beyond(touching: Iterable[Source], slot: datetime, covered: Mapping[str, int]) -> list[Source]:
    """Of the sources of a slot those with rows of it behind the covered offsets (chain label -> end)."""
    return [raw for raw in touching if raw.upto(slot) > covered.get(raw.chain.label, 0)]
