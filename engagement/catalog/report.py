"""What a refresh of the catalog did, as plain data: for logs, materializations and the command line (R11)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Report:
    """Filled in by whoever does the work; `drift` is what was found to differ from the lake and was put right."""

    catalog: str
    where: str
    tables_written: list[str] = field(default_factory=list)
    partitions_added: int = 0
    partitions_changed: int = 0
    partitions_removed: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of the catalog's service by name; a try that was throttled counts too."""
    drift: list[str] = field(default_factory=list)
    note: str = ""
    """Why nothing could be done, where that is no error."""

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(self.tables_written or self.partitions_added or self.partitions_changed or self.partitions_removed)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "catalog": self.catalog, "where": self.where, "tables_written": self.tables_written,
            "partitions_added": self.partitions_added, "partitions_changed": self.partitions_changed,
            "partitions_removed": self.partitions_removed, "calls": dict(self.calls), "drift": self.drift, "note": self.note,
        }  # fmt: skip

    def __str__(self) -> str:
        """One line for a person."""
        done = [f"wrote {', '.join(self.tables_written)}"] if self.tables_written else []
        counts = {"added": self.partitions_added, "changed": self.partitions_changed, "removed": self.partitions_removed}
        done += [f"{count} partitions {what}" for what, count in counts.items() if count]
        text = "; ".join(done) or self.note or "nothing had to change"
        asked = f" ({sum(self.calls.values())} calls)" if self.calls else ""
        return f"{self.catalog} catalog {self.where}: {text}{asked}"
