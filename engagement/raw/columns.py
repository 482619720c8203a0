"""Decoding many records at once: the same answers as `contract.decode` gives one by one, a dozen times cheaper.

A record takes the fast path only where vectorised checks prove that the contract would take it and what its
values are. Every other record, good or bad, is decoded on its own by the contract, which tells the exact
reason. So the checks here may be too strict, never too lax; `tests/unit/test_any_record.py` holds them to
that: a batch equals its records one by one, whatever the neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from engagement import contract
from engagement.contract import NO_DEVICE, NO_GEO, Event, Reject, TimeWindow, Wire

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = Wire(None, None, None, None)  # type: ignore[arg-type]
"""Stands for a reject: all columns null. Its mandatory fields are absent, which no decoded event's are."""

# Sufficient conditions, as RE2 patterns over whole values: they may refuse what the contract takes, never the other way.
_UUID = r"\A[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\z"
_SNAKE = r"\A[a-z][a-z0-9]*(?:_[a-z0-9]+)*\z"
_SHAPE = r"\A20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,6})?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])\z"
"""Instants whose values Arrow's parser judges as the contract does: it refuses a 30th of February, hour 24 and second 60."""
_DAY = (
    r"20[0-9]{2}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|20(?:[02468][048]|[13579][26])-02-29"
)
_INSTANT = rf"\A(?:{_DAY})T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{{1,6}})?(?:Z|[+-](?:0[0-9]|1[0-4]):[0-5][0-9])\z"
"""Instants that Arrow's parser takes; ten times dearer to match, so only where it refused a neighbour."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Typed columns of some records, in their order; all null where `reasons` names the record's place."""

    columns: dict[str, pa.Array]
    """The columns of `contract.Event` by name; event_time in microseconds UTC."""
    event_micros: np.ndarray
    """Event times as integers; meaningless for rejects."""
    reasons: dict[int, str]


def decode(
    payloads: Sequence[bytes | None],
    received_micros: np.ndarray,
    window: TimeWindow,
    any_age: Sequence[bool] | None = None,
    refused: Mapping[int, str] | None = None,
) -> Decoded:
    """Decode records and judge their times.

    `received_micros` is each record's received_at in microseconds; `any_age` marks those whose lateness is not
    judged (replays, R9); `refused` are places that are rejects already, with the reason. Never raises for what is
    in a record.
    """
    import numpy as np
    import pyarrow as pa

    wires = _strict(payloads)
    fields = _Fields(wires)
    plain, micros = _plain_instants([wire.timestamp for wire in wires])
    doubtful = ~(plain & fields.plain())
    doubtful[_unclear_bytes(payloads)] = True
    reasons: dict[int, str] = dict(refused or {})
    for place in reasons:
        fields.put(place, _NOTHING)
    for place in np.flatnonzero(doubtful).tolist():
        if place in reasons:
            continue
        try:
            event = contract.decode(payloads[place])
        except Reject as reject:
            fields.put(place, _NOTHING)
            reasons[place] = reject.reason
        else:
            fields.put(place, _wire(event))
            micros[place] = _micros(event.event_time)
    for place, reason in _outside(window, micros, received_micros, any_age):
        if place not in reasons:
            fields.put(place, _NOTHING)
            reasons[place] = reason
    rejected = np.zeros(len(wires), bool)
    rejected[list(reasons)] = True
    return Decoded(fields.columns(pa.array(micros, pa.timestamp("us", tz="UTC"), mask=rejected)), micros, reasons)


def _strict(payloads: Sequence[bytes | None]) -> list[Wire]:
    """Each record by the strict decoder, `_NOTHING` where it refuses."""
    strict = contract.strict
    wires: list[Wire] = []
    take = wires.append
    for payload in payloads:
        try:
            take(strict(payload or b""))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            take(_NOTHING)
    return wires


