"""What goes wrong between phone and broker: late events, copies, malformed records, fields nobody announced.

Every record it touches carries the fault's name, so that whoever sends can count exactly. An event has at
most one fault. `MALFORMED` names, for each kind, the reject reason that the contract gives it.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from engagement.stack.simulator.population import DAY_US, HOUR_US, MINUTE_US
from engagement.stack.simulator.wire import Document, Record, encode, family, instant, microseconds, timestamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from random import Random

LATE, COPY, COPY_UPPER_CASE, EXTRA, EXTRA_NESTED = "late", "copy", "copy_upper_case", "extra", "extra_nested"
SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Faults:
    """Shares (0 to 1, together at most 1) of events that have each fault."""

    late: float = 0.01
    duplicates: float = 0.01
    malformed: float = 0.005
    unknown_fields: float = 0.005


class Occurrence(NamedTuple):
    """A good event at the instant it happens."""

    at_us: int
    document: Document


class Malformed(NamedTuple):
    """One way to break a record, and the reason with which the contract rejects it (None: only the clock tells)."""

    value: Callable[[Random, Occurrence], bytes | None]
    reason: str | None


def _cut(rng: Random, found: Occurrence) -> bytes:
    """Broken JSON, still whole characters: half of one would be another fault."""
    whole = encode(found.document)
    return whole[: rng.randint(1, len(whole) - 1)].decode(errors="ignore").encode()


def _invalid_utf8(_: Random, found: Occurrence) -> bytes:
    return encode(found.document).replace(b'"locale":"', b'"locale":"\xff\xfe', 1)


def _without_user(_: Random, found: Occurrence) -> bytes:
    return encode({name: value for name, value in found.document.items() if name != "user_id"})


def _broken_time(rng: Random, found: Occurrence) -> bytes:
    whole: str = found.document["timestamp"]
    broken = (whole[:-6], whole.replace("-", "/", 2), f"{whole[:5]}13{whole[7:]}", "yesterday")
    return encode(found.document | {"timestamp": rng.choice(broken)})


def _future(rng: Random, found: Occurrence) -> bytes:
    ahead = rng.randint(2 * DAY_US, 400 * DAY_US)
    return encode(found.document | {"timestamp": timestamp(found.at_us + ahead, 0)})


MALFORMED: dict[str, Malformed] = {
    "bad_json": Malformed(_cut, "bad_json"),
    "invalid_utf8": Malformed(_invalid_utf8, "bad_encoding"),
    "empty": Malformed(lambda rng, _: rng.choice((b"", None)), "empty"),
    "missing_user_id": Malformed(_without_user, "missing:user_id"),
    "broken_timestamp": Malformed(_broken_time, "bad_value:timestamp"),
    "future_timestamp": Malformed(_future, None),
    "wrong_type_app_version": Malformed(lambda _, found: encode(found.document | {"app_version": 7}), "bad_type:app_version"),
    "wrong_type_properties": Malformed(lambda _, found: encode(found.document | {"properties": ["Home"]}), "bad_type:properties"),
}
_KINDS = tuple(MALFORMED)

GROUPS: dict[str, str] = {
    LATE: "late", COPY: "duplicates", COPY_UPPER_CASE: "duplicates", EXTRA: "unknown_fields", EXTRA_NESTED: "unknown_fields",
    **dict.fromkeys(MALFORMED, "malformed"),
}  # fmt: skip
"""Fault of a record -> the share of `Faults` it belongs to."""


def disturb(occurrences: Iterable[Occurrence], rng: Random, faults: Faults, end_us: int | None) -> Iterator[Record]:
    """The records of these events in the order in which they are due, before `end_us` (excluded).

    What would arrive only after the end is not there yet: a longer run brings it.
    """
    delayed: list[tuple[int, int, Record]] = []
    for number, found in enumerate(occurrences):
        while delayed and delayed[0][0] <= found.at_us:
            yield heapq.heappop(delayed)[2]
        now, later = _records(found, rng, faults)
        if now is not None:
            yield now
        if later is not None:
            heapq.heappush(delayed, (microseconds(later.due_at), number, later))
    while delayed and (end_us is None or delayed[0][0] < end_us):
        yield heapq.heappop(delayed)[2]


def _records(found: Occurrence, rng: Random, faults: Faults) -> tuple[Record | None, Record | None]:
    """What is sent at once and what is sent later."""
    lot = rng.random()
    if lot < faults.late:
        return None, _record(found, found.at_us + _lateness(rng), encode(found.document), LATE)
    lot -= faults.late
    if lot < faults.duplicates:
        return _record(found, found.at_us, encode(found.document)), _copy(found, rng)
    lot -= faults.duplicates
    if lot < faults.malformed:
        kind = rng.choice(_KINDS)
        return _record(found, found.at_us, MALFORMED[kind].value(rng, found), kind), None
    lot -= faults.malformed
    if lot < faults.unknown_fields:
        return _with_extra(found, rng), None
    return _record(found, found.at_us, encode(found.document)), None


def _record(found: Occurrence, due_us: int, value: bytes | None, fault: str | None = None) -> Record:
    key = None if fault == "missing_user_id" else found.document["user_id"].encode()
    return Record(family(found.document["event_type"]), key, value, instant(due_us), fault)


def _lateness(rng: Random) -> int:
    """Most phones were in a tunnel for minutes, some in a plane for hours."""
    if rng.random() < 0.7:
        return rng.randint(MINUTE_US, 30 * MINUTE_US)
    return rng.randint(30 * MINUTE_US, 8 * HOUR_US)


def _copy(found: Occurrence, rng: Random) -> Record:
    due_us = found.at_us + rng.randint(SECOND_US, 5 * MINUTE_US)
    if rng.random() < 0.7:
        return _record(found, due_us, encode(found.document), COPY)
    upper = found.document | {"event_id": found.document["event_id"].upper()}
    return _record(found, due_us, encode(upper), COPY_UPPER_CASE)


def _with_extra(found: Occurrence, rng: Random) -> Record:
    if rng.random() < 0.5:
        return _record(found, found.at_us, encode(found.document | {"experiment": rng.choice(("blue_button", "control"))}), EXTRA)
    device = found.document["device_info"] | {"battery_level": round(rng.random(), 2)}
    return _record(found, found.at_us, encode(found.document | {"device_info": device}), EXTRA_NESTED)
