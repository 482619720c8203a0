"""What any record must become (R1, docs/events.md): a named record with its outcome, and the check of a raw row against it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

EVENT_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
MANDATORY = ("event_id", "user_id", "event_type", "timestamp")
NESTED = {"device_info": ("device_type", "model", "os_version", "locale"), "geo_location": ("country", "region", "city")}
OPTIONAL_TEXTS = ("session_id", "app_version", *(f"{holder}.{name}" for holder, names in NESTED.items() for name in names))
REASONS = frozenset({
    "empty", "bad_encoding", "bad_json", "in_future", "before_history_start", "too_late",
    *(f"missing:{name}" for name in MANDATORY), *(f"bad_value:{name}" for name in MANDATORY),
    *(f"bad_type:{name}" for name in (*MANDATORY, *OPTIONAL_TEXTS, *NESTED, "properties")),
})  # fmt: skip
"""The closed list of reasons, written out; `erased` is never ingest's own."""
TYPED = ("event_id", "user_id", "event_type", "event_time", "session_id", "device_type", "device_model", "os_version", "locale",
         "app_version", "country", "region", "city", "properties")  # fmt: skip

Headers = tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True)
class Case:
    """One record. `expected` is a reason, or the columns in which the good row differs from the shortest event's."""

    name: str
    value: bytes | None
    expected: str | dict[str, Any]
    key: bytes | None = b"u1"
    headers: Headers = ()


def shortest(moment: datetime) -> dict[str, Any]:
    """The four mandatory fields."""
    return {"event_id": EVENT_ID, "user_id": "u1", "event_type": "tap", "timestamp": moment.isoformat()}


def with_raw(moment: datetime, *members: bytes) -> bytes:
    """The shortest event with these members after its own, byte for byte."""
    return b",".join([json.dumps(shortest(moment)).encode()[:-1], *members]) + b"}"


def changed(moment: datetime, **changes: Any) -> bytes:
    """The shortest event with these fields instead."""
    return json.dumps(shortest(moment) | changes, ensure_ascii=False).encode()


def assert_row(row: dict[str, Any], case: Case, moment: datetime) -> None:
    """The raw row is what the case says; where and when it was received is the caller's to check."""
    assert [(header["name"], header["value"]) for header in row["headers"]] == list(case.headers)
    if isinstance(case.expected, str):
        assert case.expected in REASONS
        assert row["reject_reason"] == case.expected
        assert (row["payload"], row["key"]) == (case.value, case.key)
        assert not any(row[name] is not None for name in TYPED)
        return
    assert (row["reject_reason"], row["payload"], row["key"]) == (None, None, None)
    expected = dict.fromkeys(TYPED) | {"event_id": EVENT_ID, "user_id": "u1", "event_type": "tap", "event_time": moment} | case.expected
    kept = expected.pop("properties")
    assert {name: row[name] for name in expected} == expected
    assert row["properties"] == kept or canonical(row["properties"]) == canonical(kept)


def canonical(text: str | bytes | None) -> Any:
    """A JSON text to compare by: numbers digit by digit, of a repeated name the last value, blanks and escapes gone."""
    return None if text is None else json.loads(text, parse_float=str, parse_int=str)
