"""The freshness SLAs: one row a layer, overridden asset by asset in one file (`sla.toml`).

    [daily_engagement]
    warn_seconds = 900
    fail_seconds = 1800

`warn` and `fail` are of data time: how old the oldest record may be that the log holds and the asset lacks. `made_warn` and
`made_fail` are of materialization: so long after the last one Dagster's badge turns.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

from engagement.errors import PermanentError
from engagement.settings import Settings

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


class SlaError(PermanentError):
    """The file of SLAs cannot be used; names the entry, what was found and what was expected."""


class State(IntEnum):
    """What an SLA says, worse is greater. `UNKNOWN`: nobody could tell, as when the broker does not answer."""

    OK = 0
    UNKNOWN = 1
    WARN = 2
    FAIL = 3


@dataclass(frozen=True, slots=True)
class Sla:
    """Bounds of one asset. `late` is how much older stragglers may get: they are gathered on purpose (R9)."""

    made_warn: timedelta
    made_fail: timedelta
    warn: timedelta | None = None
    fail: timedelta | None = None
    """None: the asset follows others, and its data has no age of its own."""
    late: timedelta = _HOUR

    def bounds(self, *, late: bool = False) -> tuple[timedelta | None, timedelta | None]:
        """`warn` and `fail` of a lane."""
        if self.warn is None or self.fail is None:
            return None, None
        more = self.late if late else timedelta()
        return self.warn + more, self.fail + more

    def state(self, age: timedelta | None, *, late: bool = False) -> State:
        """What data of this age means; an age of None is unknown."""
        warn, fail = self.bounds(late=late)
        if age is None or warn is None or fail is None:
            return State.UNKNOWN
        return State.FAIL if age > fail else State.WARN if age > warn else State.OK


LAYERS: Mapping[str, Sla] = {
    "raw": Sla(5 * _MINUTE, 10 * _MINUTE, 2.5 * _MINUTE, 5 * _MINUTE),
    "hours": Sla(5 * _MINUTE, 10 * _MINUTE, 3 * _MINUTE, 5 * _MINUTE),
    "days": Sla(10 * _MINUTE, 20 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE),
    "catalog": Sla(5 * _MINUTE, 10 * _MINUTE),
    "archive": Sla(26 * _HOUR, 50 * _HOUR),
}
"""Raw waits for the flush of a minute at most, hour rows for the run of a minute behind it, day rows for one more. A day is
archived soon after its end; a small app's has no part before."""
ASSETS: Mapping[str, str] = {
    "raw_events": "raw", "events": "hours", "session_fragments": "hours", "user_activity": "hours", "sessions": "hours",
    "hourly_engagement": "hours", "daily_engagement": "days", "catalog": "catalog", "raw_archive": "archive",
}  # fmt: skip
"""Asset -> its layer."""
_NAMES = {f"{item.name}_seconds": item.name for item in fields(Sla)}


def load(settings: Settings) -> dict[str, Sla]:
    """The SLA of every asset: its layer's, with what the file of ENGAGEMENT_SLA says. Raises SlaError."""
    if not settings.sla:
        return parse("", "")
    path = Path(settings.sla)
    try:
        return parse(path.read_bytes().decode(), path.name)
    except FileNotFoundError:
        raise SlaError(f"ENGAGEMENT_SLA={path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SlaError(f"{path}: not readable: {error}") from error


def parse(text: str, name: str) -> dict[str, Sla]:
    """The SLA of every asset under the text of a file; raises SlaError."""
    try:
        declared: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SlaError(f"{name}: not readable as TOML: {error}") from error
    for asset in declared:
        if asset not in ASSETS:
            raise SlaError(f"{name}: {_unknown(asset, ASSETS)}")
    return {asset: _one(LAYERS[layer], declared.get(asset, {}), f"{name} [{asset}]") for asset, layer in ASSETS.items()}


def _one(layer: Sla, declared: Any, where: str) -> Sla:
    if not isinstance(declared, dict):
        raise SlaError(f"{where}: expected a table with {', '.join(_NAMES)}")
    for name, value in declared.items():
        if name not in _NAMES:
            raise SlaError(f"{where}: {_unknown(name, _NAMES)}")
        if type(value) not in (int, float) or not 0 <= value < 10**8:
            raise SlaError(f"{where} {name} = {value!r}: expected seconds, 0 or more")
        if getattr(layer, _NAMES[name]) is None:
            raise SlaError(f"{where} {name}: its data has no age of its own")
    found = replace(layer, **{_NAMES[name]: timedelta(seconds=value) for name, value in declared.items()})
    for low, high in (("warn", "fail"), ("made_warn", "made_fail")):
        least, most = getattr(found, low), getattr(found, high)
        if least is not None and most is not None and least >= most:
            raise SlaError(f"{where}: {low} ({least}) must be less than {high} ({most})")
    return found


def _unknown(name: str, valid: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.4) or sorted(valid)
    return f"unknown {name}; nearest valid names: {', '.join(near)}"
