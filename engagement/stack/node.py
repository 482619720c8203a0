"""One Kafka node (KRaft, broker and controller in one Java process): its properties, its storage, its process.

What does not belong here: which nodes there are, their ports, and whether they answer (`cluster.py`).
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engagement.errors import TransientError
from engagement.stack import jars, java, processes

HOST = "127.0.0.1"
START_SECONDS = 90.0
STOP_GRACE_SECONDS = 15.0
JVM_FLAGS = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
LOG4J = """\
<Configuration status="OFF">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


class BrokerFailed(TransientError):
    """A node ended, or did not answer in time; the text names its log."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where one node listens: for clients and other brokers, and for controllers."""

    number: int
    port: int
    controller_port: int


def server_properties(at: Address, everyone: list[Address], folder: Path) -> dict[str, Any]:
    """A node's own settings. With three nodes every record is on all three, and acknowledged with two.

    The client listener has a name of its own, so that its protocol can be changed without naming a port.
    The small dedupe buffer is for the heap: the default of 128 MB is half of what we give it.
    """
    replicas, in_sync = len(everyone), (len(everyone) + 1) // 2
    return {
        "process.roles": "broker,controller",
        "node.id": at.number,
        "controller.quorum.voters": ",".join(f"{node.number}@{HOST}:{node.controller_port}" for node in everyone),
        "listeners": f"CLIENT://{HOST}:{at.port},CONTROLLER://{HOST}:{at.controller_port}",
        "advertised.listeners": f"CLIENT://{HOST}:{at.port}",
        "listener.security.protocol.map": "CLIENT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "CLIENT",
        "log.dirs": folder / "log",
        "auto.create.topics.enable": "false",
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": replicas,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }


class Node:
    """The process of one node, and the folder that holds its storage and its log."""

    def __init__(self, number: int, folder: Path) -> None:
        self.number = number
        self.folder = folder
        self.log_path = folder / "broker.log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the Java process while it runs."""
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Of a process that ended by itself; None while it runs, and where it was stopped."""
        return self._child.poll() if self._child else None

    def cluster_id(self) -> str | None:
        """Identity of the cluster this storage belongs to; None before it is formatted."""
        try:
            text = (self.folder / "log" / "meta.properties").read_text()
        except OSError:
            return None
        found = re.search(r"^cluster\.id=(.+)$", text, re.MULTILINE)
        return found[1] if found else None

    def write_properties(self, properties: Mapping[str, Any]) -> None:
        """What the next format or start reads; the folder is made where it is missing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "log4j2.xml").write_text(LOG4J)
        self._properties.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))

    def begin_format(self, cluster_id: str) -> None:
        """Start making the storage; `end_format` waits for it."""
        self._run("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(self._properties))

    def end_format(self) -> None:
        """Raises BrokerFailed where the storage could not be made."""
        assert self._child is not None  # noqa: S101 - begin_format came before
        try:
            code = self._child.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            code = processes.stop(self._child, 0)
        self._child = None
        if code:
            raise BrokerFailed(f"the broker's storage could not be formatted (exit {code}); its log: {self.log_path}")

    def start(self) -> None:
        """Start the process; it answers some seconds later."""
        self._run("kafka.Kafka", str(self._properties))

    def terminate(self) -> None:
        """Ask it to end, and do not wait."""
        if self._child:
            self._child.terminate()

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """End it, by force after the grace; nothing happens where it does not run."""
        if self._child:
            processes.stop(self._child, grace_seconds)
            self._child = None

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _run(self, main_class: str, *arguments: str) -> None:
        argv = [str(java.executable()), *JVM_FLAGS, f"-Dlog4j2.configurationFile={self.folder / 'log4j2.xml'}"]
        with self.log_path.open("ab") as log:
            self._child = processes.start([*argv, "-cp", jars.classpath(), main_class, *arguments], log)
