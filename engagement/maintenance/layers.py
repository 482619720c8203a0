"""The layers of a lake as retention and `status` name them: which objects belong to each, and of which day.

A layer is a set of folders, and where two share a folder the objects' name. Raw objects have no day in their key; all
others lie under `year=/month=/day=`. Nothing is deleted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

from engagement.lake import Entry, Lake
from engagement.model import units
from engagement.raw.coverage import ARCHIVE
from engagement.raw.names import RAW

SMALL_BYTES = 1 << 20
"""An object below 1 MiB counts as small: opening it costs a reader more than reading it."""
_DAY = re.compile(r"/year=(\d{4})/month=(\d{2})/day=(\d{2})/")


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer. `ends` is how its objects' names end where others lie in the same folder."""

    name: str
    folders: tuple[str, ...]
    ends: str = ""
    feeds: bool = False
    """Whether tables are made from it: what it loses makes the day final (`tables.finality`)."""
    personal: bool = True
    """Whether it holds user ids, so that erasure must be able to read and rewrite it."""

    def objects(self, lake: Lake, before: date | None = None) -> Iterator[Entry]:
        """Its objects in key order a folder; with `before` those of earlier days alone, and the listing stops there."""
        for folder in self.folders:
            for entry in lake.list(folder):
                if before is not None:
                    day = day_of(entry.key)
                    if day is not None and day >= before and folder != ARCHIVE:  # there topics come one after another, here days
                        break
                    if day is None or day >= before:
                        continue
                if entry.key.endswith(self.ends):
                    yield entry


RAW_LAYER = Layer("raw", (RAW,), feeds=True)
ARCHIVE_LAYER = Layer("archive", (ARCHIVE,), feeds=True)
TABLES = (
    Layer("events", (units.EVENTS,), feeds=True),
    Layer("user_facts", (units.FRAGMENTS, units.ACTIVITY), feeds=True),
    Layer("sessions", (units.SESSIONS,), feeds=True),
    Layer("hour_rows", (units.BIG_TABLE,), "/hours.parquet", feeds=True, personal=False),
    Layer("day_rows", (units.BIG_TABLE,), "/day.parquet", feeds=True, personal=False),
)
"""Tables made from raw events. The big table feeds nothing, but a day without it would be made again from what is left."""
SIDE = (Layer("quarantine", ("quarantine",)), Layer("metrics", ("metrics",), personal=False))
"""What quality keeps beside the tables, by day too; nothing is made from it."""
LAYERS = {layer.name: layer for layer in (RAW_LAYER, ARCHIVE_LAYER, *TABLES, *SIDE)}


@dataclass(frozen=True, slots=True)
class Size:
    """How big a layer is; `small` objects have less than SMALL_BYTES."""

    layer: str
    objects: int
    bytes: int
    small: int


def measure(lake: Lake) -> list[Size]:
    """Every layer's size, from one listing of each; lists the whole lake."""
    found = []
    for layer in LAYERS.values():
        sizes = [entry.size for entry in layer.objects(lake)]
        found.append(Size(layer.name, len(sizes), sum(sizes), sum(size < SMALL_BYTES for size in sizes)))
    return found


def day_of(key: str) -> date | None:
    """The day in an object's key; None where it has none."""
    found = _DAY.search(key)
    try:
        return date(*map(int, found.groups())) if found else None
    except ValueError:  # a foreign folder such as month=13
        return None


def day_folder(key: str) -> str:
    """Folder of the day in an object's key; empty where it has none."""
    found = _DAY.search(key)
    return key[: found.end() - 1] if found else ""
