"""One fault of the plan, carried out: aimed at a process, struck at its point, and followed until it is over."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engagement.raw.names import parse_key
from engagement.stack import processes
from engagement.stack.broker import Broker
from faults.crew import Child, Crew
from faults.log import Log
from faults.plan import Fault

RETARGET_SECONDS = 12.0
SLOW_SECONDS = 1.5
STALL_PATIENCE_SECONDS = 30.0
"""One that stalls while it gives a partition back is waited for by the group, under the older protocol for ever."""
HELD = ("stop", "stall", "twice", "wins", "cut")
"""What is over only when another process has taken the place of the one that was held."""

Wait = Callable[[str, Callable[[], Any]], Any]
"""(what is waited for, predicate): its first truthy result."""


@dataclass(slots=True)
class World:
    """What a fault can reach, and the counters of the hard places it came to."""

    crew: Crew
    broker: Broker
    log: Log
    wait: Wait
    hard: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Attack:
    """`choose` its victim, `begin`, then `hit` until it says so, then `finish`."""

    fault: Fault
    world: World
    child: Child | None = None
    key: str | None = None
    """Of the object at whose publication it was hit; empty for a fault at any moment, None before."""
    _since: int = 0
    _asked_at: float = 0.0
    _heard: dict[int, int] = field(default_factory=dict)
    """How much every process had said when it was hit."""

    def __str__(self) -> str:
        return self.fault.kind.name + (f" of {self.child.number}" if self.child else "")

    def choose(self, taken: list[Child]) -> None:
        """A process that has something to write and that no other fault of the step goes to; before any of them begins."""
        if self.fault.kind.point or self.fault.kind.then or self.fault.kind.name == "leave":
            found = self.world.wait("somebody has a partition", lambda: self._victims(taken))
            self.child = found[self.fault.target % len(found)]

    def begin(self) -> None:
        """Start what needs no point; arm the rest."""
        crew, broker = self.world.crew, self.world.broker
        match self.fault.kind.name:
            case "join":
                self.child = crew.start()
            case "leave":
                assert self.child
                crew.ask_to_leave(self.child)
            case "broker_restart" | "broker_kill" as name:
                if name == "broker_kill" and broker.pid:
                    processes.signal_process(broker.pid, signal.SIGKILL)
                broker.stop()
                broker.start()
            case _:
                assert self.child
                self._aim(self.child)

    def hit(self, taken: list[Child]) -> bool:
        """Whether the fault has struck; kills and stops at that moment."""
        kind, child = self.fault.kind, self.child
        if self.key is not None or not (kind.point or kind.then):
            return True
        assert child
        if kind.point is None:
            if time.monotonic() - self._asked_at < self.fault.moment:
                return False
            self.key = ""
        elif reached := child.find("reached", self._since, point=kind.point):
            self.key = reached["key"]
        else:
            if time.monotonic() - self._asked_at > RETARGET_SECONDS:
                self._aim_elsewhere(child, taken)
            return False
        self._heard = {other.number: len(other.heard) for other in self.world.crew.children}
        self._strike(child)
        return True

    def finish(self) -> None:
        """Until the fault is over: who was held goes on after another one took its place."""
        name, kind, crew = self.fault.kind.name, self.fault.kind, self.world.crew
        if self.child and name == "join":
            self.world.wait("the new one has a position", self.child.holds)
        elif self.child and name == "leave":
            crew.see_off(self.child)
        elif self.child and kind.then in HELD:
            zombies = [self.child, *self._succession(self.child)]
            for zombie in zombies:
                crew.resume(zombie)
            if self.key and kind.point != "linked":
                for zombie in zombies:
                    self.world.wait(f"{zombie.number} is told", lambda zombie=zombie: zombie.answered(self.key))
                    stopped = kind.then == "twice" or (zombie is self.child and kind.then != "stall")
                    self.world.hard["stops past the session timeout in the window"] += kind.in_window and stopped
        elif self.key and kind.do in ("error", "full", "slow") and (named := parse_key(self.key)):
            self.world.wait(f"somebody writes on after {self.key}", lambda: crew.wrote_on(named[0], self._heard))

    def _aim(self, child: Child) -> None:
        kind, self.child = self.fault.kind, child
        self._since, self._asked_at = len(child.heard), time.monotonic()
        if kind.point in ("list", "footer"):  # it looks for the place to go on only after a failure
            child.tell(arm="before", do="error")
        if kind.point:
            child.tell(arm=kind.point, do=kind.do, seconds=SLOW_SECONDS)

    def _aim_elsewhere(self, child: Child, taken: list[Child]) -> None:
        """It lost its partitions, it seems; no other one is waited for, since what another fault holds may be in the way."""
        self._asked_at = time.monotonic()
        found = self._victims([*taken, child])
        if found:
            child.tell(disarm=True)
            self.world.wait("it obeys", lambda: child.find("disarmed", self._since))
            if not child.find("reached", self._since, point=self.fault.kind.point):
                self._aim(found[self.fault.target % len(found)])

    def _victims(self, taken: list[Child]) -> list[Child]:
        return [child for child in self.world.crew.living if child.holds() and child not in taken]

    def _strike(self, child: Child) -> None:
        kind, hard = self.fault.kind, self.world.hard
        if kind.then == "kill":
            hard["left-over temporaries"] += len(self.world.crew.kill(child))
            hard["kills in the window"] += kind.in_window
        elif kind.then in HELD and kind.then != "stall":
            self.world.crew.stop(child)
        elif kind.name == "answer_lost":
            hard["unknown outcomes"] += 1
        if kind.then in ("twice", "wins"):
            for other in self.world.crew.living:
                if other is not child:
                    other.tell(arm=kind.point, do=kind.do, key=self.key)
        if kind.then == "cut":
            chain = parse_key(self.key or "")
            for topic, number in {(chain[0].topic, chain[0].partition)} if chain else child.holds():
                self.world.log.cut(topic, number)

    def _succession(self, child: Child) -> list[Child]:
        """Wait until another process goes on in its place; returns those that were stopped on the way."""
        kind, crew, wait, key = self.fault.kind, self.world.crew, self.world.wait, self.key
        if not key:
            return []
        if kind.point == "linked":
            wait(f"another process goes on after {key}", lambda: crew.others_went_on(key, child, self._heard))
            return []
        if kind.then not in ("twice", "wins"):
            until = time.monotonic() + STALL_PATIENCE_SECONDS if kind.then == "stall" else float("inf")
            wait(f"another process claims {key}", lambda: crew.claimed(key, [child]) or time.monotonic() > until)
            return []
        return self._second_zombie(child, key)

    def _second_zombie(self, first: Child, key: str) -> list[Child]:
        """The next one over the same claim, nobody where it was made at once.

        It is stopped as well, until a third has made the claim; or it is held, until the first has made it after all.
        """
        crew, wait = self.world.crew, self.world.wait
        others = [other for other in crew.living if other is not first]

        def reached() -> list[Child]:
            return [other for other in others if other.find("reached", self._heard.get(other.number, 0), key=key)]

        wait(f"a second one comes to {key}", lambda: reached() or crew.claimed(key, [first]))
        second = reached()
        for other in others:
            if other not in second:
                other.tell(disarm=True)
            elif self.fault.kind.then == "twice":
                crew.stop(other)
        if second and self.fault.kind.then == "wins":
            crew.resume(first)
            wait(f"the zombie claims {key}", lambda: first.answered(key))
            return second
        wait(f"a third one claims {key}", lambda: crew.claimed(key, [first, *second]))
        return second
