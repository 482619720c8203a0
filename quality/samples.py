"""A few rows that break a constraint, as text that may stand anywhere: bounded, persons pseudonymized.

What identifies a person is a pseudonym under ENGAGEMENT_HASH_KEY, so that the same person is the same in every sample; without
a key persons are numbered within the sample. What an app or a person wrote (properties, payload, key, headers) is never shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engagement.raw.privacy import pseudonym
from quality import twin
from quality.constraints import Constraint

if TYPE_CHECKING:
    import duckdb

ROWS = 5
LONGEST = 80
"""Characters of a value."""
PERSONAL = ("user_id", "owner", "session_id", "session_key", "event_id")
NEVER = ("properties", "payload", "key", "headers", "city", "region", "locale", "screen_path", "client_session_ids")
PLACES = (
    "kafka_topic", "kafka_partition", "kafka_offset", "event_time", "received_at", "started_at", "ended_at", "user_id", "hour",
    "device_type", "app_version", "country", "reject_reason",
)  # fmt: skip
"""Columns that tell where a row stands."""


def sample(con: duckdb.DuckDBPyConnection, rows: str, constraint: Constraint, keys: Sequence[bytes] = ()) -> tuple[Mapping[str, str], ...]:
    """Up to ROWS offending rows, in a fixed order: the columns that the constraint speaks of, and where the row stands.

    Empty where rows cannot be told apart.
    """
    offending = twin.offending(constraint)
    if offending is None:
        return ()
    names = [column[0] for column in con.execute(f"SELECT * FROM {rows} LIMIT 0").description or []]
    spoken = used(constraint, names)
    shown = [name for name in names if (name in PLACES or name in spoken) and name not in NEVER]
    if not shown:
        return ()
    found = con.execute(f"SELECT {', '.join(shown)} FROM (SELECT * FROM {rows} WHERE {offending}) ORDER BY ALL LIMIT {ROWS}").fetchall()
    told = _Told(keys)
    return tuple({name: told.text(name, value) for name, value in zip(shown, row, strict=True)} for row in found)


def used(constraint: Constraint, names: Sequence[str]) -> list[str]:
    """The columns that a constraint speaks of."""
    text = " ".join((*constraint.columns, constraint.where, constraint.predicate if constraint.kind != "pattern" else ""))
    words = set(re.findall(r"\w+", text))
    return [name for name in names if name in words]


class _Told:
    """Values as text; the same person has the same name."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = keys
        self._numbers: dict[tuple[str, str], int] = {}

    def text(self, name: str, value: Any) -> str:
        """One value."""
        if value is None:
            return "null"
        text = value.isoformat() if hasattr(value, "isoformat") else str(value)
        if name not in PERSONAL:
            return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
        if self._keys:
            return pseudonym(self._keys, text)
        number = self._numbers.setdefault((name, text), 1 + sum(of == name for of, _ in self._numbers))
        return f"{name.removesuffix('_id').removesuffix('_key')} {number}"
