"""Commands that run what surrounds the pipeline on one machine: `broker`, `topics`, `demo`."""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError

DEFAULT_BROKER_PORT = 9092
LAST_PORT = 65535


def broker(*, port: int | None = None, data_dir: Path | None = None, nodes: int = 1) -> None:
    """Run a real Kafka broker on 127.0.0.1 in the foreground, until SIGTERM or Ctrl-C; or three of them as one cluster.

    Prints `ready HOST:PORT`, of three nodes `ready HOST:PORT,HOST:PORT,HOST:PORT`, on stdout when it accepts requests.
    What it holds survives a restart. Of three nodes one may be killed: the others go on, and it is started again.

    For example:

        engagement broker
        engagement broker --port 9192 --data-dir /tmp/kafka
        engagement broker --nodes 3 --data-dir /tmp/cluster

    Parameters
    ----------
    port
        Port to listen on, three nodes on the two after it too; the first one in ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS
        where it is left out, 0 for any free ones.
    data_dir
        Folder of its data; `kafka` below ENGAGEMENT_STATE_DIR where it is left out.
    nodes
        Number of brokers, 1 or 3. Three keep every record three times and acknowledge it when two have it.
    """
    from engagement.stack.broker import Broker
    from engagement.stack.cluster import Cluster

    if nodes not in (1, 3):
        raise UsageError(f"--nodes {nodes}: must be 1 or 3")
    settings = settings_module.load()
    chosen = _port_of(settings.kafka_bootstrap_servers) if port is None else port
    if not 0 <= chosen <= LAST_PORT - (nodes - 1):
        raise UsageError(f"--port {chosen}: must be from 0 to {LAST_PORT - (nodes - 1)}")
    folder = (data_dir or settings.state_dir / "kafka").resolve()
    _leave_quietly_on_signals()
    with Broker(folder, chosen) if nodes == 1 else Cluster(folder, chosen, nodes) as running:
        print(f"ready {running.bootstrap}", flush=True)
        running.wait(lambda line: print(f"engagement: {line}", file=sys.stderr, flush=True))


def topics(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Create the three topics, or check those that exist; a difference from the settings is told, never mended.

    Other partitions, replication or retention than the settings ask for are fit to work with. Exit code 1 where
    a topic does not keep LogAppendTime: `engagement ingest` refuses it.

    For example:

        engagement topics
        ENGAGEMENT_TOPIC_PARTITIONS=12 engagement topics --json

    Parameters
    ----------
    json_
        One JSON object a topic instead of the table.
    """
    from engagement.stack import topics as stack_topics

    reports = stack_topics.ensure(settings_module.load())
    if json_:
        for report in reports:
            print(json.dumps(asdict(report.topic) | {"created": report.created, "drift": report.drift}))
    else:
        _print_topics(reports)
    return 1 if any(report.topic.timestamp_type != stack_topics.TIMESTAMP_TYPE for report in reports) else 0


def _print_topics(reports: list[Any]) -> None:
    width = max(len("topic"), *(len(report.topic.name) for report in reports))
    print(f"{'topic':<{width}}  partitions  replication  time           retention  state")
    for report in reports:
        topic = report.topic
        state = "; ".join(report.drift) or ("created" if report.created else "ok")
        hours = "for ever" if topic.retention_ms < 0 else f"{topic.retention_ms / 3_600_000:g} h"
        print(f"{topic.name:<{width}}  {topic.partitions:>10}  {topic.replication:>11}  {topic.timestamp_type:<13}  {hours:>9}  {state}")


def _port_of(bootstrap_servers: str) -> int:
    port = bootstrap_servers.split(",", maxsplit=1)[0].rpartition(":")[2]
    return int(port) if port.isdigit() else DEFAULT_BROKER_PORT


def _leave_quietly_on_signals() -> None:
    """SIGTERM and Ctrl-C end the command with 0 after its clean-up; a second one does not cut that short."""

    def leave(*_: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
