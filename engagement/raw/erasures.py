"""The erasure list of a lake, and what it does to raw rows (R1): records of an erased user become `erased` rows.

The list is objects claimed one after another, `erasures/{number}.json`, each with the keyed hashes of some users and
never an id. Its length stands in the footer of whatever is written, as it was when reading began: so `engagement
forget` can tell what may still hold a user. A writer of raw reads it no earlier than the look that gave its place, an
archive writer after it listed archives. Costs one listing a flush, and nothing else while the list is empty.

Known here is only what a hash can find: the whole user id, as user_id of a row, as key of a reject, as user_id in a
reject's payload, or as the whole value of a header. Finding an id in other bytes needs the id (`engagement.erasure`).
"""

from __future__ import annotations

import hmac
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from engagement.errors import PermanentError
from engagement.lake import AlreadyExists, Lake

if TYPE_CHECKING:
    import pyarrow as pa

    from engagement.raw.footers import RawFile
    from engagement.raw.rows import Batch

FOLDER = "erasures"
IMPORT_LOCK = "import"
"""Held by an import from reading the list to its put, and once by `forget`: whoever comes after it has read its list."""
ERASED = "erased"
"""`reject_reason` of a row whose record was erased."""
KEPT = frozenset({"kafka_topic", "kafka_topic_id", "kafka_partition", "kafka_offset", "received_at", "reject_reason"})
"""Columns that an erased row keeps; all else is null."""
_CHECK = b"engagement erasure list"
"""What is hashed to tell keys apart without telling them."""


class KeyMissing(PermanentError):
    """The list holds hashes under a key that is not at hand: whether a record is of an erased user cannot be told."""


class UnreadableList(PermanentError):
    """An object of the list is not readable: who is erased cannot be told."""


@dataclass(frozen=True, slots=True)
class Erasures:
    """The list as one look found it; `length` counts its objects. The keys are the lake's, the oldest first."""

    length: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict, repr=False)
    """Hash -> number of the object that first has it; the first object is 1."""
    keys: Sequence[bytes] = field(default=(), repr=False)

    def number_of(self, user_id: str) -> int:
        """Number of the object that first has this user; 0 where none has."""
        return min((found for key in self.keys if (found := self.numbers.get(hashed(key, user_id)))), default=0)

    def holds(self, user_id: str) -> bool:
        """Whether the user is erased."""
        return any(hashed(key, user_id) in self.numbers for key in self.keys)

    def erase(self, rows: pa.Table) -> pa.Table:
        """The rows with those of erased users as `erased` rows; the very same table where there is none.

        Another user's event with such a header stays and loses its headers.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        if not self.numbers or not rows.num_rows:
            return rows
        users = rows["user_id"]
        gone = [user for user in pc.unique(users).to_pylist() if user is not None and self.holds(user)]
        found = set(pc.indices_nonzero(pc.is_in(users, pa.array(gone, pa.string()))).to_pylist()) if gone else set()
        headed = self._headers(rows)
        found |= self._rejects(rows, headed)
        return erased(rows, found, headed)

    def applied(self, batch: Batch) -> Batch:
        """A flush with the records of erased users as `erased` rows, counted as such."""
        rows = self.erase(batch.table)
        if rows is batch.table:
            return batch
        slots, rejects = recounted(batch.event_slots, batch.rejects, batch.table, rows)
        return replace(batch, table=rows, event_slots=slots, rejects=rejects)

    def _rejects(self, rows: pa.Table, headed: set[int]) -> set[int]:
        """Rejects whose key, header, or user_id in a payload of JSON, is an erased user's."""
        import pyarrow.compute as pc

        bad = pc.indices_nonzero(pc.is_valid(rows["reject_reason"]))
        if not len(bad):
            return set()
        few = rows.select(["payload", "key"]).take(bad)
        known: dict[str, bool] = {}
        found = headed & set(bad.to_pylist())
        for place, payload, key in zip(bad.to_pylist(), few["payload"].to_pylist(), few["key"].to_pylist(), strict=True):
            if any(self._remembered(known, name) for name in (_text(key), user_id_in(payload)) if name):
                found.add(place)
        return found

    def _headers(self, rows: pa.Table) -> set[int]:
        """Rows with a header whose whole value is the id of an erased user. Each distinct value is hashed once."""
        import pyarrow as pa
        import pyarrow.compute as pc

        headers = rows["headers"].combine_chunks()
        values = pc.struct_field(pc.list_flatten(headers), "value")
        known: dict[str, bool] = {}
        gone = [value for value in pc.unique(values).to_pylist() if (text := _text(value)) and self._remembered(known, text)]
        if not gone:
            return set()
        return set(pc.list_parent_indices(headers).filter(pc.is_in(values, pa.array(gone, values.type))).to_pylist())

    def _remembered(self, known: dict[str, bool], name: str) -> bool:
        if name not in known:
            known[name] = self.holds(name)
        return known[name]


