"""`forget` for one user (R1): the list, the rewriting under the same key, and what must be awaited before it may say done.

Rewriting is If-Match: it replaces the very version that was read or starts over, so it is one atomic move here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from model.lake import Lake, Obj, Part, Shared, with_raw


class Forgetting(NamedTuple):
    """How far `forget` has come."""

    step: str = "not asked"
    days: tuple[int, ...] = ()
    """The days to fence."""


Moved = tuple[str, Forgetting, Shared]
IDLE = Forgetting()
KILLED = "is killed"
MOST_FENCES = 2
"""Each new beginning may leave one fence more; a search needs a bound."""


class Forget:
    """List, fence, wait; rewrite meanwhile; scan. Killed at any point it begins again."""

    def __init__(self, lake: Lake) -> None:
        self.lake, self.size, self.rules = lake, lake.size, lake.rules

    def moves(self, me: Forgetting, shared: Shared) -> Iterator[Moved]:
        if me.step == "not asked":
            yield "writes the user into the erasure list", Forgetting("listed"), shared._replace(listed=1)
            return
        if me.step == "ended":
            return
        yield from self._rewrites(me, shared)
        if me.step == "listed":
            days = sorted({self.lake.hour(one) for one in self.lake.uncovered(shared)})
            yield f"lists raw: days {days}", Forgetting("fences", tuple(days)), shared
        elif me.step == "fences":
            yield self._fences(me, shared)
        elif me.step == "fenced":
            yield from self._waits(shared)
        elif me.step == "waited" and not any(one.personal for one in shared.raw):
            yield "scans raw and finds no byte", Forgetting("scanned"), shared
        elif me.step == "scanned" and not any(held.personal for part in shared.parts for held in part.objects):
            yield "scans archives, finds no byte and ends", Forgetting("ended"), shared._replace(forgotten=True)
        if sum(not part.objects for part in shared.parts) < MOST_FENCES:
            yield KILLED, IDLE, shared

    def _fences(self, me: Forgetting, shared: Shared) -> Moved:
        """An empty part of the next number in each day with raw objects: whoever listed archives before has lost its claim.

        A day with a part whose writer had read the list already needs none: it was published after the list was written.
        """
        if self.rules.erasure == "no fence":
            return "publishes no fence", Forgetting("fenced"), shared
        fenced = {part.day for part in shared.parts if part.begun}
        fences = [Part(day, sum(part.day == day for part in shared.parts), (), begun=1) for day in me.days if day not in fenced]
        after = shared._replace(parts=tuple(sorted([*shared.parts, *fences])))
        return f"PUTs an empty part in each of {len(fences)} days", Forgetting("fenced"), after

    def _waits(self, shared: Shared) -> Iterator[Moved]:
        """A flush begun under the new list, or nothing in the log that could be flushed: older buffers have lost their names."""
        for topic in range(shared.topic):
            end = self.lake.resume(shared, topic)
            seal = Obj(topic, end, end, 0, gap=True, begun=1)
            if self.rules.erasure != "old chains stay open" and not any((one.topic, one.start) == (topic, end) for one in shared.raw):
                yield f"seals the old topic's chain at {end}", Forgetting("fenced"), with_raw(shared, seal)
                return
        if self.rules.erasure == "no wait" or self._passed(shared):
            yield "sees a flush under the new list, or none to come", Forgetting("waited"), shared

    def _passed(self, shared: Shared) -> bool:
        if shared.high <= self.lake.resume(shared, shared.topic) and self.rules.erasure != "a flush is always awaited":
            return True
        everything = [*shared.raw, *(held for part in shared.parts for held in part.objects)]
        return any(one.begun and one.topic == shared.topic for one in everything)

    def _rewrites(self, me: Forgetting, shared: Shared) -> Iterator[Moved]:
        begun = {"begun": 1} if self.rules.erasure == "rewriting counts as a flush" else {}
        for one in shared.raw:
            if one.personal:
                raw = tuple(other._replace(personal=0, **begun) if other == one else other for other in shared.raw)
                yield f"rewrites raw {one.start} without the user", me, shared._replace(raw=raw)
        for part in shared.parts:
            if any(held.personal for held in part.objects):
                clean = part._replace(objects=tuple(held._replace(personal=0) for held in part.objects))
                parts = tuple(clean if other == part else other for other in shared.parts)
                yield f"rewrites part {part.number} of day {part.day} without the user", me, shared._replace(parts=parts)
