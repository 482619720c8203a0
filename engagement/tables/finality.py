"""Which days are final: retention has taken, or may have taken, something that their tables are made from.

A day is *final* when it lies before the day that `retention.json` of the lake names. No table of a final day is made
again, for it could only be made into less (R10): nothing of it waits, a rebuild refuses it, and a publication that began
before looks once more just before its put. Retention records the day first and deletes afterwards, so whoever read its
inputs and then saw the day still open has read them whole; no two clocks are compared.

What expires, and when, is decided in `engagement.maintenance`. Here is only the record, and what follows from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Lake
from engagement.model import units

KEY = "retention.json"
NEVER_FINAL = timedelta(days=2)
"""Days younger than that need no look at the record: no policy takes anything so soon (`maintenance.policy`)."""
STORE_SLACK = timedelta(days=2)
"""A bucket rule counts from an object's own birth, which may lie a little before its day, and acts at a midnight."""


@dataclass(frozen=True, slots=True)
class Finality:
    """What the lake records of its retention.

    `gone_before` maps layers to the first day that they still hold. `store_expires_after`: so many days after their
    birth the store's own rules delete objects, whether or not any of our programs runs; None without such rules.
    """

    final_before: date | None = None
    gone_before: Mapping[str, date] = field(default_factory=dict)
    store_expires_after: int | None = None

    def first_open_day(self, now: datetime) -> date | None:
        """The first day that is not final; None where none is."""
        found = [self.final_before] if self.final_before else []
        if self.store_expires_after is not None:
            found.append((now.astimezone(UTC) - timedelta(days=self.store_expires_after) + STORE_SLACK).date())
        return max(found, default=None)

    def is_final(self, day: date, now: datetime) -> bool:
        """Whether the day's tables stay as they are."""
        first = self.first_open_day(now)
        return first is not None and day < first

    def to_json(self) -> bytes:
        """The record's text."""
        made: dict[str, Any] = {
            "final_before": self.final_before and self.final_before.isoformat(),
            "gone_before": {layer: day.isoformat() for layer, day in sorted(self.gone_before.items())},
            "store_expires_after": self.store_expires_after,
        }
        return (json.dumps(made, indent=2) + "\n").encode()

    @staticmethod
    def from_json(text: bytes) -> Finality:
        """Read a record; raises PermanentError where it is none: which days are final is then unknown."""
        try:
            raw = json.loads(text)
            return Finality(
                raw["final_before"] and date.fromisoformat(raw["final_before"]),
                {layer: date.fromisoformat(day) for layer, day in raw["gone_before"].items()},
                raw["store_expires_after"],
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            msg = f"{KEY} of the lake is not readable ({error}): restore it, or no old day may be made again"
            raise PermanentError(msg) from error


def read(lake: Lake) -> Finality:
    """The lake's record as it is now; a lake without one has no final day."""
    text = lake.read(KEY)
    return Finality() if text is None else Finality.from_json(text)


def refusal(lake: Lake, key: str, now: datetime | None = None) -> str | None:
    """Why the object under this key of a table must stay as it is; None where its day is open. Reads the record for old days."""
    now = now or datetime.now(UTC)
    day = units.day_of_key(key)
    if now.astimezone(UTC).date() - day < NEVER_FINAL:
        return None
    first = read(lake).first_open_day(now)
    return None if first is None or day >= first else f"{day} is final: retention took what it was made from; the first open day is {first}"
