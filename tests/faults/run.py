"""One run: broker, traffic, crew, the plan's faults one step after the other, and the verdict with what was really hit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from helpers import eventually

from engagement import settings as settings_module
from engagement.ingest.kafka import Topics
from engagement.lake import open_lake
from engagement.settings import Settings
from engagement.stack import processes, topics
from engagement.stack.broker import Broker
from faults import group
from faults.crew import Child, Crew, Trouble
from faults.plan import CREW, Fault, plan
from faults.traffic import Traffic
from faults.verdict import Findings, judge

PATIENCE_SECONDS = 90.0
RETARGET_SECONDS = 12.0
SLOW_SECONDS = 1.5
HARD_PLACES = ("fences", "unknown outcomes", "left-over temporaries", "kills in the window", "stops past the session timeout in the window")
"""A run that did not come to each of them proves nothing."""


@dataclass(slots=True)
class Attack:
    """One fault under way: against whom, and where it was hit."""

    fault: Fault
    child: Child | None = None
    since: int = 0
    asked_at: float = 0.0
    key: str | None = None
    heard: dict[int, int] = field(default_factory=dict)
    """How much every process had said when it was hit."""

    @property
    def shown(self) -> str:
        return f"{self.fault.kind.name} on {self.child and self.child.number}"


@dataclass(slots=True)
class Result:
    """What a run did and what it found."""

    seed: int
    faults: Counter[str]
    hard: Counter[str]
    said: Counter[str]
    findings: Findings
    seconds: float

    @property
    def missed(self) -> list[str]:
        """Hard places it never came to."""
        return [place for place in HARD_PLACES if not self.hard[place]]

    @property
    def ok(self) -> bool:
        return not self.findings.wrong and not self.missed

    def __str__(self) -> str:
        counted = self.findings.counted
        lines = [
            f"seed {self.seed}: {sum(self.faults.values())} faults in {self.seconds:.0f} s",
            "faults: " + _counts(self.faults),
            "hard places: " + ", ".join(f"{self.hard[place]} {place}" for place in HARD_PLACES),
            "said by the processes: " + _counts(self.said),
            "compared: " + ", ".join(f"{counted[what]} {what}" for what in ("records", "rejects", "objects", "aborted")),
            f"result: {self.findings}",
        ]
        if self.missed:
            lines.append(f"PROVED NOTHING: never came to: {', '.join(self.missed)}")
        return "\n".join(lines)


class Run:
    """`Run(folder, seed, count).result()`; `say` gets a line a step."""

    def __init__(
        self, folder: Path, seed: int, count: int, say: Callable[[str], None] = print, protocol: str = "classic", planted: str | None = None
    ) -> None:
        self.seed = seed
        self._protocol = protocol
        self._steps = plan(seed, count)
        self._say = say
        self._planted = planted
        self._broker = Broker(folder / "kafka", properties=group.BROKER)
        self._folder = folder
        self._faults: Counter[str] = Counter()
        self._hard: Counter[str] = Counter()
        self._began = time.monotonic()

    def result(self) -> Result:
        """Carry the plan out and compare; raises Trouble, with the seed in its text, where ingest does not go on."""
        self._progress(f"seed {self.seed}, {sum(map(len, self._steps))} faults")
        with self._broker:
            settings = self._settings()
            self._crew = Crew(settings, group.environment(self._protocol), self._planted)
            traffic = Traffic(settings, self.seed)
            try:
                traffic.start()
                for _ in range(CREW):
                    self._crew.start()
                self._wait("every process writes", lambda: all(child.flushed() for child in self._crew.living))
                for number, step in enumerate(self._steps):
                    self._progress(f"step {number + 1}/{len(self._steps)}: {self._step(step)}")
                traffic.stop()
                self._progress("no more faults")
                findings = self._end(settings, traffic)
            except AssertionError as error:
                raise Trouble(f"seed {self.seed}: {error}") from error
            finally:
                self._crew.end()
        self._hard["fences"] = self._fences()
        return Result(self.seed, self._faults, self._hard, self._crew.events(), findings, time.monotonic() - self._began)

    def _settings(self) -> Settings:
        settings = settings_module.load(
            environ={}, folder=self._folder, kafka_bootstrap_servers=self._broker.bootstrap, topic_partitions=3,
            lake_url=str(self._folder / "lake"), state_dir=self._folder / "state",
        )  # fmt: skip
        topics.ensure(settings)
        return settings

    def _progress(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def _wait(self, what: str, predicate: Callable[[], Any]) -> Any:
        """`predicate`'s first truthy result; raises Trouble where a process dies or nothing happens in time."""
        deadline = time.monotonic() + PATIENCE_SECONDS

        def look() -> Any:
            self._crew.require_alive()
            if time.monotonic() > deadline:
                raise Trouble(f"waited {PATIENCE_SECONDS:.0f} s in vain until {what}")
            return predicate()

        return eventually(look, 2 * PATIENCE_SECONDS, 0.02)

    # A step.

    def _step(self, step: list[Fault]) -> str:
        attacks = [Attack(fault) for fault in step]
        for attack in attacks:
            self._begin(attack, attacks)
        self._wait("all are hit", lambda: not [attack for attack in attacks if not self._hit(attack, attacks)])
        while len(self._crew.living) < CREW:
            self._crew.start()
        for attack in attacks:
            self._finish(attack)
            self._faults[attack.fault.kind.name] += 1
        return ", ".join(attack.shown for attack in attacks)

    def _begin(self, attack: Attack, attacks: list[Attack]) -> None:
        kind = attack.fault.kind
        if kind.name == "join":
            child = attack.child = self._crew.start()
            self._wait("the new one has a position", child.holds)
        elif kind.name == "leave":
            child = attack.child = self._victim(attack, attacks)
            self._crew.leave(child)
        elif kind.name in ("broker_restart", "broker_kill"):
            if kind.name == "broker_kill" and self._broker.pid:
                processes.signal_process(self._broker.pid, processes.signal.SIGKILL)
            self._broker.stop()
            self._broker.start()
        else:
            self._aim(attack, attacks)

    def _aim(self, attack: Attack, attacks: list[Attack]) -> None:
        """Choose whom, and arm it."""
        kind = attack.fault.kind
        child = attack.child = self._victim(attack, attacks)
        attack.since, attack.asked_at = len(child.heard), time.monotonic()
        if kind.point == "list":  # it lists after a failure only
            child.tell(arm="list", do=kind.do)
            child.tell(arm="before", do="error")
        elif kind.point:
            child.tell(arm=kind.point, do=kind.do, seconds=SLOW_SECONDS)

    def _victim(self, attack: Attack, attacks: list[Attack]) -> Child:
        """One that has something to write and that no other fault of this step goes to."""
        taken = [other.child for other in attacks if other is not attack]

        def candidates() -> list[Child]:
            return [child for child in self._crew.living if child.holds() and child not in taken and child is not attack.child]

        found: list[Child] = self._wait("somebody has a partition", candidates)
        return found[attack.fault.target % len(found)]

    def _hit(self, attack: Attack, attacks: list[Attack]) -> bool:
        """Whether the fault has struck; kills and stops at that moment."""
        kind, child = attack.fault.kind, attack.child
        if attack.key is not None or (kind.alone and not kind.point):
            return True
        assert child
        if kind.point is None:
            if time.monotonic() - attack.asked_at < attack.fault.moment:
                return False
            attack.key = ""
        else:
            reached = child.find("reached", attack.since, point=kind.point)
            if reached is None:
                if time.monotonic() - attack.asked_at > RETARGET_SECONDS:
                    child.tell(disarm=True)
                    self._wait("it obeys", lambda: child.find("disarmed", attack.since))
                    if not child.find("reached", attack.since, point=kind.point):
                        self._aim(attack, attacks)
                return False
            attack.key = reached["key"]
        attack.heard = {other.number: len(other.heard) for other in self._crew.children}
        self._strike(attack, child)
        return True

    def _strike(self, attack: Attack, child: Child) -> None:
        kind = attack.fault.kind
        if kind.then == "kill":
            self._hard["left-over temporaries"] += len(self._crew.kill(child))
            self._hard["kills in the window"] += kind.in_window
        elif kind.then in ("stop", "twice"):
            self._crew.stop(child)
        elif kind.name == "answer_lost":
            self._hard["unknown outcomes"] += 1

    def _finish(self, attack: Attack) -> None:
        """Until the fault is over: who was stopped goes on after another one took its place."""
        kind, child, key = attack.fault.kind, attack.child, attack.key
        if kind.then not in ("stop", "stall", "twice") or not child:
            return
        if key:
            self._wait_for_takeover(attack, child, key)
        held = [child]
        if kind.then == "twice":
            held.append(self._second_zombie(child, str(key)))
        for zombie in held:
            self._crew.resume(zombie)
        if key and kind.point != "linked":
            for zombie in held:
                self._wait("the zombie is told", lambda zombie=zombie: self._outcome(zombie, key))
                self._hard["stops past the session timeout in the window"] += kind.in_window and kind.then != "stall"

    def _wait_for_takeover(self, attack: Attack, child: Child, key: str) -> None:
        kind = attack.fault.kind
        if kind.then == "twice":
            others = [other for other in self._crew.living if other is not child]
            for other in others:
                other.tell(arm="written", do="hold", key=key)
            self._wait(
                "a second one comes to the same claim",
                lambda: any(o.find("reached", attack.heard.get(o.number, 0), key=key) for o in others),
            )
        elif kind.point == "linked":
            self._wait(f"another process goes on after {key}", lambda: self._crew.others_went_on(key, child, attack.heard))
        else:
            self._wait(f"another process claims {key}", lambda: self._crew.claimed_by_other(key, child))

    def _second_zombie(self, first: Child, key: str) -> Child:
        """Stop the one that holds before the same claim until a third one has made it."""
        second = next(child for child in self._crew.living if child is not first and child.find("reached", key=key))
        self._crew.stop(second)
        for other in self._crew.living:
            if other not in (first, second):
                other.tell(disarm=True)
        self._wait(
            f"a third process claims {key}",
            lambda: any(child not in (first, second) and claimed == key for child, claimed in self._crew.claims()),
        )
        return second

    def _outcome(self, child: Child, key: str) -> bool:
        """It was refused; or it claimed what another one has, which the verdict will tell."""
        return any(child.find(event, key=key) for event in ("refused", "claimed"))

    # The end.

    def _end(self, settings: Settings, traffic: Traffic) -> Findings:
        """No more faults: the crew leaves, a last process reads what is left, and the lake is held against the log."""
        self._crew.require_alive()
        self._crew.leave(*self._crew.living)
        self._progress("all have left")
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
        self._wait("the group is empty", lambda: _members(admin, settings.consumer_group) == 0)
        self._progress("the group is empty")
        self._crew.see_off(self._crew.start("until-idle"))
        self._progress("the last one has read to the end")
        lake, _ = open_lake(settings)
        ids = Topics(settings).ids(list(settings.topics))
        return judge(settings, lake, ids, traffic.acknowledged)

    def _fences(self) -> int:
        """Claims refused because another process had made them."""
        return sum(
            self._crew.claimed_by_other(said["key"], child)
            for child in self._crew.children
            for said in child.heard
            if said.get("event") == "refused"
        )


def _members(admin: AdminClient, group: str) -> int | None:
    try:
        (future,) = admin.describe_consumer_groups([group]).values()
        return len(future.result().members)
    except KafkaException:
        return None


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])))
