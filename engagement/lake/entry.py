"""What a listing shows of an object. Keys are known to every store, what is in the objects to none."""

from __future__ import annotations

from dataclasses import dataclass

TEMP_FOLDER = ".tmp"
"""Of objects that are not there yet; outside of every table's folder, so that no reader sees half an object."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One object as a listing shows it. `version` changes whenever the object's bytes do; `size` is in bytes."""

    key: str
    size: int
    version: str
