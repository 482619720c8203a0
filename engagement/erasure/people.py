"""Who is erased, and which bytes of a row are theirs. Pure; the scan asks the engine the same questions more coarsely.

A row is a person's where its user_id is theirs, or where it is a reject whose key, payload or headers name them. Of
another user's event that names them only the name goes: a whole JSON string of `properties` that is the id becomes
"erased", and headers that name it become null. An id is a name only as a whole: `u1` is not in `u12`, nor in `x-u1`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from engagement.errors import UsageError
from engagement.raw import erasures

if TYPE_CHECKING:
    import pyarrow as pa

LONGEST = 128
"""Characters of a user id at most (the contract's limit): nothing longer is in a lake."""
_BOUND = rb"[A-Za-z0-9_-]"
"""What continues an id: beside it the id is part of a longer name."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is theirs in some rows, as places: rows erased whole, those that lose their headers, those whose properties change."""

    whole: frozenset[int] = frozenset()
    headers: frozenset[int] = frozenset()
    properties: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.whole or self.headers or self.properties)

    @property
    def rows(self) -> int:
        """How many rows change."""
        return len(self.whole | self.headers | self.properties)


@dataclass(frozen=True)
class People:
    """Some users, by every name that the lake may have of them."""

    names: frozenset[str]

    @staticmethod
    def of(user_ids: Iterable[str], stored: Iterable[str] = ()) -> People:
        """These users; `stored` are their pseudonyms where the lake has them. Raises UsageError for what can be no user id."""
        wanted = list(user_ids)
        for user in wanted:
            if not 1 <= len(user) <= LONGEST:
                raise UsageError(f"{user[:40]!r} has {len(user)} characters: a user id has 1 to {LONGEST}")
        return People(frozenset([*wanted, *stored]))

    @cached_property
    def texts(self) -> list[str]:
        """The names as whole JSON strings, in every way in which JSON writes them."""
        return sorted({form for name in self.names for form in _written(name)})

    @cached_property
    def inner(self) -> list[bytes]:
        """The names as bytes of any text: as they are, and as JSON writes them."""
        return sorted({text[1:-1].encode("utf-8", "surrogatepass") for text in self.texts} | set(self._bytes))

    @cached_property
    def _bytes(self) -> frozenset[bytes]:
        return frozenset(name.encode("utf-8", "surrogatepass") for name in self.names)

    @cached_property
    def _named(self) -> re.Pattern[bytes]:
        found = b"|".join(map(re.escape, sorted(self.inner, key=len, reverse=True)))
        return re.compile(b"(?<!" + _BOUND + b")(?:" + found + b")(?!" + _BOUND + b")")

    def named_in(self, value: bytes | None) -> bool:
        """Whether bytes name one of them."""
        return value is not None and self._named.search(value) is not None

    def find(self, rows: pa.Table) -> Found:
        """What is theirs in raw rows."""
        users, rejects = self._users(rows), self._rejects(rows)
        whole = users | rejects
        return Found(frozenset(whole), frozenset(self._headers(rows) - whole), frozenset(self._properties(rows) - whole))

    def erase(self, rows: pa.Table, found: Found) -> pa.Table:
        """Raw rows without them (R1)."""
        if found.properties:
            rows = self.without_mentions(rows)
        return erasures.erased(rows, set(found.whole), set(found.headers))

    def without_mentions(self, rows: pa.Table) -> pa.Table:
        """Rows whose `properties` no longer name them."""
        import pyarrow.compute as pc

        number = rows.schema.names.index("properties")
        clean = pc.replace_substring_regex(rows["properties"], pattern="|".join(map(_pattern, self.texts)), replacement='"erased"')
        return rows.set_column(number, rows.schema.field(number), clean)

    def users_in(self, rows: pa.Table) -> pa.Array:
        """Which rows have their user_id."""
        import pyarrow as pa
        import pyarrow.compute as pc

        return pc.is_in(rows["user_id"], pa.array(sorted(self.names), pa.string()))

    def _users(self, rows: pa.Table) -> set[int]:
        import pyarrow.compute as pc

        return set(pc.indices_nonzero(self.users_in(rows)).to_pylist())

    def _properties(self, rows: pa.Table) -> set[int]:
        import pyarrow.compute as pc

        if "properties" not in rows.schema.names:
            return set()
        hits = pc.match_substring_regex(rows["properties"], "|".join(map(_pattern, self.texts)))
        return set(pc.indices_nonzero(pc.fill_null(hits, fill_value=False)).to_pylist())

    def _rejects(self, rows: pa.Table) -> set[int]:
        import pyarrow.compute as pc

        bad = pc.is_valid(rows["reject_reason"])
        places = pc.indices_nonzero(bad)
        if not len(places):
            return set()
        few = rows.select(["payload", "key", "headers"]).take(places).to_pylist()
        return {
            place
            for place, row in zip(places.to_pylist(), few, strict=True)
            if self.named_in(row["payload"]) or self.named_in(row["key"]) or self._in_headers(row["headers"])
        }

    def _headers(self, rows: pa.Table) -> set[int]:
        import pyarrow.compute as pc

        if "headers" not in rows.schema.names or not rows.num_rows:
            return set()
        headers = rows["headers"].combine_chunks()
        flat = pc.list_flatten(headers)
        names = "|".join(_pattern(text.decode("utf-8", "replace")) for text in self.inner)
        hits = pc.or_(*(pc.fill_null(pc.match_substring_regex(pc.struct_field(flat, part), names), False) for part in ("name", "value")))
        places = pc.unique(pc.list_parent_indices(headers).filter(hits))
        held = headers.take(places).to_pylist() if len(places) else []
        return {place for place, found in zip(places.to_pylist(), held, strict=True) if self._in_headers(found)}

    def _in_headers(self, headers: list[dict[str, Any]] | None) -> bool:
        return any(self.named_in(item["value"]) or self.named_in(item["name"].encode()) for item in headers or ())


def slots_of(rows: pa.Table, places: Iterable[int], slot_minutes: int) -> set[datetime]:
    """Event slots of the good rows at these places."""
    from engagement.model import units

    times = rows["event_time"].take(sorted(places)).to_pylist()
    return {units.floor_slot(instant, slot_minutes) for instant in times if instant is not None}


def _written(name: str) -> set[str]:
    plain, ascii_only = json.dumps(name, ensure_ascii=False), json.dumps(name)
    return {plain, ascii_only, plain.replace("/", "\\/"), ascii_only.replace("/", "\\/")}


def _pattern(text: str) -> str:
    return re.sub(r"([^\w])", r"\\\1", text, flags=re.ASCII) if text.isascii() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return re.escape(character) if character.isascii() else character
