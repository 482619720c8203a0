"""Breadth-first search over the states of a small system: the shortest way to a broken invariant, or none.

Knows nothing of Kafka or lakes. A system names its first state and lists the moves of a state; a move may carry the
name of the invariant that it breaks. What is interchangeable must be sorted by the system itself (symmetry).
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol


class Move(NamedTuple):
    """One atomic step: who does what, the state after it, and the invariant it breaks, if any."""

    who: Any
    what: str
    after: Hashable
    broken: str | None = None


class System(Protocol):
    """What the search needs to know."""

    def first(self) -> Hashable: ...

    def moves(self, state: Hashable) -> Iterable[tuple[Any, str, Hashable, str | None]]:
        """The fields of a `Move`, each."""

    def tell(self, path: list[Move]) -> list[str]:
        """The path in words, one line a move."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a search found. `complete`: every reachable state was seen."""

    states: int
    transitions: int
    depth: int
    complete: bool
    seconds: float
    broken: str | None = None
    trace: tuple[str, ...] = ()

    def __str__(self) -> str:
        how = f"{self.broken}\n  " + "\n  ".join(self.trace) if self.broken else "complete" if self.complete else "stopped at the bound"
        return f"{self.states} states, {self.transitions} transitions, depth {self.depth}, {self.seconds:.1f} s: {how}"


def explore(system: System, limit: int = 10_000_000) -> Report:
    """Visit every state reachable from the first, nearest first, until an invariant breaks or `limit` states are known."""
    began = time.perf_counter()
    first = system.first()
    known = {first: 0}
    parents = array("l", [-1])
    layer, depth, transitions = [first], 0, 0
    while layer and len(known) < limit:
        following = []
        for state in layer:
            place = known[state]
            for _, what, after, broken in system.moves(state):
                transitions += 1
                if broken is not None:
                    path = [*_path(system, list(known), parents, place), Move(None, what, after, broken)]
                    seconds = time.perf_counter() - began
                    return Report(
                        len(known), transitions, depth + 1, False, seconds, broken, tuple(system.tell(_whole(system, state, path)))
                    )
                if after not in known:
                    known[after] = len(parents)
                    parents.append(place)
                    following.append(after)
        layer = following
        depth += bool(following)
    return Report(len(known), transitions, depth, not layer, time.perf_counter() - began)


def _path(system: System, states: list[Hashable], parents: array[int], place: int) -> list[Move]:
    """The moves from the first state to the one at `place`; found again, since only parents are kept."""
    steps: list[Move] = []
    while (parent := parents[place]) >= 0:
        steps.append(next(Move(*move) for move in system.moves(states[parent]) if move[2] == states[place]))
        place = parent
    return steps[::-1]


def _whole(system: System, state: Hashable, path: list[Move]) -> list[Move]:
    """The last move with its actor, which the search did not keep."""
    last = path[-1]
    return [*path[:-1], next(Move(*move) for move in system.moves(state) if tuple(move[1:]) == last[1:])]
