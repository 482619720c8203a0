"""What people said of results: that a deviation is as it should be. One small document a lake; it belongs into every backup.

An accepted deviation is no suspicion any more, and no later judgement learns from it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, Lake

KEY = "accepted.json"
ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One word: of which unit and check, why, and when."""

    unit: str
    """`ASSET/PARTITION_KEY`."""
    check: str
    why: str
    at: datetime


def read(lake: Lake) -> list[Acceptance]:
    """All of them, by unit and check; raises PermanentError where the document is none."""
    text = lake.read(KEY)
    try:
        found = [
            Acceptance(item["unit"], item["check"], item["why"], datetime.fromisoformat(item["at"])) for item in json.loads(text or b"[]")
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise PermanentError(f"{lake.name(KEY)} is not readable ({error}): restore it") from error
    return sorted(found, key=lambda item: (item.unit, item.check))


def accept(lake: Lake, unit: str, check: str, why: str = "", now: datetime | None = None) -> None:
    """Say so; said again it is said anew."""
    made = Acceptance(unit, check, why, now or datetime.now(UTC))
    _change(lake, lambda found: [item for item in found if (item.unit, item.check) != (unit, check)] + [made])


def withdraw(lake: Lake, unit: str, check: str) -> None:
    """Take it back; raises PermanentError where it was never said."""
    if not any((item.unit, item.check) == (unit, check) for item in read(lake)):
        raise PermanentError(f"{unit} {check} was never accepted")
    _change(lake, lambda found: [item for item in found if (item.unit, item.check) != (unit, check)])


def _change(lake: Lake, change: Callable[[list[Acceptance]], list[Acceptance]]) -> None:
    for _ in range(ATTEMPTS):
        with lake.replacing(KEY):
            old = lake.stat(KEY)
            made: list[dict[str, Any]] = [
                {"unit": item.unit, "check": item.check, "why": item.why, "at": item.at.isoformat()}
                for item in sorted(change(read(lake)), key=lambda item: (item.unit, item.check))
            ]
            try:
                lake.replace(KEY, (json.dumps(made, indent=2, ensure_ascii=False) + "\n").encode(), old)
            except Changed:
                continue
            return
    raise TransientError(f"{lake.name(KEY)}: replaced by other writers {ATTEMPTS} times in a row")
