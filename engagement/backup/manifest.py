"""What a backup says of itself, and what is to be copied: plain functions over listings. Nothing is copied here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from engagement.errors import PermanentError
from engagement.lake import Entry
from engagement.raw.names import RAW

KEY = "backup.json"
STATE = "state"
STATE_OF_DAGSTER = f"{STATE}/dagster"
"""Folder of Dagster's own state in a backup; no lake has one."""
TABLES = ("processed/", "aggregated/")
VERSION = 1


@dataclass(frozen=True, slots=True)
class Held:
    """An object of the backup: bytes, their SHA-256, and the version that it had in the lake."""

    size: int
    sha256: str
    version: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of `backup.json`. `complete` tells a backup from one that was killed on its way."""

    lake: str = ""
    made_at: str = ""
    complete: bool = False
    objects: Mapping[str, Held] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """The text."""
        objects = {key: [held.size, held.sha256, held.version] for key, held in sorted(self.objects.items())}
        return (json.dumps({"backup": VERSION, **asdict(self), "objects": objects}, indent=1) + "\n").encode()

    @staticmethod
    def from_json(text: bytes) -> Manifest:
        """Read the text; raises PermanentError where it is no manifest."""
        try:
            raw = json.loads(text)
            if int(raw["backup"]) > VERSION:
                raise PermanentError(f"the backup is of version {raw['backup']}, this code knows {VERSION}: update the code")
            return Manifest(raw["lake"], raw["made_at"], bool(raw["complete"]), {key: Held(*held) for key, held in raw["objects"].items()})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PermanentError(f"{KEY} is not readable ({error}): it was not written by this program") from error


@dataclass(frozen=True, slots=True)
class Plan:
    """What a backup does: objects to copy in their order, keys to take away, keys that the lake lost."""

    copy: list[Entry]
    delete: list[str]
    lost: list[str]


def plan(wanted: Mapping[str, Entry], held: Mapping[str, Held], there: Mapping[str, int], is_covered: Callable[[str], bool]) -> Plan:
    """What makes a backup of `held` objects one of the `wanted` ones; `there` are the sizes of what really lies in it.

    What the lake has no more is taken away where that is as it should be: a raw object that a part covers, a table's
    object. Anything else the lake lost: it stays in the backup.
    """
    copy = [
        entry for key, entry in wanted.items() if key not in held or held[key].version != entry.version or there.get(key) != held[key].size
    ]
    gone = [key for key in held if key not in wanted and not key.startswith(f"{STATE}/")]
    delete = [key for key in gone if key.startswith(TABLES) or (key.startswith(f"{RAW}/") and is_covered(key))]
    return Plan(copy, delete, sorted(set(gone) - set(delete)))
