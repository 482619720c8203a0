"""A single-node Kafka: a cluster of one, whose data lie in the folder itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engagement.stack.cluster import Cluster


class Broker(Cluster):
    """`with Broker(folder, port=0) as broker:` runs it until the block ends; port 0 takes a free one.

    `properties` and `client` as in Cluster, which also says what it raises.
    """

    def __init__(
        self, data_dir: Path, port: int = 0, properties: Mapping[str, Any] | None = None, client: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(data_dir, port, 1, properties, client)

    @property
    def pid(self) -> int | None:
        """Of the Java process while it runs."""
        return self.nodes[1].pid

    @property
    def log_path(self) -> Path:
        """What the process says."""
        return self.nodes[1].log_path

    def _folder(self, number: int) -> Path:  # noqa: ARG002 - there is only one
        return self.data_dir
