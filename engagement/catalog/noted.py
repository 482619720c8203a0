"""What we wrote to Glue last, noted in the state folder, so that a tick that brings nothing new makes no call.

A cache: it may be deleted, be short or be another process's. Whoever finds nothing here asks Glue.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from engagement.catalog.shape import Values

LONGEST = 2000
"""Partitions that are remembered a table, the newest: live ticks are about these; asking again for an older one is harmless."""


class Noted:
    """The note at `path`; nothing noted where it is missing or not readable. A dry run leaves it as it is."""

    def __init__(self, path: Path, *, dry_run: bool = False) -> None:
        self._path, self._dry_run = path, dry_run
        self._partitions: dict[str, set[Values]] = {}
        self.digest = ""
        """Of the tables as they were last found or made right."""
        try:
            found = json.loads(path.read_text())
            self._partitions = {table: {tuple(text.split("/")) for text in texts} for table, texts in found["partitions"].items()}
            self.digest = str(found["tables"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self.forget()

    def of(self, table: str) -> set[Values]:
        """Partitions of a table that Glue has for certain."""
        return self._partitions.get(table, set())

    def add(self, table: str, partitions: Iterable[Values]) -> None:
        """Glue has these too."""
        self._partitions[table] = set(sorted(self.of(table) | set(partitions))[-LONGEST:])

    def forget(self) -> None:
        """Nothing is certain any more."""
        self._partitions, self.digest = {}, ""

    def save(self) -> None:
        """Write the note, if it changed; the last of several processes wins, which costs the others' a call."""
        partitions = {table: sorted("/".join(values) for values in found) for table, found in sorted(self._partitions.items())}
        text = json.dumps({"tables": self.digest, "partitions": partitions})
        if self._dry_run or (self._path.exists() and self._path.read_text() == text):
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        aside = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        aside.write_text(text)
        aside.rename(self._path)
