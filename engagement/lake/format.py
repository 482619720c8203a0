"""`lake.json`: what a lake is cut by (R10). Which lake a process opens, and whether its wishes fit, is in `opening`."""

from __future__ import annotations

import hmac
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import date

from engagement.errors import PermanentError
from engagement.settings import Settings

FORMAT_VERSION = 2
"""The newest that this code knows. 2: the lake keeps less of a person than it is sent; 1: everything."""
LAKE_JSON = "lake.json"


@dataclass(frozen=True, slots=True)
class LakeFormat:
    """Contents of `lake.json` (R10): what a lake is cut by, fixed for its life except `history_start`."""

    format_version: int
    slot_minutes: int
    session_gap_seconds: int
    session_mode: str
    history_start: date
    user_ids: str = "plain"
    keep_place: str = "city"
    keep_locale: str = "full"
    keep_bytes: str = "all"
    hash_key_check: str = ""
    """Tells whether a key is the one that the user ids were hashed with, and tells nothing of the key."""

    @staticmethod
    def of(settings: Settings) -> LakeFormat:
        """How a new lake of these settings is cut."""
        check = key_check(settings.hash_keys) if settings.user_ids == "hashed" else ""
        found = LakeFormat(
            1, settings.slot_minutes, settings.session_gap_seconds, settings.session_mode, settings.history_start, settings.user_ids,
            settings.keep_place, settings.keep_locale, settings.keep_bytes, check,
        )  # fmt: skip
        return replace(found, format_version=2) if found.privacy else found

    @property
    def privacy(self) -> dict[str, str]:
        """What is kept of a person, where it is not everything; older code must not write such a lake."""
        return {item.name: value for item in fields(self) if item.name in _KEPT and (value := getattr(self, item.name)) != item.default}

    @property
    def gap_us(self) -> int:
        """Session gap in microseconds."""
        return self.session_gap_seconds * 1_000_000

    def to_json(self) -> bytes:
        """The text of `lake.json`."""
        cut = {name: value for name, value in asdict(self).items() if name in _CUT}
        return (json.dumps(cut | {"history_start": self.history_start.isoformat()} | self.privacy, indent=2) + "\n").encode()

    @staticmethod
    def restoring(backup: str) -> bytes:
        """The text of `lake.json` while a lake is being restored from this backup: nobody opens such a lake."""
        return (json.dumps({"format_version": FORMAT_VERSION, "restoring": backup}) + "\n").encode()

    @staticmethod
    def from_json(text: bytes) -> LakeFormat:
        """Read `lake.json`; raises PermanentError for a lake of newer or unreadable format."""
        try:
            raw = json.loads(text)
            version = int(raw["format_version"])
            if version > FORMAT_VERSION:
                msg = f"the lake has format {version}, this code knows {FORMAT_VERSION}: update the code"
                raise PermanentError(msg)
            if "restoring" in raw:
                raise PermanentError("the lake is being restored from a backup: run `engagement restore` to its end first")
            return LakeFormat(
                version, int(raw["slot_minutes"]), int(raw["session_gap_seconds"]), str(raw["session_mode"]),
                date.fromisoformat(raw["history_start"]), **{name: str(raw[name]) for name in _KEPT if name in raw},
            )  # fmt: skip
        except (KeyError, ValueError, TypeError) as error:
            msg = f"{LAKE_JSON} is not readable ({error}); it was not written by this program"
            raise PermanentError(msg) from error


_CUT = ("format_version", "slot_minutes", "session_gap_seconds", "session_mode", "history_start")
_KEPT = ("user_ids", "keep_place", "keep_locale", "keep_bytes", "hash_key_check")


def key_check(keys: Sequence[bytes]) -> str:
    """A text that depends on the keys alone; without any, no lake of hashed ids can be made: raises PermanentError."""
    if not keys:
        raise PermanentError("ENGAGEMENT_USER_IDS=hashed needs ENGAGEMENT_HASH_KEY, a secret that must be kept as long as the lake")
    found = b"engagement: is this the key?"
    for key in keys:
        found = hmac.digest(key, found, "sha256")
    return found.hex()[:16]
