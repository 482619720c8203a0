"""One run: broker, traffic, crew, the plan's faults one step after the other, and the verdict with what was really hit."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from helpers import eventually
from ingest_helpers import settings_of

from engagement.ingest.kafka import Topics
from engagement.lake import open_lake
from engagement.settings import Settings
from engagement.stack import topics
from engagement.stack.broker import Broker
from faults import group
from faults.attack import Attack, World
from faults.crew import Child, Crew, Trouble
from faults.log import Log
from faults.plan import CREW, Fault, plan
from faults.traffic import Traffic
from faults.verdict import Findings, judge

PATIENCE_SECONDS = 90.0
HARD_PLACES = ("fences", "unknown outcomes", "left-over temporaries", "kills in the window", "stops past the session timeout in the window")
"""A run that did not come to each of them proves nothing."""


@dataclass(slots=True)
class Result:
    """What a run did and what it found."""

    seed: int
    protocol: str
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
            f"seed {self.seed}, group protocol {self.protocol}: {sum(self.faults.values())} faults in {self.seconds:.0f} s",
            "faults: " + _counts(self.faults),
            "hard places: " + ", ".join(f"{self.hard[place]} {place}" for place in HARD_PLACES),
            "said by the processes: " + _counts(self.said),
            "compared: " + ", ".join(f"{counted[what]} {what}" for what in ("records", "rejects", "in gaps", "objects", "aborted")),
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
            settings = settings_of(self._broker.bootstrap, self._folder)
            topics.ensure(settings)
            self._crew = Crew(settings, group.environment(self._protocol), self._planted)
            traffic, log = Traffic(settings, self.seed), Log(settings)
            world = World(self._crew, self._broker, log, self._wait, self._hard)
            try:
                traffic.start()
                for _ in range(CREW):
                    self._crew.start()
                self._wait("every process writes", lambda: all(child.flushed() for child in self._crew.living))
                for number, step in enumerate(self._steps):
                    self._progress(f"step {number + 1}/{len(self._steps)}: {self._step(step, world)}")
                traffic.stop()
                self._progress("no more faults")
                findings = self._end(settings, traffic, log)
            except AssertionError as error:
                raise Trouble(f"seed {self.seed}: {error}") from error
            finally:
                self._crew.end()
                log.close()
        self._hard["fences"] = self._fences()
        return Result(self.seed, self._protocol, self._faults, self._hard, self._crew.events(), findings, time.monotonic() - self._began)

    def _progress(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:6.1f} s  {what}")

    def _wait(self, what: str, predicate: Callable[[], Any]) -> Any:
        """`predicate`'s first truthy result; raises Trouble where a process dies or nothing happens in time."""
        deadline = time.monotonic() + PATIENCE_SECONDS

        def look() -> Any:
            self._crew.require_alive()
            if time.monotonic() > deadline:
                said = "\n".join(f"process {child.number}:\n{child.last_words()}" for child in self._crew.living)
                raise Trouble(f"waited {PATIENCE_SECONDS:.0f} s in vain until {what}\n{said}")
            return predicate()

        return eventually(look, 2 * PATIENCE_SECONDS, 0.02)

    def _step(self, step: list[Fault], world: World) -> str:
        """Faults at the same time; those of the broker last, so that they meet the others under way."""
        attacks = sorted((Attack(fault, world) for fault in step), key=lambda attack: attack.fault.kind.name.startswith("broker"))

        def taken(attack: Attack) -> list[Child]:
            return [other.child for other in attacks if other is not attack and other.child]

        for attack in attacks:
            attack.choose(taken(attack))
        for attack in attacks:
            attack.begin()
        self._wait("all are hit", lambda: not [attack for attack in attacks if not attack.hit(taken(attack))])
        while len(self._crew.living) < CREW:
            self._crew.start()
        for attack in attacks:
            attack.finish()
            self._faults[attack.fault.kind.name] += 1
        return ", ".join(map(str, attacks))

    def _end(self, settings: Settings, traffic: Traffic, log: Log) -> Findings:
        """No more faults: the crew leaves, a last process reads what is left, and the lake is held against the log."""
        self._crew.require_alive()
        leaving = self._crew.living
        for child in leaving:
            self._crew.ask_to_leave(child)
        for child in leaving:
            self._crew.see_off(child)
        self._progress("all have left")
        admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers, "log_level": 0})
        self._wait("the group is empty", lambda: _members(admin, settings.consumer_group) == 0)
        self._progress("the group is empty")
        self._crew.see_off(self._crew.start("until-idle"))
        self._progress("the last one has read to the end")
        lake, _ = open_lake(settings)
        ids = Topics(settings).ids(list(settings.topics))
        return judge(settings, lake, ids, log, traffic.acknowledged)

    def _fences(self) -> int:
        """Claims refused because another process had made them."""
        return sum(
            self._crew.claimed(said["key"], [child])
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
