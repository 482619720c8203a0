"""The ingest processes under the harness: started, told what to do, listened to, stopped, killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import eventually

from engagement.raw.names import Chain, parse_key
from engagement.settings import Settings
from engagement.stack import processes

ROOT = Path(__file__).resolve().parent.parent.parent
LEAVE_SECONDS = 60.0
LAST_WORDS_SECONDS = 5.0


class Trouble(AssertionError):
    """The harness cannot go on: a process ended by itself, or nothing happens any more."""


@dataclass(slots=True)
class Child:
    """One ingest process. `heard` is everything it said, in order; a reader thread adds to it."""

    number: int
    process: subprocess.Popen[str]
    heard: list[dict[str, Any]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)
    """Lines that are no JSON: a traceback."""
    ended_by_us: bool = False

    def listen(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            try:
                self.heard.append(json.loads(line))
            except ValueError:
                self.other.append(line)

    def tell(self, **command: Any) -> None:
        """Nothing is sent to one that is gone."""
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()

    def find(self, event: str, since: int = 0, **fields: Any) -> dict[str, Any] | None:
        """The first thing it said since then that is so."""
        for said in self.heard[since:]:
            if said.get("event") == event and all(said.get(name) == value for name, value in fields.items()):
                return said
        return None

    def signal(self, number: signal.Signals) -> None:
        processes.signal_process(self.process.pid, number)

    def stopped(self) -> bool:
        """Whether the kernel has stopped it."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def holds(self) -> set[tuple[str, int]]:
        """Topic partitions that it has a position of, as far as it said."""
        held: set[tuple[str, int]] = set()
        for said in list(self.heard):
            if said.get("event") == "positioned":
                held.add((said["topic"], said["partition"]))
            elif said.get("event") == "revoked":
                held -= {(topic, int(number)) for topic, _, number in (name.rpartition("/") for name in said["partitions"])}
        return held

    def last_words(self) -> str:
        """What it said last; where it is, if it still is."""
        if self.alive:
            before = len(self.other)
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGUSR1)
            with contextlib.suppress(AssertionError):
                eventually(lambda: len(self.other) > before, LAST_WORDS_SECONDS)
        return "\n".join([*map(json.dumps, self.heard[-8:]), "".join(self.other[-40:])])

    def flushed(self) -> bool:
        return self.find("flushed") is not None

    def answered(self, key: str | None) -> bool:
        """It learned what became of its claim; if it made it, the verdict will tell whether another one had it."""
        return any(self.find(event, key=key) for event in ("refused", "claimed"))


class Crew:
    """All processes there ever were; `living` are those that nobody has ended yet."""

    def __init__(self, settings: Settings, environment: dict[str, str], planted: str | None = None) -> None:
        self.children: list[Child] = []
        self._argv = [sys.executable, "-m", "faults.child", *([planted] if planted else [])]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        self._environment = {**inherited, **settings.environment(), **environment, "PYTHONPATH": path}

    @property
    def living(self) -> list[Child]:
        return [child for child in self.children if not child.ended_by_us]

    def start(self, *arguments: str) -> Child:
        """From the main thread only: the kernel kills it with the thread that forked it."""
        process = subprocess.Popen(
            [*self._argv, *arguments], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment, cwd=ROOT,
            process_group=0, preexec_fn=processes.child_setup(),  # noqa: PLW1509 - system calls only
        )  # fmt: skip
        child = Child(len(self.children), process)
        threading.Thread(target=child.listen, daemon=True).start()
        self.children.append(child)
        return child

    def require_alive(self) -> None:
        """Raises Trouble where a process ended that nobody ended."""
        for child in self.living:
            if not child.alive:
                raise Trouble(f"process {child.number} ended by itself (exit {child.process.returncode})\n{child.last_words()}")

    def kill(self, child: Child) -> list[Path]:
        """kill -9; returns the temporary files that it leaves behind."""
        child.ended_by_us = True
        child.signal(signal.SIGKILL)
        child.process.wait()
        folder = Path(self._environment["ENGAGEMENT_LAKE_URL"]) / ".tmp"
        return sorted(folder.glob(f"{child.process.pid}-*"))

    def ask_to_leave(self, child: Child) -> None:
        """SIGTERM, once it has a handler for it."""
        eventually(lambda: child.find("ready"))
        child.ended_by_us = True
        child.signal(signal.SIGTERM)

    def see_off(self, child: Child) -> None:
        """Wait for one that leaves; raises Trouble where it does not, or not with 0."""
        child.ended_by_us = True
        try:
            code = child.process.wait(LEAVE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        if code != 0:
            raise Trouble(f"process {child.number} was to leave: exit {code}\n{child.last_words()}")

    def stop(self, child: Child) -> None:
        child.signal(signal.SIGSTOP)
        eventually(child.stopped)

    def resume(self, child: Child) -> None:
        """Also lets it pass the point where it holds."""
        child.tell(go_on=True)
        child.signal(signal.SIGCONT)

    def end(self) -> None:
        """However it ended, nothing of it stays."""
        for child in self.children:
            if child.alive:
                child.signal(signal.SIGKILL)
            child.process.wait()

    def claims(self) -> Iterator[tuple[Child, str]]:
        """Who gave which raw object its name."""
        for child in self.children:
            for said in list(child.heard):
                if said.get("event") == "claimed":
                    yield child, said["key"]

    def wrote_on(self, chain: Chain, since: dict[int, int]) -> bool:
        """Whether anybody made a claim in this chain since then (lines heard by each)."""
        return any(
            said.get("event") == "claimed" and said["key"].startswith(f"{chain.folder}/")
            for child in self.children
            for said in child.heard[since.get(child.number, 0) :]
        )

    def claimed(self, key: str, but_not_by: list[Child]) -> bool:
        return any(child not in but_not_by and claimed == key for child, claimed in self.claims())

    def others_went_on(self, key: str, than: Child, since: dict[int, int]) -> bool:
        """Whether another process took up the partition of this object since then (lines heard by each)."""
        parsed = parse_key(key)
        assert parsed
        chain, _ = parsed
        return any(
            child.find("positioned", since.get(child.number, 0), topic=chain.topic, partition=chain.partition)
            for child in self.children
            if child is not than
        )

    def events(self) -> Counter[str]:
        """How often each thing was said by anybody."""
        return Counter(said["event"] for child in self.children for said in list(child.heard))
