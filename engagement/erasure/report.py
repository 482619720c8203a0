"""What `engagement forget` did, is still waiting for, and proved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

Told = Callable[["Touched"], None]


@dataclass(frozen=True, slots=True)
class Touched:
    """One object: `action` is rewritten, rebuilt, fenced, sealed or deleted; `would …` in a dry run. `rows` of theirs it had."""

    key: str
    action: str
    rows: int = 0


@dataclass(slots=True)
class Report:
    """A whole run. `done`: no byte of theirs is left, and nothing can bring one back."""

    users: int
    dry_run: bool
    number: int = 0
    """Length of the erasure list from which on it has all of them."""
    objects: list[Touched] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    """What must still happen; then the command is run again."""
    left: dict[str, str] = field(default_factory=dict)
    """Object -> why it may still hold bytes of theirs."""
    notes: list[str] = field(default_factory=list)
    """What a person has to know, the Kafka side first."""
    scanned_objects: int = 0
    scanned_bytes: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent on `scan` and on everything else, `rewrite`."""

    @property
    def done(self) -> bool:
        """Whether it may be said to be over."""
        return not self.dry_run and not self.pending and not self.left

    def counts(self) -> dict[str, int]:
        """Action -> objects."""
        found: dict[str, int] = {}
        for item in self.objects:
            found[item.action] = found.get(item.action, 0) + 1
        return dict(sorted(found.items()))

    def to_json(self) -> dict[str, Any]:
        """As one JSON object."""
        return {**asdict(self), "done": self.done}
