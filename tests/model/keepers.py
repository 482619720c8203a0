"""Archive writers, expiry and readers (R5): each lists, stalls, and acts later on what it saw then."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import NamedTuple

from model.lake import Lake, Obj, Part, Shared, union, without_raw

READER_TWICE = "a reader sees an offset twice"
READER_LOST = "a reader misses an offset that was visible when it began"

Moved = tuple[str, "Keeper", Shared] | tuple[str, "Keeper", Shared, str]


class Keeper(NamedTuple):
    """What an archive writer, an expiry or a reader remembers between two steps."""

    step: str = "idle"
    raw: tuple[Obj, ...] = ()
    """As listed: names and versions."""
    parts: tuple[Part, ...] = ()
    """As listed; for an archive writer with a choice made: how many each day had, as empty parts."""
    seen: int = 0
    """Reader: rows visible when it began. Archive writer: length of the erasure list that it read."""


IDLE = Keeper()


class Keepers:
    """The moves of the three; `lake` answers their questions."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.size, self.rules = lake, lake.size, lake.rules

    # Archive writer: list raw, list archives and choose, read, create the next part.

    def archiver(self, me: Keeper, shared: Shared) -> Iterator[Moved]:
        if me.step == "idle":
            if shared.raw and len(shared.parts) < self.size.parts:
                yield "lists raw to archive it", Keeper("listed raw", shared.raw, (), shared.listed), shared
            return
        if me.step == "listed raw":
            yield from self._chooses(me, shared)
        elif me.step == "chose":
            yield self._copies(me, shared)
        else:
            yield self._publishes(me, shared)
        if self.size.faults:
            yield "crashes", IDLE, shared

    def _chooses(self, me: Keeper, shared: Shared) -> Iterator[Moved]:
        left = [one for one in self.lake.uncovered(shared, me.raw) if one.start < one.end]  # an empty range covers nothing
        read = me.seen if self.rules.erasure == "list read first" else shared.listed
        days = tuple(Part(day, self._next(shared, day), ()) for day in sorted(set(self.size.hours)))
        if self.rules.archive == "overwrite":
            left = list(me.raw)
        for count in range(1, len(left) + 1):
            for chosen in combinations(left, count):
                if self.rules.pinned and len({self.lake.hour(one) for one in chosen}) > 1:
                    continue
                shown = ", ".join(map(str, chosen))
                yield f"lists archives, chooses {shown}", Keeper("chose", chosen, days, read), shared

    def _copies(self, me: Keeper, shared: Shared) -> Moved:
        """Reads the chosen objects under their names; what vanished, or is another version by now, means list again."""
        if self.rules.pinned:
            found = [one for one in shared.raw if one in me.raw]
        else:
            names = {self.lake.key(one) for one in me.raw}
            found = [one for one in shared.raw if self.lake.key(one) in names]
        if len(found) < len(me.raw) or len({self.lake.hour(one) for one in found}) > 1:
            return "finds an object gone or replaced", IDLE, shared
        copied = tuple(one._replace(personal=0 if me.seen else one.personal) for one in found)
        if self.rules.erasure == "a part counts as a flush":
            copied = tuple(one._replace(begun=me.seen) for one in copied)
        return f"reads {', '.join(map(str, found))}", me._replace(step="read", raw=copied), shared

    def _publishes(self, me: Keeper, shared: Shared) -> Moved:
        day = self.lake.hour(me.raw[0])
        number = next(part.number for part in me.parts if part.day == day)
        if self.rules.archive == "any free number":
            number = self._next(shared, day)
        taken = any((part.day, part.number) == (day, number) for part in shared.parts)
        if self.rules.archive == "overwrite":
            number, taken = 0, False
        told = f"PUTs part {number} of day {day}"
        if taken:
            return f"{told}: exists already", IDLE, shared
        others = [part for part in shared.parts if (part.day, part.number) != (day, number)]
        return told, IDLE, shared._replace(parts=tuple(sorted([*others, Part(day, number, me.raw, begun=me.seen)])))

    def _next(self, shared: Shared, day: int) -> int:
        return sum(part.day == day for part in shared.parts)

    # Expiry: list raw, prove, delete.

    def expirer(self, me: Keeper, shared: Shared) -> Iterator[Moved]:
        if me.step == "idle":
            for one in shared.raw:
                last = self.lake.last(shared, one.topic)
                if self.rules.expiry != "start covered for a grace" or (last and one.start < last.start):
                    yield f"lists raw, would delete {one.start}", Keeper("listed raw", (one._replace(rows=0, end=0, begun=0),)), shared
            return
        target = me.raw[0]
        if me.step == "listed raw":
            if self._may_go(target, shared):
                yield f"proves that {target.start} may go", me._replace(step="proved"), shared
        else:
            found = [one for one in shared.raw if (one.topic, one.start) == (target.topic, target.start)]
            yield f"deletes {target.start}", IDLE, without_raw(shared, found[0]) if found else shared
        yield "crashes", IDLE, shared

    def _may_go(self, target: Obj, shared: Shared) -> bool:
        old = tuple(part for part in shared.parts if part.age >= self.size.grace)
        if self.rules.expiry == "its day has a part":
            return any(part.day == self.size.hours[target.start] for part in old)
        return self.rules.coverage(old, target.topic).holds(target.start)

    # Reader: list raw, list archives, read what is not covered.

    def reader(self, me: Keeper, shared: Shared) -> Iterator[Moved]:
        visible, _ = union(self.lake.objects(shared))
        if me.step == "idle":
            if self.rules.raw_first:
                yield "lists raw to read it", Keeper("listed", shared.raw, (), visible), shared
            else:
                yield "lists archives to read them", Keeper("listed", (), shared.parts, visible), shared
            return
        if me.step == "listed":
            seen = me._replace(parts=shared.parts) if self.rules.raw_first else me._replace(raw=shared.raw)
            left = tuple(self.lake.uncovered(shared._replace(parts=seen.parts), seen.raw))
            yield "lists the rest", seen._replace(step="reads", raw=left), shared
        else:
            yield self._reads(me, shared)
        yield "gives up", IDLE, shared

    def _reads(self, me: Keeper, shared: Shared) -> Moved:
        names = {self.lake.key(one): one for one in me.raw}
        found = [one for one in shared.raw if (listed := names.get(self.lake.key(one))) and (not self.rules.pinned or listed == one)]
        if len(found) < len(names):
            return "finds an object gone or replaced", IDLE, shared
        once, twice = union(found + [held for part in me.parts for held in part.objects])
        shown = ", ".join(map(str, found)) or "no raw object"
        if twice:
            return f"reads {shown}", IDLE, shared, READER_TWICE
        if me.seen & ~once:
            return f"reads {shown}", IDLE, shared, READER_LOST
        return f"reads {shown}", IDLE, shared
