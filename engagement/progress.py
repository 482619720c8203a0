"""How long work tells how far it is; who shows it to people is the command line's matter."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""(what is done now, how much of it is done, of how much): bytes, objects or pieces, as the work says; 0 of 0 where nobody knows."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""
