"""The retention policy: per layer, days to Infrequent Access, to Glacier and to expiry, read from one file and judged.

    glacier_class = "GLACIER_IR"

    [archive]
    infrequent = 60
    glacier = 180
    expire = 400

A layer without a number stays for ever, in the class it was written in. Days count from the day in an object's key
(expiry) or from the object's own birth (classes, which the store changes by itself). What a policy does stands in
`retention` and `lifecycle`; nothing is read at import.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engagement.errors import PermanentError
from engagement.maintenance.layers import LAYERS, RAW_LAYER, Layer
from engagement.settings import Settings

READABLE, UNREADABLE = ("GLACIER_IR",), ("GLACIER", "DEEP_ARCHIVE")
"""Classes whose objects are read at once, and those that have to be restored first."""
AFTER_LATENESS = 3
"""Days that a layer which feeds tables outlives the lateness horizon: a late event never meets a final day (R9)."""
LEAST_IN_CLASS = 30
"""S3 moves nothing to Infrequent Access before, and nothing from there to Glacier sooner than that after."""
_WORDS = ("infrequent", "glacier", "expire")


class PolicyError(PermanentError):
    """The policy cannot be used; names the file and entry, what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What happens to a layer, in days; None is never."""

    infrequent: int | None = None
    glacier: int | None = None
    expire: int | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules by layer. `declared` is False where there is no file: then a bucket's rules are left alone too."""

    rules: Mapping[str, Rule] = field(default_factory=dict)
    glacier_class: str = READABLE[0]
    declared: bool = False

    def expiring(self) -> dict[str, int]:
        """Layer -> days after which it expires, of those that do."""
        return {name: rule.expire for name, rule in self.rules.items() if rule.expire is not None}

    @property
    def moves(self) -> bool:
        """Whether it wants objects in another class: only a bucket can do that."""
        return any(rule.infrequent is not None or rule.glacier is not None for rule in self.rules.values())


def load(settings: Settings) -> Policy:
    """The policy of the file that ENGAGEMENT_RETENTION names; without a file nothing expires. Raises PolicyError."""
    if not settings.retention:
        return Policy()
    path = Path(settings.retention)
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        raise PolicyError(f"ENGAGEMENT_RETENTION={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: not readable: {error}") from error
    return parse(text, path.name, settings.lateness_days)


def parse(text: str, name: str, lateness_days: int) -> Policy:
    """The policy that a file's text declares; raises PolicyError."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{name}: not readable as TOML: {error}") from error
    glacier_class = raw.pop("glacier_class", READABLE[0])
    if glacier_class not in (*READABLE, *UNREADABLE):
        raise PolicyError(f"{name}: glacier_class = {glacier_class!r}: expected one of {', '.join((*READABLE, *UNREADABLE))}")
    rules = {key: _rule(name, key, value, lateness_days) for key, value in raw.items()}
    return Policy(rules, glacier_class, declared=True)


def _rule(name: str, key: str, raw: Any, lateness_days: int) -> Rule:
    layer = LAYERS.get(key)
    if layer is None or layer is RAW_LAYER:
        raise PolicyError(f"{name}: {_no_layer(key)}")
    if not isinstance(raw, dict):
        raise PolicyError(f"{name}: {key} = {raw!r}: expected a table [{key}] with days for {', '.join(_WORDS)}")
    if unknown := sorted(set(raw) - set(_WORDS)):
        raise PolicyError(f"{name}: [{key}] {unknown[0]}: expected one of {', '.join(_WORDS)}")
    for word, days in raw.items():
        if type(days) is not int or days < 1:
            raise PolicyError(f"{name}: [{key}] {word} = {days!r}: expected a whole number of days, at least 1")
    rule = Rule(**raw)
    if why := _contradiction(layer, rule, lateness_days):
        raise PolicyError(f"{name}: [{key}] {why}")
    return rule


def _no_layer(key: str) -> str:
    if key == RAW_LAYER.name:
        return "[raw] has no retention of its own: raw objects go when the archive holds them (ENGAGEMENT_RAW_GRACE_MINUTES)"
    valid = [name for name in LAYERS if name != RAW_LAYER.name]
    near = difflib.get_close_matches(key, valid, n=3, cutoff=0.4) or valid
    return f"there is no layer {key!r}; nearest valid names: {', '.join(near)}"


def _contradiction(layer: Layer, rule: Rule, lateness_days: int) -> str | None:
    """Why a rule can not be kept; None where it can."""
    least = lateness_days + AFTER_LATENESS
    if layer.feeds and rule.expire is not None and rule.expire < least:
        return (
            f"expire = {rule.expire}: must be at least {least}, for events may come {lateness_days} days late "
            f"(ENGAGEMENT_LATENESS_DAYS) and would find nothing to be added to"
        )
    if rule.infrequent is not None and rule.infrequent < LEAST_IN_CLASS:
        return f"infrequent = {rule.infrequent}: must be at least {LEAST_IN_CLASS}, S3 moves nothing sooner"
    if rule.infrequent is not None and rule.glacier is not None and rule.glacier < rule.infrequent + LEAST_IN_CLASS:
        return f"glacier = {rule.glacier}: must be at least {rule.infrequent + LEAST_IN_CLASS}, {LEAST_IN_CLASS} days after infrequent"
    moves = [days for days in (rule.infrequent, rule.glacier) if days is not None]
    if rule.expire is not None and moves and rule.expire <= max(moves):
        return f"expire = {rule.expire}: must be more than {max(moves)}, the last move to another class"
    return None
