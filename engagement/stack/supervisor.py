"""Starts the parts of a stack, watches them, ends them all: nothing it started outlives it.

Every child carries `MARK=<state folder>` in its environment and so does whatever it starts in turn. After a
SIGKILL of the supervisor itself its children are killed by the kernel, and what they left is swept at the
next start by that mark. Which parts there are is not known here (`demo.py`).
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from engagement.errors import PermanentError
from engagement.stack import processes

MARK = "SUPERVISED_BY"
TURN_SECONDS = 0.2
STOP_GRACE_SECONDS = 20.0
FIRST_BACKOFF_SECONDS = 1.0
LAST_BACKOFF_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""A part that ran so long is well: its next failure counts as the first."""


class PartFailed(PermanentError):
    """A part could not start; the text names its log."""


class AlreadyRuns(PermanentError):
    """Another supervisor of the same state folder is alive; the text says which."""


@dataclass(frozen=True)
class Part:
    """One process. `ready` tells when others that `need` it may start; a `once` part is ready when it succeeded.

    `when` holds the start back until it says yes.
    """

    name: str
    argv: Sequence[str]
    needs: Sequence[str] = ()
    ready: Callable[[], bool] | None = None
    when: Callable[[], bool] | None = None
    once: bool = False
    deadline_seconds: float = 90.0
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class _Running:
    part: Part
    child: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    first: float = 0.0
    is_ready: bool = False
    failures: int = 0
    again_at: float = 0.0


class Supervisor:
    """Runs parts until `stop` is set. `say` gets one line for a person at every change."""

    def __init__(
        self, state_dir: Path, environment: Mapping[str, str], say: Callable[[str], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mark = str(state_dir.resolve())
        self._environment = {**environment, MARK: self._mark}
        self._logs = state_dir / "logs"
        self._say = say
        self._clock = clock
        self._running: dict[str, _Running] = {}
        self._shown: dict[str, int] = {}
        self._lock: IO[str] | None = None
        self.stop = threading.Event()

    def sweep(self) -> int:
        """Take the state folder for this supervisor and end what an earlier one left; returns how many processes.

        Raises AlreadyRuns: what a living supervisor runs is not left over.
        """
        self._take_folder()
        left = self._mine()
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal_and_wait(number)
        return len(left)

    def _take_folder(self) -> None:
        """Hold `supervisor.lock` while we live; the kernel lets go of it however we die."""
        if self._lock:
            return
        path = Path(self._mark) / "supervisor.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip()
            raise AlreadyRuns(f"process {holder} runs on {self._mark}: stop it, or choose another ENGAGEMENT_STATE_DIR") from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock

    def _mine(self) -> list[int]:
        return [pid for pid in processes.marked(MARK, self._mark) if pid != os.getpid()]

    def _signal_and_wait(self, number: signal.Signals) -> None:
        """Signal all that carries the mark *now*: a pid noted earlier may be somebody else's by then."""
        left = self._mine()
        for pid in left:
            processes.signal_process(pid, number)
        deadline = self._clock() + STOP_GRACE_SECONDS
        while any(processes.started_at(pid) for pid in left) and self._clock() < deadline:
            time.sleep(TURN_SECONDS)

    @property
    def names(self) -> list[str]:
        """The parts taken by `start`."""
        return list(self._running)

    def log_of(self, name: str) -> Path:
        """Where a part's output goes."""
        return self._logs / f"{name}.log"

    def start(self, parts: Sequence[Part]) -> None:
        """Take the parts; `turn` starts each when what it needs is ready."""
        self._logs.mkdir(parents=True, exist_ok=True)
        for part in parts:  # one run's output a file, and the one before it
            log = self.log_of(part.name)
            if log.exists():
                log.replace(log.with_suffix(".log.1"))
        self._shown = {part.name: 0 for part in parts}
        self._running = {part.name: _Running(part) for part in parts}

    def is_ready(self, name: str) -> bool:
        """Whether a part answers (a `once` part: has succeeded)."""
        return self._running[name].is_ready

    def pids(self) -> dict[str, int]:
        """Part -> pid of those that run."""
        return {name: item.child.pid for name, item in self._running.items() if item.child and item.child.poll() is None}

    def new_output(self) -> Iterator[str]:
        """Whole lines that parts have written since the last call, each with its part's name before it."""
        for name, at in self._shown.items():
            log = self.log_of(name)
            if not log.exists() or log.stat().st_size <= at:
                continue
            with log.open("rb") as handle:
                handle.seek(at)
                text = handle.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._shown[name] = at + len(whole)
            for line in whole.decode(errors="replace").splitlines():
                yield f"{name} | {line}"

    def turn(self) -> None:
        """One look at every part: start, notice readiness, restart; raises PartFailed where one cannot start."""
        for item in self._running.values():
            if item.child is None:
                self._maybe_start(item)
            elif item.child.poll() is not None:
                self._ended(item, item.child.returncode)
            elif not item.is_ready:
                self._look(item)

    def shut_down(self) -> None:
        """End all parts, the last started first."""
        for item in reversed(self._running.values()):
            if item.child is not None and item.child.poll() is None:
                processes.stop(item.child, STOP_GRACE_SECONDS)
            item.child = None
        for number in (signal.SIGTERM, signal.SIGKILL):  # grandchildren that made sessions of their own, as Dagster's runs do
            self._signal_and_wait(number)
        if self._lock:
            self._lock.close()
            self._lock = None

    def _maybe_start(self, item: _Running) -> None:
        now = self._clock()
        part = item.part
        if (part.once and item.is_ready) or now < item.again_at or not all(self.is_ready(name) for name in part.needs):
            return
        if part.when is not None and not part.when():
            return
        with self.log_of(item.part.name).open("ab") as log:
            item.child = processes.start(item.part.argv, log, {**self._environment, **item.part.environment})
        item.since = now
        item.first = item.first or now

    def _look(self, item: _Running) -> None:
        part = item.part
        if not part.once and (part.ready is None or part.ready()):
            item.is_ready = True
        elif self._clock() - item.first > part.deadline_seconds:
            raise PartFailed(f"{part.name} did not get ready within {part.deadline_seconds:.0f} s; its log: {self.log_of(part.name)}")

    def _ended(self, item: _Running, code: int) -> None:
        part, now = item.part, self._clock()
        item.child = None
        if part.once and code == 0:
            item.is_ready = True
            return
        if not item.is_ready and (part.once or now - item.first > part.deadline_seconds):
            raise PartFailed(f"{part.name} ended with exit code {code} before it was ready; its log: {self.log_of(part.name)}")
        item.failures = 1 if now - item.since > STEADY_SECONDS else item.failures + 1
        backoff = min(FIRST_BACKOFF_SECONDS * 2 ** (item.failures - 1), LAST_BACKOFF_SECONDS)
        item.again_at = now + backoff
        self._say(f"{part.name} ended with exit code {code}; starting it again in {backoff:.0f} s (log: {self.log_of(part.name)})")
