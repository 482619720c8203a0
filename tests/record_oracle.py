"""The event contract once more, slow and from `docs/events.md` alone: what one record is, and why it is no event.

It shares no code with the product: JSON by the standard library, times by counting days. Where several things are wrong
with a record the contract leaves open which one is named, so `judge` gives *all* reasons that hold; the product's must
be among them. Known and accepted differences of the standard library from the contract are undone here: it takes NaN
and Infinity (`_no_constant`), lone surrogates (`_has_surrogate`) and any nesting (`depth`).
"""

from __future__ import annotations

import json
import re
from calendar import monthrange
from dataclasses import dataclass
from typing import Any

MANDATORY = ("event_id", "user_id", "event_type", "timestamp")
TOP_TEXTS = ("session_id", "app_version")
NESTED = {
    "device_info": {"device_type": "device_type", "model": "device_model", "os_version": "os_version", "locale": "locale"},
    "geo_location": {"country": "country", "region": "region", "city": "city"},
}
DEEPEST = 500
DAY = 86_400_000_000
LAST = 3_652_059 * DAY  # microseconds from 0001-01-01 to the end of the year 9999
TO_1970 = 719_162 * DAY


@dataclass(frozen=True)
class Number:
    """A JSON number by its digits."""

    text: str


@dataclass(frozen=True)
class Good:
    """An event: its text columns (absent ones left out), its time in microseconds since 1970, the parsed properties."""

    texts: dict[str, str]
    micros: int
    properties: dict[str, Any] | None


def judge(payload: bytes | None) -> Good | set[str]:
    """The event, or every reason why it is none; times are read, not judged."""
    if not payload:
        return {"empty"}
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return {"bad_encoding"}
    document = parsed(text)
    if not isinstance(document, dict):
        return {"bad_json"}
    return _judge_object(document)


def judge_time(micros: int, received: int, start: int, *, skew: int, lateness: int | None) -> str | None:
    """The reason of an event at a time that is not taken; all in microseconds."""
    if micros - received > skew:
        return "in_future"
    if micros < start:
        return "before_history_start"
    if lateness is not None and received - micros > lateness:
        return "too_late"
    return None


def parsed(text: str, deepest: int = DEEPEST) -> Any:
    """The JSON value, of repeated names the last; an Ellipsis where the text is none (it can be no value)."""
    if depth(text) > deepest:
        return ...
    try:
        value = json.loads(text, parse_int=Number, parse_float=Number, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return ...
    # The names and values that a later duplicate replaced count too, so the text is searched and not the value.
    return ... if _has_surrogate(text) else value


def depth(text: str) -> int:
    """The deepest nesting of brackets outside of texts, character by character."""
    deepest = level = 0
    within = escaped = False
    for character in text:
        if within:
            escaped, within = character == "\\" and not escaped, escaped or character != '"'
        elif character == '"':
            within = True
        elif character in "[{":
            level += 1
            deepest = max(deepest, level)
        elif character in "]}":
            level -= 1
    return deepest


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _has_surrogate(text: str) -> bool:
    """Whether an escape stands for half of a surrogate pair. The text is valid JSON otherwise."""
    units = re.sub(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}", "", text.replace("\\\\", ""))
    return re.search(r"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", units) is not None


def _judge_object(document: dict[str, Any]) -> Good | set[str]:
    reasons = {f"missing:{name}" for name in MANDATORY if document.get(name) in (None, "")}
    texts: dict[str, str] = {}
    unknown: dict[str, Any] = {}
    for name, value in document.items():
        if name in (*MANDATORY, *TOP_TEXTS):
            reasons |= _take(texts, name, name, value)
        elif name in NESTED and value is not None:
            if not isinstance(value, dict):
                reasons.add(f"bad_type:{name}")
                continue
            for inner, held in value.items():
                if inner in NESTED[name]:
                    reasons |= _take(texts, NESTED[name][inner], f"{name}.{inner}", held)
                else:
                    unknown.setdefault(name, {})[inner] = held
        elif name not in NESTED and name != "properties":
            unknown[name] = value
    properties = document.get("properties")
    if properties is not None and not isinstance(properties, dict):
        reasons.add("bad_type:properties")
    reasons |= {f"bad_value:{name}" for name, fits in VALUES.items() if texts.get(name) and not fits(texts[name])}
    if reasons:
        return reasons
    micros = instant(texts.pop("timestamp"))
    assert micros is not None
    return Good(texts, micros, _with_unknown(properties, unknown))


def _take(texts: dict[str, str], column: str, shown: str, value: Any) -> set[str]:
    if isinstance(value, str):
        texts[column] = value
    return set() if value is None or isinstance(value, str) else {f"bad_type:{shown}"}


def _with_unknown(properties: dict[str, Any] | None, unknown: dict[str, Any]) -> dict[str, Any] | None:
    if not unknown:
        return properties
    kept = dict(properties or {})
    if "_extra" in kept:
        name = "properties._extra"
        while name in unknown:  # no field of the app's own is overwritten
            name += "_"
        unknown = {**unknown, name: kept["_extra"]}
    return kept | {"_extra": unknown}


def _is_uuid(text: str) -> bool:
    parts = text.split("-")
    return [len(part) for part in parts] == [8, 4, 4, 4, 12] and set("".join(parts)) <= set("0123456789abcdefABCDEF")


def _is_snake(text: str) -> bool:
    letters, digits = set("abcdefghijklmnopqrstuvwxyz"), set("0123456789")
    return text[:1] in letters and all(word and set(word) <= letters | digits for word in text.split("_"))


def instant(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 time with offset, further digits cut; None where it is none."""
    found = re.fullmatch(
        r"([0-9]{4})-([0-9]{2})-([0-9]{2})[tT ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?(?:[zZ]|([-+])([0-9]{2}):([0-9]{2}))", text
    )
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.group(1, 2, 3, 4, 5, 6))
    fraction, sign, off_hours, off_minutes = found.group(7, 8, 9, 10)
    if year < 1 or not 1 <= month <= 12 or not 1 <= day <= monthrange(year, month)[1]:
        return None
    if hour > 23 or minute > 59 or second > 59 or int(off_hours or 0) > 23 or int(off_minutes or 0) > 59:
        return None
    before = year - 1
    days = 365 * before + before // 4 - before // 100 + before // 400 + sum(monthrange(year, earlier)[1] for earlier in range(1, month))
    seconds = (days + day - 1) * 86_400 + hour * 3600 + minute * 60 + second
    shift = (int(off_hours or 0) * 60 + int(off_minutes or 0)) * 60 * (-1 if sign == "-" else 1)
    micros = (seconds - shift) * 1_000_000 + int(((fraction or "") + "000000")[:6])
    return micros - TO_1970 if 0 <= micros < LAST else None


VALUES = {
    "event_id": _is_uuid,
    "user_id": lambda text: len(text) <= 128,
    "event_type": _is_snake,
    "timestamp": lambda text: instant(text) is not None,
}