NOBODY = Erasures()
"""An empty list."""


def read(lake: Lake, keys: Sequence[bytes] = ()) -> Erasures:
    """The list now; `keys` are `settings.hash_keys`.

    Raises KeyMissing where it has hashes under a key that is not among them, UnreadableList, LakeUnavailable.
    """
    return ErasureList(lake, keys).read()


def length(lake: Lake) -> int:
    """How many objects the list has: all that a writer needs who writes no raw rows."""
    return sum(1 for _ in _numbered(lake, 0))


def hashed(key: bytes, user_id: str) -> str:
    """What the list keeps of a user id, given or pseudonym: its HMAC-SHA256 in hex digits."""
    return hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()


def check_of(key: bytes) -> str:
    """What stands in an object of the list to tell that it was made with this key."""
    return hashed(key, _CHECK.decode())


class ErasureList:
    """The list of a lake; each object is read once. Keep it for the life of a process."""

    def __init__(self, lake: Lake, keys: Sequence[bytes] = ()) -> None:
        self._lake, self._keys = lake, tuple(keys)
        self._checks = {hashed(key, _CHECK.decode()) for key in keys}
        self._known = Erasures(keys=self._keys)

    def read(self) -> Erasures:
        """The list now; raises as `read`."""
        known = self._known
        numbers = dict(known.numbers)
        length = known.length
        for number in _numbered(self._lake, length):
            for name in self._read(number):
                numbers.setdefault(name, number)
            length = number
        if length > known.length:
            self._known = Erasures(length, numbers, self._keys)
        return self._known

    def add(self, user_ids: Iterable[str]) -> int:
        """Write these users into the list, those that it lacks in one object; returns the length from which on all are in it."""
        wanted = sorted(set(user_ids))
        if not self._keys:
            raise KeyMissing("ENGAGEMENT_HASH_KEY is not set: erased users are remembered by hashes under it, never by their ids")
        while True:
            known = self.read()
            new = [user for user in wanted if not known.holds(user)]
            if not new:
                return max(known.number_of(user) for user in wanted)
            self._claim(known.length + 1, new)

    def mark(self) -> int:
        """Make the list longer by an object that names nobody: what begins from now on is told from what began before."""
        return self._claim(self.read().length + 1, [])

    def _claim(self, number: int, user_ids: Sequence[str]) -> int:
        """Write the object of this number; returns the length of the list, which another one may have made longer first."""
        key = self._keys[-1]
        document = {"check": hashed(key, _CHECK.decode()), "users": sorted(hashed(key, user) for user in user_ids)}
        with suppress(AlreadyExists):
            self._lake.put_new(_key(number), (json.dumps(document) + "\n").encode())
        return self.read().length

    def _read(self, number: int) -> list[str]:
        key = _key(number)
        try:
            document = json.loads(self._lake.read(key) or b"")
            check, users = str(document["check"]), [str(name) for name in document["users"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableList(
                f"{self._lake.name(key)} is no erasure list of this program ({error}): who is erased cannot be told"
            ) from error
        if check not in self._checks:
            why = "is not the key it was made with" if self._keys else "is not set"
            raise KeyMissing(
                f"{self._lake.name(key)} names erased users by hashes, and ENGAGEMENT_HASH_KEY {why}: set it (after a rotation old,new)"
            )
        return users


def erased(rows: pa.Table, whole: set[int], headed: set[int]) -> pa.Table:
    """The rows with those at the places `whole` as `erased` rows (R1), and those at `headed` without headers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = rows
    places = _places(whole, rows.num_rows)
    if whole:
        for number, column in enumerate(rows.schema):
            if column.name == "reject_reason":
                found = found.set_column(number, column, pc.if_else(places, pa.scalar(ERASED, column.type), rows[column.name]))
            elif column.name not in KEPT and column.name != "headers":
                found = found.set_column(number, column, pc.if_else(places, pa.scalar(None, column.type), rows[column.name]))
    if whole or headed:
        number = rows.schema.names.index("headers")
        kept = pc.if_else(_places(whole | headed, rows.num_rows), pa.scalar(None, pa.int64()), pa.array(range(rows.num_rows), pa.int64()))
        found = found.set_column(number, rows.schema.field(number), rows["headers"].take(kept))  # a mask would only hide their bytes
    return found


def recounted(
    event_slots: Mapping[datetime, int], rejects: Mapping[str, int], before: pa.Table, after: pa.Table
) -> tuple[dict[datetime, int], dict[str, int]]:
    """Good rows by event slot and rejects by reason, where some rows became `erased`."""
    slots, reasons = dict(event_slots), dict(rejects)
    starts = sorted(slots)
    for reason, instant in _became(before, after):
        if reason is not None:
            reasons[reason] -= 1
        elif instant is not None:
            slots[starts[bisect_right(starts, instant) - 1]] -= 1
        reasons[ERASED] = reasons.get(ERASED, 0) + 1
    return {slot: rows for slot, rows in slots.items() if rows}, {reason: rows for reason, rows in reasons.items() if rows}


def recount(raw: RawFile, before: pa.Table, after: pa.Table) -> RawFile:
    """What a raw object's footer says once some of its rows became `erased`."""
    slots, rejects = recounted(raw.event_slots, raw.rejects, before, after)
    return replace(raw, event_slots=slots, rejects=rejects)


def _became(before: pa.Table, after: pa.Table) -> Iterable[tuple[str | None, datetime | None]]:
    """Reason and event time, as they were, of the rows that became `erased`."""
    import pyarrow.compute as pc

    was = pc.fill_null(pc.equal(before["reject_reason"], ERASED), fill_value=False)
    changed = pc.and_not(pc.fill_null(pc.equal(after["reject_reason"], ERASED), fill_value=False), was)
    rows = before.select(["reject_reason", "event_time"]).filter(changed)
    return zip(rows["reject_reason"].to_pylist(), rows["event_time"].to_pylist(), strict=True)


def user_id_in(payload: bytes | None) -> str | None:
    """The user_id that a payload of JSON tells, None where it tells none."""
    import msgspec

    try:
        found: Any = msgspec.json.decode(payload or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    user_id = found.get("user_id") if isinstance(found, dict) else None
    return str(user_id) if isinstance(user_id, str | int) else None


def _text(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def _places(found: set[int], count: int) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    places = np.zeros(count, bool)
    places[list(found)] = True
    return pa.array(places)


def _numbered(lake: Lake, after: int) -> list[int]:
    """Numbers of the list's objects behind the first `after`, in order; raises UnreadableList where one is missing."""
    found = [_number(entry.key) for entry in lake.list(FOLDER, _key(after) if after else None)]
    numbers = sorted(number for number in found if number is not None)
    if numbers != list(range(after + 1, after + 1 + len(numbers))):
        raise UnreadableList(
            f"{lake.name(FOLDER)} has objects {numbers}, of which some are missing: restore them, they are the list of erased users"
        )
    return numbers


def _key(number: int) -> str:
    return f"{FOLDER}/{number:08d}.json"


def _number(key: str) -> int | None:
    name = key.removeprefix(f"{FOLDER}/").removesuffix(".json")
    return int(name) if len(name) == 8 and name.isdigit() else None