class _Fields:
    """The fields of some records, a list each; single places may be put anew."""

    def __init__(self, wires: list[Wire]) -> None:
        self._wires = wires
        self._lists: dict[str, list[Any]] = {
            "event_id": [wire.event_id for wire in wires],
            "user_id": [wire.user_id for wire in wires],
            "event_type": [wire.event_type for wire in wires],
            "properties": [bytes(wire.properties) for wire in wires],
        }
        self._arrays: dict[str, pa.Array] = {}

    def put(self, place: int, wire: Wire) -> None:
        self._wires[place] = wire
        for name, values in self._lists.items():
            values[place] = bytes(wire.properties) if name == "properties" else getattr(wire, name)
        self._arrays.clear()

    def plain(self) -> np.ndarray:
        """Which records the contract would take, as far as these fields tell; the time apart."""
        import pyarrow.compute as pc

        types = self._array("event_type").dictionary_encode()
        known = pc.take(pc.match_substring_regex(types.dictionary, _SNAKE), types.indices)
        length = pc.utf8_length(self._array("user_id"))
        named = pc.and_(pc.greater(length, 0), pc.less_equal(length, contract.MAX_USER_ID))
        properties = self._array("properties")
        clear = pc.or_(pc.equal(properties, b"null"), pc.starts_with(properties, b"{"))
        for condition in (pc.match_substring_regex(self._array("event_id"), _UUID), named, known):
            clear = pc.and_(clear, condition)
        found: np.ndarray = clear.fill_null(fill_value=False).to_numpy(zero_copy_only=False)
        return found

    def columns(self, event_time: pa.Array) -> dict[str, pa.Array]:
        """The columns of `contract.Event`."""
        import pyarrow as pa
        import pyarrow.compute as pc

        def texts(values: list[str | None]) -> pa.Array:
            return pa.array(values, pa.string())

        wires = self._wires
        devices = [wire.device_info or NO_DEVICE for wire in wires]
        places = [wire.geo_location or NO_GEO for wire in wires]
        properties = self._array("properties")
        return {
            "event_id": self._array("event_id"),
            "user_id": self._array("user_id"),
            "event_type": self._array("event_type"),
            "event_time": event_time,
            "session_id": texts([wire.session_id for wire in wires]),
            "device_type": texts([device.device_type for device in devices]),
            "device_model": texts([device.model for device in devices]),
            "os_version": texts([device.os_version for device in devices]),
            "locale": texts([device.locale for device in devices]),
            "app_version": texts([wire.app_version for wire in wires]),
            "country": texts([place.country for place in places]),
            "region": texts([place.region for place in places]),
            "city": texts([place.city for place in places]),
            "properties": pc.if_else(pc.equal(properties, b"null"), None, properties).cast(pa.string()),
        }

    def _array(self, name: str) -> pa.Array:
        import pyarrow as pa

        if name not in self._arrays:
            self._arrays[name] = pa.array(self._lists[name], pa.binary() if name == "properties" else pa.string())
        return self._arrays[name]


def _plain_instants(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which texts are plain instants, and all as microseconds, 0 for the others."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    instants = pa.array(texts, pa.string())

    def parsed(pattern: str) -> tuple[np.ndarray, np.ndarray]:
        plain = pc.match_substring_regex(instants, pattern).fill_null(fill_value=False)
        return plain.to_numpy(zero_copy_only=False), instants.filter(plain).cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy()

    try:
        mask, values = parsed(_SHAPE)
    except pa.ArrowInvalid:
        mask, values = parsed(_INSTANT)
    micros = np.zeros(len(texts), np.int64)
    micros[mask] = values
    return mask, micros


def _unclear_bytes(payloads: Sequence[bytes | None]) -> list[int]:
    """Places of records whose nesting or UTF-8 the strict decoder may not have judged, in what it skipped."""
    large = contract.SHALLOW_BYTES
    suspects = [place for place, payload in enumerate(payloads) if payload and (len(payload) > large or not payload.isascii())]
    return [place for place in suspects if not _is_utf8(payload := payloads[place] or b"") or contract.too_deep(payload)]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _outside(window: TimeWindow, micros: np.ndarray, received_micros: np.ndarray, any_age: Sequence[bool] | None) -> list[tuple[int, str]]:
    """Places whose event time the window refuses, with the reason; the same rules in the same order as `TimeWindow.check`."""
    import numpy as np

    age = received_micros - micros
    judged = [
        ("in_future", -age > _length(window.clock_skew)),
        ("before_history_start", micros < _micros(window.history_start)),
    ]
    if window.lateness is not None:
        late = age > _length(window.lateness)
        judged.append(("too_late", late if any_age is None else late & ~np.asarray(any_age)))
    found: dict[int, str] = {}
    for reason, mask in judged:
        for place in np.flatnonzero(mask).tolist():
            found.setdefault(place, reason)
    return list(found.items())


def _wire(event: Event) -> Wire:
    """An event decoded on its own, in the shape of its neighbours; its time is kept apart."""
    device = contract.Device(event.device_type, event.device_model, event.os_version, event.locale)
    geo = contract.Geo(event.country, event.region, event.city)
    properties = msgspec.Raw(b"null" if event.properties is None else event.properties.encode())
    return Wire(event.event_id, event.user_id, event.event_type, "", event.session_id, device, geo, event.app_version, properties)


def _micros(instant: datetime) -> int:
    return _length(instant - _EPOCH)


def _length(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
