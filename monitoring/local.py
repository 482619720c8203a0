"""Prometheus and Alertmanager of our configuration on free ports of this machine, and a pager that keeps what it is told.

For the tests and the game day; the programs come from Debian's packages.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from engagement.errors import PermanentError
from engagement.settings import Settings
from engagement.stack import processes
from monitoring import rules, written

HOST = "127.0.0.1"
READY_SECONDS = 30.0
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Note:
    """One notification: when it came (Unix time), `page` or `ticket`, `firing` or `resolved`, names of its alerts, each once."""

    at: float
    receiver: str
    status: str
    alerts: tuple[str, ...]


@dataclass
class Pager:
    """A webhook that keeps every notification."""

    notes: list[Note] = field(default_factory=list)

    def names(self, receiver: str = "page", status: str = "firing", since: float = 0.0) -> list[str]:
        """Names of the alerts of these notifications, in the order in which they came."""
        return [name for note in list(self.notes) if (note.receiver, note.status) == (receiver, status) and note.at >= since
                for name in note.alerts]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Local:
    """What runs: Prometheus's address, and the pager."""

    url: str
    pager: Pager

    def query(self, expr: str) -> list[dict[str, Any]]:
        """The result of an instant query; raises OSError where Prometheus refuses it."""
        asked = urllib.parse.urlencode({"query": expr})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=10) as answer:  # noqa: S310 - ours
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def names(self) -> set[str]:
        """Names of all series that were scraped."""
        with urllib.request.urlopen(f"{self.url}/api/v1/label/__name__/values", timeout=10) as answer:  # noqa: S310 - ours
            return set(json.load(answer)["data"])

    def firing(self) -> set[str]:
        """Alerts that fire now, the watchdog not."""
        return {item["metric"]["alertname"] for item in self.query('ALERTS{alertstate="firing"}')} - {rules.WATCHDOG}


@contextmanager
def running(settings: Settings, folder: Path, pace: rules.Pace = rules.PACE) -> Iterator[Local]:
    """Both programs until the block ends; raises PermanentError where they are missing or do not start."""
    for program in ("prometheus", "prometheus-alertmanager"):
        if shutil.which(program) is None:
            raise PermanentError(f"{program} is missing: apt-get install --no-install-recommends prometheus prometheus-alertmanager")
    port, alerts = processes.free_ports(HOST, 2)
    with ExitStack() as stack:
        pager, hook = stack.enter_context(_listening())
        config = folder / "config"
        written.write(
            settings, config, page=f"{hook}/page", ticket=f"{hook}/ticket", alertmanager=f"{HOST}:{alerts}", pace=pace,
            prometheus=f"http://{HOST}:{port}",
        )  # fmt: skip
        where = [f"--config.file={config}/alertmanager.yml", f"--storage.path={folder}/alerts", f"--web.listen-address={HOST}:{alerts}"]
        argv = ["prometheus-alertmanager", *where, "--cluster.listen-address="]
        stack.enter_context(_program(argv, folder / "alertmanager.log", f"http://{HOST}:{alerts}"))
        where = [f"--config.file={config}/prometheus.yml", f"--storage.tsdb.path={folder}/series", f"--web.listen-address={HOST}:{port}"]
        stack.enter_context(_program(["prometheus", *where], folder / "prometheus.log", f"http://{HOST}:{port}"))
        yield Local(f"http://{HOST}:{port}", pager)


@contextmanager
def _program(argv: list[str], log: Path, url: str) -> Iterator[None]:
    with log.open("wb") as output:
        child = processes.start(argv, output, os.environ)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not _answers(f"{url}/-/ready"):
            if child.poll() is not None or time.monotonic() > deadline:
                raise PermanentError(f"{argv[0]} did not start; its log: {log}")
            time.sleep(0.1)
        yield
    finally:
        processes.stop(child, STOP_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):  # noqa: S310 - ours
            return True
    except OSError:
        return False


@contextmanager
def _listening() -> Iterator[tuple[Pager, str]]:
    pager = Pager()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server asks for
            told = json.loads(self.rfile.read(int(self.headers["content-length"])))
            # A notification of a group names those that are over and those that go on: each by its own status.
            for status in ("firing", "resolved"):
                names = tuple({item["labels"]["alertname"]: None for item in told["alerts"] if item["status"] == status})
                if names:
                    pager.notes.append(Note(time.time(), self.path.strip("/"), status, names))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Silent."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield pager, f"http://{HOST}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
