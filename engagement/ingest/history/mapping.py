"""Names: which field of an event a field or column of somebody's file is. Pure.

Flat formats name nested fields by dots (`device_info.model`); only the first dot counts, and only behind a nested
object of the contract. Every other name is an unknown field, which the contract keeps in `properties._extra`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from engagement.contract import MANDATORY, TEXTS
from engagement.errors import UsageError

PROPERTIES = "properties"
TOP = (*MANDATORY, "session_id", "app_version")
HOLDERS = (*TEXTS, PROPERTIES)
"""Nested objects of an event."""
VALID = (*TOP, *(f"{holder}.{name}" for holder, names in TEXTS.items() for name in names), *HOLDERS)
"""Everything `--map` may name on its right side, besides `properties.anything`."""


@dataclass(frozen=True, slots=True)
class Renames:
    """Their names -> ours, as `--map theirs=ours` gives them."""

    ours: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.ours)

    def of(self, name: str) -> str:
        """Our name of one of theirs."""
        return self.ours.get(name, name)

    def require_used(self, names: Iterable[str]) -> None:
        """Raises UsageError where a renamed name is none of the names that the files have."""
        known = sorted(set(names))
        for theirs, ours in self.ours.items():
            if theirs not in known:
                raise UsageError(f"--map {theirs}={ours}: no file has a column {theirs!r}{_nearest(theirs, known)}")


NO_RENAMES = Renames()


def parse(pairs: Iterable[str]) -> Renames:
    """The renames of `theirs=ours` texts; raises UsageError, which names the nearest valid names."""
    found: dict[str, str] = {}
    for pair in pairs:
        theirs, equals, ours = pair.partition("=")
        if not (theirs and equals and ours):
            raise UsageError(f"--map {pair}: expected theirs=ours, as in `--map uid=user_id`")
        if not (ours in VALID or (ours.startswith(f"{PROPERTIES}.") and len(ours) > len(PROPERTIES) + 1)):
            raise UsageError(f"--map {pair}: {ours!r} is no field of an event{_nearest(ours, VALID)}; or use properties.{ours}")
        if found.get(theirs, ours) != ours:
            raise UsageError(f"--map {pair}: {theirs} is {found[theirs]} already")
        found[theirs] = ours
    return Renames(found)


def split(name: str) -> tuple[str | None, str]:
    """Holder and field of one of our names; None for a top-level field, whole holders included."""
    holder, dot, rest = name.partition(".")
    return (holder, rest) if dot and rest and holder in HOLDERS else (None, name)


def is_text(name: str) -> bool:
    """Whether the contract wants a text under this name."""
    holder, inner = split(name)
    return name in TOP if holder is None else inner in TEXTS.get(holder, ())


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.4)
    return f"; nearest: {', '.join(near)}" if near else f"; there are: {', '.join(list(known)[:12])}"
