"""What a step of maintenance says it did, or would do, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Tell = Callable[[str], None]
"""Hears what is being done now, one short line; for progress on a terminal."""


def quiet(_line: str) -> None:
    """A listener who does not listen."""


@dataclass
class Step:
    """One step: how many objects it wrote, emptied or deleted, and their bytes.

    `items` are the objects, one a line of text; `notes` what a person should know; `problems` what kept it from its work.
    """

    name: str
    objects: int = 0
    bytes: int = 0
    items: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def did(self, item: str, size: int) -> None:
        """Count one object."""
        self.objects += 1
        self.bytes += size
        self.items.append(item)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "step": self.name, "objects": self.objects, "bytes": self.bytes, "items": self.items, "notes": self.notes,
            "problems": self.problems,
        }  # fmt: skip
