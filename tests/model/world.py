"""The whole world: writers, archive writers, expiry, readers, `forget`, the log's retention and the clock, and the invariants.

A state is a flat tuple of small numbers: the shared state, then one number for each process; a process' moves depend on
its own and the shared state alone, so each pair is worked out once. Processes of a kind are interchangeable: sorted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from model import erasure
from model.keepers import IDLE, Keepers
from model.lake import Lake, Rules, Shared, Size, bit, span, union, with_raw
from model.search import Move
from model.writers import Writer, Writers

TWICE = "an offset is visible twice"
LOST = "a visible offset is lost"
SILENT = "an offset below the resume position is neither visible nor in a gap record"
BACK = "the resume position goes back"
WRONG_GAP = "a gap record claims what the log can still give"
MIXED = "a record of one topic lies in another's chain"
STUCK = "nobody can go on"
ERASED = "a forgotten user can be read again"
LONGEST_RUN = 200

World = tuple[int, ...]


class Kind:
    """One kind of process: how it moves, how it ages, and the local states met so far."""

    def __init__(
        self, name: str, count: int, first: Any, moves: Callable[[Any, Shared], Iterator[tuple]], older: Callable[[Any], Any]
    ) -> None:
        self.name, self.count, self.first, self.moves, self.older = name, count, first, moves, older
        self.states: list[Any] = []
        self.numbers: dict[Any, int] = {}

    def number(self, local: Any) -> int:
        if local not in self.numbers:
            self.numbers[local] = len(self.states)
            self.states.append(local)
        return self.numbers[local]


class Model:
    """The system that `search.explore` walks through."""

    def __init__(self, size: Size, rules: Rules | None = None) -> None:
        self.size, self.rules = size, rules or Rules()
        self.lake = Lake(size, self.rules)
        self.writers, keepers, self._forget = Writers(self.lake), Keepers(self.lake), erasure.Forget(self.lake)
        same = lambda local: local  # noqa: E731
        kinds = [
            Kind("writer", size.writers, self.writers.first(), self.writers.moves, self.writers.older),
            Kind("archive writer", size.archivers, IDLE, keepers.archiver, same),
            Kind("expiry", size.expirers, IDLE, keepers.expirer, same),
            Kind("reader", size.readers, IDLE, keepers.reader, same),
            Kind("forget", int(bool(size.personal)), erasure.IDLE, self._forget.moves, same),
        ]
        self.kinds = [kind for kind in kinds if kind.count]
        ends = [1 + sum(kind.count for kind in self.kinds[: place + 1]) for place in range(len(self.kinds))]
        self.groups = [(kind, end - kind.count, end) for kind, end in zip(self.kinds, ends, strict=True)]
        self.shared: list[Shared] = []
        self.numbers: dict[Shared, int] = {}
        self._steps: list[dict[int, list[tuple[str, int, int, str | None]]]] = [{} for _ in self.kinds]
        self._around: dict[int, list[tuple[str, int, str | None]]] = {}
        self._older: dict[int, int] = {}
        self._finishes: set[tuple[Writer, Shared]] = set()
        self._broken: dict[tuple[int, int], str | None] = {}

    def first(self) -> World:
        return (self._number(self.lake.first()), *(kind.number(kind.first) for kind in self.kinds for _ in range(kind.count)))

    def moves(self, world: World) -> list[tuple[int, str, World, str | None]]:
        """As plain tuples: a search makes millions of them."""
        shared = world[0]
        found: list[tuple[int, str, World, str | None]] = []
        for place, (kind, begin, end) in enumerate(self.groups):
            steps, several, before = self._steps[place], end - begin > 1, -1
            for at in range(begin, end):
                local = world[at]
                if local == before:
                    continue
                before = local
                key = local << 32 | shared
                if key not in steps:
                    steps[key] = self._moves_of(kind, local, shared)
                for what, after, then, broken in steps[key]:
                    new = [*world]
                    new[0], new[at] = then, after
                    if several:
                        new[begin:end] = sorted(new[begin:end])
                    found.append((at, what, tuple(new), broken))
        if shared not in self._around:
            outside = [(what, self._number(then)) for what, then in self._outside(shared)]
            self._around[shared] = [(what, then, self._broken_by(shared, then)) for what, then in outside]
        found += [(0, what, (then, *world[1:]), broken) for what, then, broken in self._around[shared]]
        if self.size.expirers and (later := self._later(world)) != world:
            found.append((0, "a tick of the clock", later, None))
        return found

    def _moves_of(self, kind: Kind, local: int, shared: int) -> list[tuple[str, int, int, str | None]]:
        state, around = kind.states[local], self.shared[shared]
        found, known = [], {(local, shared)}
        for what, after, then, *broken in kind.moves(state, around):
            pair = (kind.number(after), self._number(then))
            wrong = broken[0] if broken else self._broken_by(shared, pair[1])
            if wrong or pair not in known:
                found.append((what, *pair, wrong))
            known.add(pair)
        if (
            self.rules.progress
            and kind.name == "writer"
            and not (self._can_finish(state, around) and self._can_finish(self.writers.first(), around))
        ):
            found.append(("goes on alone, without a fault, and never gets to the log's end", local, shared, STUCK))
        if kind.name == "forget" and not self._can_forget(state, around):
            found.append(("goes on alone, with a writer's help, and never ends", local, shared, STUCK))
        return found

    def _number(self, shared: Shared) -> int:
        if shared not in self.numbers:
            self.numbers[shared] = len(self.shared)
            self.shared.append(shared)
        return self.numbers[shared]

    # What no process does.

    def _outside(self, number: int) -> Iterator[tuple[str, Shared]]:
        shared = self.shared[number]
        if self.size.retention and shared.low < shared.high:
            yield f"retention deletes offset {shared.low}", shared._replace(low=shared.low + 1)
        if shared.topic == 0 and shared.high < self.size.offsets[0]:
            yield f"offset {shared.high} is produced", shared._replace(high=shared.high + 1)
        if shared.topic + 1 < len(self.size.offsets):
            yield "the topic is deleted and created again", shared._replace(topic=1, low=0, high=self.size.offsets[1])
        vanishing = self.size.compacted & self.lake.available(shared)
        for offset in range(shared.low, shared.high):
            if vanishing & bit(shared.topic, offset):
                yield f"compaction removes offset {offset}", shared._replace(dead=shared.dead | bit(shared.topic, offset))
        if self.rules.retires:
            yield from self._retire(shared)
        for late in shared.under_way:
            left = list(shared.under_way)
            left.remove(late)
            gone = shared._replace(under_way=tuple(left))
            yield f"a PUT of {late} never arrives", gone
            if self.lake.free(shared, late):
                yield f"a late PUT of {late} arrives", with_raw(gone, late)

    def _retire(self, shared: Shared) -> Iterator[tuple[str, Shared]]:
        for part in shared.parts:
            rows, _ = union(part.objects)
            if part.age < self.size.grace or not rows:
                continue
            kept = [part._replace(objects=tuple(held._replace(rows=0) for held in part.objects))] if self.rules.retires == "rows" else []
            parts = tuple(sorted([*kept, *(other for other in shared.parts if other != part)]))
            told = f"the archive's retention deletes the {self.rules.retires} of part {part.number}"
            yield told, shared._replace(parts=parts, retired=shared.retired | rows)

    def _later(self, world: World) -> World:
        shared = world[0]
        if shared not in self._older:
            found = self.shared[shared]
            parts = tuple(part._replace(age=min(part.age + 1, self.size.grace)) for part in found.parts)
            self._older[shared] = self._number(found._replace(parts=parts))
        locals_: list[int] = []
        for kind, begin, end in self.groups:
            locals_ += sorted(kind.number(kind.older(kind.states[local])) for local in world[begin:end])
        return (self._older[shared], *locals_)

    # Invariants.

    def _broken_by(self, before: int, after: int) -> str | None:
        if before == after:
            return None
        key = (before, after)
        if key not in self._broken:
            self._broken[key] = self._wrong(self.shared[before], self.shared[after])
        return self._broken[key]

    def _wrong(self, before: Shared, after: Shared) -> str | None:  # noqa: PLR0911 - one line a rule
        seen, twice = union(self.lake.objects(after))
        if twice:
            return TWICE
        if union(self.lake.objects(before))[0] & ~seen & ~after.retired:
            return LOST
        for claim in set(after.raw) - set(before.raw):
            if claim.rows & ~span(claim.topic, claim.start, claim.end):
                return MIXED
            if claim.gap and claim.topic == after.topic and span(claim.topic, claim.start, claim.end) & self.lake.available(after):
                return WRONG_GAP
        for topic in range(after.topic + 1):
            if self.lake.resume(after, topic) < self.lake.resume(before, topic):
                return BACK
            if self._silent(after, topic, seen):
                return SILENT
        return ERASED if after.forgotten and any(held.personal for held in self.lake.objects(after)) else None

    def _silent(self, shared: Shared, topic: int, seen: int) -> bool:
        recorded = 0
        for held in (*self.lake.objects(shared), *shared.beside):
            if held.gap:
                recorded |= span(held.topic, held.start, held.end)
        return bool(span(topic, 0, self.lake.resume(shared, topic)) & ~seen & ~recorded & ~shared.dead & ~shared.retired)

    def _can_finish(self, writer: Writer, shared: Shared) -> bool:
        """Whether this writer, left alone and without faults, gets everything that the log still has into the lake."""
        path = []
        while (writer, shared) not in self._finishes:
            path.append((writer, shared))
            position = self.lake.resume(shared, shared.topic)
            if position == shared.high:
                break
            step = next(self.writers.moves(writer, shared), None)
            if step is None or len(path) > LONGEST_RUN or step[1:] == path[-1]:
                return False
            _, writer, shared = step
        self._finishes.update(path)
        return True

    def _can_forget(self, forget: erasure.Forgetting, shared: Shared) -> bool:
        """Whether `forget` ends if nothing disturbs it but a writer that gets on."""
        for _ in range(LONGEST_RUN):
            if forget.step == "ended":
                return True
            step = next((move for move in self._forget.moves(forget, shared) if move[0] != erasure.KILLED), None)
            if step is None:
                shared = self._to_the_end(shared)
            else:
                _, forget, shared = step
        return False

    def _to_the_end(self, shared: Shared) -> Shared:
        writer = self.writers.first()
        for _ in range(LONGEST_RUN):
            if self.lake.resume(shared, shared.topic) == shared.high:
                break
            _, writer, shared = next(self.writers.moves(writer, shared))
        return shared

    # Words.

    def said(self) -> set[str]:
        """Every move that was worked out, in words: what a search must have met is looked up here."""
        return {what for steps in self._steps for found in steps.values() for what, *_ in found} | {
            what for found in self._around.values() for what, *_ in found
        }

    def tell(self, path: list[Move]) -> list[str]:
        """The path in words, every process under one name throughout."""
        world = self.first()
        names = [""] + [
            f"{kind.name} {chr(65 + at)}" if kind.count > 1 else kind.name for kind, _, _ in self.groups for at in range(kind.count)
        ]
        told = []
        for number, move in enumerate(path, 1):
            told.append(f"{number:2} {names[move.who]}{': ' if names[move.who] else ''}{move.what}")
            if move.broken is None:
                names = self._follow(world, move, names)
            world = move.after
        return told

    def _follow(self, world: World, move: Move, names: list[str]) -> list[str]:
        """The names in the order of the new state, in which processes of a kind are sorted again."""
        names = [*names]
        for kind, begin, end in self.groups:
            if move.what == "a tick of the clock":
                locals_ = [kind.number(kind.older(kind.states[local])) for local in world[begin:end]]
            else:
                locals_ = [*world[begin:end]]
                if begin <= move.who < end:
                    changed = [*move.after[begin:end]]
                    for at in range(begin, end):
                        if at != move.who:
                            changed.remove(world[at])
                    locals_[move.who - begin] = changed[0]
            order = sorted(range(end - begin), key=lambda at, found=locals_: found[at])
            names[begin:end] = [names[begin + at] for at in order]
        return names
