"""Child processes that never outlive their parent.

Each child leads a process group of its own, so that one signal reaches all it started, and asks the kernel to be killed when
its parent dies, however it dies. All stay in our session: nice values weigh nothing between sessions (`priority`). SIGINT and
SIGTERM are reset: a program started with `&` from a script ignores SIGINT, and its children would too.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
LOWEST_PORT = 10_000
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_libc = ctypes.CDLL(None, use_errno=True)


def child_setup() -> Callable[[], None]:
    """What a child does between fork and exec; pass it as `preexec_fn` with `process_group=0`.

    The kernel's promise is bound to the *thread* that forks: start children from the main thread.
    """
    parent = os.getpid()

    def setup() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the promise was asked for
            os._exit(1)

    return setup


def start(argv: Sequence[str], output: IO[bytes], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a child whose output goes to an open file; its environment is ours where none is given."""
    return subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0, env=environment,
        preexec_fn=child_setup(),  # noqa: PLW1509 - nothing but system calls, and no other thread of ours holds a lock they need
    )  # fmt: skip


def signal_group(leader: int, number: signal.Signals) -> None:
    """Send a signal to a child and all that it started; gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, number)


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal to one process; gone is fine."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stop(child: subprocess.Popen[bytes], grace_seconds: float) -> int:
    """End a child and all that it started: TERM, then KILL after the grace. Returns its exit code."""
    if child.poll() is None:
        signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace_seconds)
    signal_group(child.pid, signal.SIGKILL)
    return child.wait()


def started_at(pid: int) -> str | None:
    """Start time of a process in kernel ticks; with it a pid names one process for ever. None where there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    return None if state == "Z" else rest[18]


def marked(variable: str, value: str) -> Iterator[int]:
    """Pids of living processes whose environment holds `variable=value`; children inherit it through every fork."""
    wanted = f"{variable}={value}".encode()
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_ports(host: str, count: int) -> list[int]:
    """Ports nobody listens on; all different, and where it can be none that the kernel gives to outgoing connections.

    A client that knocks at a closed port of its own machine again and again is sooner or later given that very
    port and connects to itself; the server could then not come back to its place.
    """
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < count:
            probe = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET))
            with contextlib.suppress(OSError):
                probe.bind((host, _port_to_try()))
                found.append(probe.getsockname()[1])
        return found


def _port_to_try() -> int:
    """0, any the kernel likes, where its range leaves no room below."""
    try:
        lowest_outgoing = int(OUTGOING_PORTS.read_text().split()[0])
    except OSError:
        return 0
    return random.randrange(LOWEST_PORT, lowest_outgoing) if lowest_outgoing > 2 * LOWEST_PORT else 0  # noqa: S311
