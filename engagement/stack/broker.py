"""A real single-node Kafka (KRaft, no ZooKeeper, no container) as a child process, loopback only.

The data folder holds all it knows: the storage is formatted once, so records and cluster id survive a restart.
What does not belong here: topics (`topics.py`) and clusters of more than one node.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import subprocess
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from engagement.errors import PermanentError, TransientError
from engagement.stack import jars, java, processes

HOST = "127.0.0.1"
READY_SECONDS = 90.0
STOP_GRACE_SECONDS = 15.0
JVM_FLAGS = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")


class PortBusy(PermanentError):
    """Something else listens on the port already."""


class DataFolderBusy(PermanentError):
    """Another broker runs on the same data."""


class BrokerFailed(TransientError):
    """The broker ended, or did not answer in time; the text names its log."""


class Broker:
    """`with Broker(folder, port=0) as broker:` runs it until the block ends; port 0 takes a free one.

    Raises PortBusy, DataFolderBusy, BrokerFailed.
    """

    def __init__(self, data_dir: Path, port: int = 0) -> None:
        self.data_dir = data_dir
        self.port = port
        self.log_path = data_dir / "broker.log"
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """HOST:PORT for `bootstrap.servers`."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Of the Java process while it runs."""
        return self._child.pid if self._child else None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return when it answers a client."""
        self._lock = _lock_folder(self.data_dir)
        port, controller_port = processes.free_ports(HOST, 2)
        self.port = self.port or port
        if not processes.port_is_free(HOST, self.port):
            msg = f"port {self.port} on {HOST} is taken: stop what listens there, or choose another by --port"
            raise PortBusy(msg)
        properties = self.data_dir / "server.properties"
        properties.write_text(server_properties(self.data_dir, self.port, controller_port))
        if self.log_path.exists():
            self.log_path.replace(self.log_path.with_suffix(".log.1"))
        with self.log_path.open("wb") as log:
            if not (self.data_dir / "log" / "meta.properties").exists():
                self._format(properties, log)
            self._child = processes.start(_java(self.data_dir, "kafka.Kafka", str(properties)), log)
        self._wait_until_ready()

    def wait(self) -> None:
        """Return only by a signal handler's exception; raises BrokerFailed when the broker ends by itself."""
        if self._child:
            code = self._child.wait()
            msg = f"the broker ended by itself (exit {code}); its log: {self.log_path}"
            raise BrokerFailed(msg)

    def stop(self) -> None:
        """End it; nothing happens where it does not run."""
        if self._child:
            processes.stop(self._child, STOP_GRACE_SECONDS)
            self._child = None
        if self._lock:
            self._lock.close()
            self._lock = None

    def _format(self, properties: Path, log: IO[bytes]) -> None:
        child = processes.start(_java(self.data_dir, "kafka.tools.StorageTool", "format", "-t", cluster_id(), "-c", str(properties)), log)
        try:
            code = child.wait(READY_SECONDS)
        finally:
            processes.stop(child, 0)
        if code:
            msg = f"the broker's storage could not be formatted (exit {code}); its log: {self.log_path}"
            raise BrokerFailed(msg)

    def _wait_until_ready(self) -> None:
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + READY_SECONDS
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "reconnect.backoff.max.ms": 250})
        while time.monotonic() < deadline:
            if self._child and self._child.poll() is not None:
                msg = f"the broker ended before it was ready (exit {self._child.returncode}); its log: {self.log_path}"
                raise BrokerFailed(msg)
            with contextlib.suppress(KafkaException):
                if client.list_topics(timeout=0.5).brokers:
                    return
        msg = f"the broker did not answer within {READY_SECONDS:.0f} s; its log: {self.log_path}"
        raise BrokerFailed(msg)


def cluster_id() -> str:
    """A new cluster's identity: 16 random bytes in URL-safe base64.

    Never with a dash in front: one of 64 has it, and the storage tool then takes it for an option.
    """
    while True:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not identity.startswith("-"):
            return identity


def server_properties(data_dir: Path, port: int, controller_port: int) -> str:
    """The broker's own settings.

    The controller's port is chosen anew at each start; nothing durable holds it. The small dedupe buffer is
    for the heap: the default of 128 MB is half of what we give it.
    """
    lines: dict[str, Any] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{HOST}:{controller_port}",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": data_dir / "log",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        "log.cleaner.dedupe.buffer.size": 8 << 20,
        "num.network.threads": 2,
        "num.io.threads": 4,
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


LOG4J = """\
<Configuration status="OFF">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def _java(data_dir: Path, main_class: str, *arguments: str) -> list[str]:
    log4j = data_dir / "log4j2.xml"
    log4j.write_text(LOG4J)
    return [str(java.executable()), *JVM_FLAGS, f"-Dlog4j2.configurationFile={log4j}", "-cp", jars.classpath(), main_class, *arguments]


def _lock_folder(data_dir: Path) -> IO[bytes]:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / ".engagement-lock").open("wb")
    except OSError as error:
        msg = f"{data_dir}: {error.strerror}"
        raise BrokerFailed(msg) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        msg = f"another broker runs on {data_dir}: stop it, or choose another --data-dir"
        raise DataFolderBusy(msg) from error
    return lock
