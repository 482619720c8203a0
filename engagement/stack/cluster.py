"""A real Kafka cluster as child processes of ours, without container or ZooKeeper, on loopback only.

The data folder holds all it knows: the storage is formatted once, so records and cluster id survive a restart.
What does not belong here: topics (`topics.py`).
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from engagement.errors import PermanentError
from engagement.stack import processes
from engagement.stack.node import HOST, START_SECONDS, Address, BrokerFailed, Node, server_properties

LOOK_SECONDS = 0.5


class PortBusy(PermanentError):
    """Something else listens on the port already."""


class DataFolderBusy(PermanentError):
    """Another broker runs on the same data."""


class OtherNodes(PermanentError):
    """The data belong to a cluster of another size."""


class Cluster:
    """`with Cluster(folder) as cluster:` runs it until the block ends.

    The nodes listen on `port` and those after it; 0 takes free ones. `properties` are put over each node's own,
    `client` are what a client needs besides the addresses (TLS, SASL). Start it from the main thread.
    Raises PortBusy, DataFolderBusy, OtherNodes, BrokerFailed.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        nodes: int = 3,
        properties: Mapping[str, Any] | None = None,
        client: Mapping[str, Any] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.ports = [port + at for at in range(nodes)] if port else []
        self.nodes = {number: Node(number, self._folder(number)) for number in range(1, nodes + 1)}
        self._properties = dict(properties or {})
        self._client = dict(client or {})
        self._lock: IO[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """HOST:PORT,… for `bootstrap.servers`."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start all nodes and return when each answers a client and knows the others."""
        self._lock = _lock_folder(self.data_dir)
        try:
            self._require_size()
            self._write_properties(self._addresses())
            self._format()
            for node in self.nodes.values():
                node.start()
            for node in self.nodes.values():
                self._wait_for(node, len(self.nodes))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it; nothing happens where it does not run. All at once: the last ones have nobody left to hand over to."""
        for node in self.nodes.values():
            node.terminate()
        for node in self.nodes.values():
            node.stop()
        if self._lock:
            self._lock.close()
            self._lock = None

    def wait(self, say: Callable[[str], None]) -> None:
        """Return only by a signal handler's exception. One of several nodes that dies is started again.

        Raises BrokerFailed when the only node ends by itself, or one that does not get ready again.
        """
        while True:
            for node in self.nodes.values():
                if (code := node.exit_code) is None:
                    continue
                if len(self.nodes) == 1:
                    raise BrokerFailed(f"node {node.number} ended by itself (exit {code}); its log: {node.log_path}")
                say(f"node {node.number} ended by itself (exit {code}); starting it again")
                self.restart(node.number)
            time.sleep(LOOK_SECONDS)

    def kill(self, number: int) -> None:
        """SIGKILL: the node says goodbye to nobody. It stays away until `restart`."""
        self.nodes[number].stop(grace_seconds=0)

    def restart(self, number: int) -> None:
        """Start one node again at its old place, after ending it where it still runs, and return when it answers."""
        node = self.nodes[number]
        node.stop()
        node.start()
        self._wait_for(node, 1)

    def leader(self, topic: str, partition: int) -> int | None:
        """Number of the node that leads the partition; None where none does just now."""
        from confluent_kafka.admin import AdminClient

        client = AdminClient({**self._client, "bootstrap.servers": self.bootstrap, "log_level": 0})
        found = client.list_topics(topic, timeout=10).topics[topic].partitions.get(partition)
        return found.leader if found and found.leader > 0 else None

    def _folder(self, number: int) -> Path:
        return self.data_dir / f"node-{number}"

    def _require_size(self) -> None:
        """Another layout in the folder is another cluster: started beside it, its records would seem lost."""
        formatted = {path.parent for path in (self.data_dir / "log", *self.data_dir.glob("node-*/log")) if path.exists()}
        if formatted - {node.folder for node in self.nodes.values()}:
            msg = f"{self.data_dir} holds the data of another number of nodes than {len(self.nodes)}: choose another --data-dir"
            raise OtherNodes(msg)

    def _addresses(self) -> list[Address]:
        """Controllers' ports are chosen anew at each start of the whole, nothing durable holds them, and kept while it runs."""
        for port in self.ports:
            if not processes.port_is_free(HOST, port):
                raise PortBusy(f"port {port} on {HOST} is taken: stop what listens there, or choose another by --port")
        count = len(self.nodes)
        free = [port for port in processes.free_ports(HOST, 3 * count) if port not in self.ports]
        self.ports = self.ports or free[count : 2 * count]
        return [Address(*where) for where in zip(self.nodes, self.ports, free[:count], strict=True)]

    def _write_properties(self, addresses: list[Address]) -> None:
        for at in addresses:
            node = self.nodes[at.number]
            node.write_properties(server_properties(at, addresses, node.folder) | self._properties)

    def _format(self) -> None:
        """Make the storage of nodes that have none, at once. A format that was cut off goes on with the same identity."""
        known = [identity for node in self.nodes.values() if (identity := node.cluster_id())]
        identity = known[0] if known else cluster_id()
        new = [node for node in self.nodes.values() if not node.cluster_id()]
        for node in new:
            node.begin_format(identity)
        for node in new:
            node.end_format()

    def _wait_for(self, node: Node, knows: int) -> None:
        """Until the node itself answers and knows so many living nodes. One node's address is asked: others may still list a dead one."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        deadline = time.monotonic() + START_SECONDS
        address = f"{HOST}:{self.ports[node.number - 1]}"
        client = AdminClient({**self._client, "bootstrap.servers": address, "log_level": 0, "reconnect.backoff.max.ms": 250})
        while time.monotonic() < deadline:
            if node.exit_code is not None:
                raise BrokerFailed(f"the broker ended before it was ready (exit {node.exit_code}); its log: {node.log_path}")
            with contextlib.suppress(KafkaException):
                brokers = client.list_topics(timeout=0.5).brokers
                if node.number in brokers and len(brokers) >= knows:
                    return
        raise BrokerFailed(f"the broker did not answer within {START_SECONDS:.0f} s; its log: {node.log_path}")


def cluster_id() -> str:
    """A new cluster's identity: 16 random bytes in URL-safe base64.

    Never with a dash in front: one of 64 has it, and the storage tool then takes it for an option.
    """
    while True:
        identity = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not identity.startswith("-"):
            return identity


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
