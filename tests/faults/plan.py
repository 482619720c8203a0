"""Which faults come in which order: a pure function of seed and number.

A step's faults happen at the same time, each to another process; at least one process of the crew is left alone,
so that somebody can take over.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Point = Literal["before", "half", "written", "linked", "list", "footer"]
"""Of a raw object's publication: before its temporary file; in the middle of it; whole and synced, but without its
name; named, but not yet reported. `list` and `footer`: of the look for the place to go on."""

Do = Literal["hold", "error", "full", "slow"]
"""At the point: wait to be killed or let go; an I/O error; a full disk; a pause."""

Then = Literal["kill", "stop", "stall", "twice", "wins", "cut", ""]
"""What the harness does to a process that holds still at its point: kill -9; SIGSTOP until another one took the claim;
just let it hold until the group gave up on it; stop two processes, one after the other, over the same claim; SIGSTOP
until another one is about to make the claim, and let the stopped one be first after all; SIGSTOP while retention
deletes all that it holds and more."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault. Without a point it is done to a process, the group or the broker at any moment."""

    name: str
    point: Point | None = None
    do: Do | None = None
    then: Then = ""
    weight: int = 2
    """How often it comes in a long plan, and whether in a short one: those of 4 and more always do."""
    alone: bool = False
    """Takes a whole step for itself."""

    @property
    def in_window(self) -> bool:
        """Between the first byte of the temporary file and its name."""
        return self.point in ("half", "written")


KINDS = {
    kind.name: kind
    for kind in (
        Kind("kill_anytime", then="kill", weight=3),
        Kind("kill_before_write", "before", "hold", "kill", weight=1),
        Kind("kill_half_written", "half", "hold", "kill", weight=4),
        Kind("kill_before_link", "written", "hold", "kill", weight=4),
        Kind("kill_after_link", "linked", "hold", "kill", weight=4),
        Kind("stop_before_write", "before", "hold", "stop", weight=1),
        Kind("stop_half_written", "half", "hold", "stop", weight=2),
        Kind("stop_before_link", "written", "hold", "stop", weight=4),
        Kind("stop_after_link", "linked", "hold", "stop", weight=2),
        Kind("stall_before_link", "written", "hold", "stall", weight=2),
        Kind("two_zombies", "written", "hold", "twice", weight=4, alone=True),
        Kind("zombie_wins", "written", "hold", "wins", weight=4, alone=True),
        Kind("error_before_write", "before", "error"),
        Kind("error_half_written", "half", "error"),
        Kind("error_before_link", "written", "error"),
        Kind("answer_lost", "linked", "error", weight=5),
        Kind("disk_full", "half", "full"),
        Kind("listing_fails", "list", "error"),
        Kind("footer_fails", "footer", "error"),
        Kind("slow_write", "half", "slow"),
        Kind("slow_link", "written", "slow"),
        Kind("slow_answer", "linked", "slow"),
        Kind("pause_anytime", then="stop", weight=2),
        Kind("cut_under_zombie", "written", "hold", "cut"),
        Kind("cut_under_reader", then="cut"),
        Kind("join"),
        Kind("leave"),
        Kind("broker_restart", weight=1),
        Kind("broker_kill", weight=1),
    )
}

ESSENTIAL = 4
CREW = 3
LARGEST_CREW, SMALLEST_CREW = 4, 3


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, which process it goes to (`target` modulo those that qualify), and when (seconds)."""

    kind: Kind
    target: int
    moment: float


def plan(seed: int, count: int) -> list[list[Fault]]:
    """`count` faults in steps: every kind once, the essential ones first, the rest by weight, in random order."""
    chance = random.Random(seed)
    names = sorted(KINDS, key=lambda name: (KINDS[name].weight < ESSENTIAL, chance.random()))
    more = chance.choices(names, [KINDS[name].weight for name in names], k=max(0, count - len(names)))
    chosen = [*names, *more][:count]
    chance.shuffle(chosen)
    faults = [Fault(KINDS[name], chance.randrange(1000), round(chance.uniform(0.05, 1.0), 2)) for name in _balanced(chosen)]
    return list(_steps(faults))


def _balanced(names: list[str]) -> Iterator[str]:
    """Joins and leaves in an order that keeps the crew within its bounds."""
    size = CREW
    for name in names:
        if name in ("join", "leave"):
            joins = size < LARGEST_CREW if name == "join" else size == SMALLEST_CREW
            size += 1 if joins else -1
            yield "join" if joins else "leave"
        else:
            yield name


def _steps(faults: list[Fault]) -> Iterator[list[Fault]]:
    """Two at a time; what must be alone is alone, and waits for nobody."""
    pair: list[Fault] = []
    for fault in faults:
        if fault.kind.alone:
            yield [fault]
            continue
        pair.append(fault)
        if len(pair) == CREW - 1:
            yield pair
            pair = []
    if pair:
        yield pair
