"""One assigned partition: what is buffered, what its next claim is called, when it must be written (R2, R3).

Pure: the clock's reading is passed in, nothing here touches Kafka or a disk.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engagement.raw.names import Chain
from engagement.raw.rows import Coordinates, Record


@dataclass(slots=True)
class Partition:
    """A positioned partition. `start` is the expected next offset, the name of the next claim."""

    where: Coordinates
    chain: Chain
    start: int
    records: list[Record] = field(default_factory=list)
    size: int = 0
    since: float = 0.0
    """Clock reading when the oldest buffered record arrived, seconds."""

    @property
    def end(self) -> int:
        """One past the last record read; offsets that the log skips belong to the claim."""
        return self.records[-1].offset + 1 if self.records else self.start

    def add(self, record: Record, now: float) -> None:
        """Take one record from the log; what lies before the next claim was read already and is ignored."""
        if record.offset < self.end:
            return
        if not self.records:
            self.since = now
        self.records.append(record)
        self.size += record.size

    def written(self) -> None:
        """The buffered records are durable: go on from their end."""
        self.start = self.end
        self.records = []
        self.size = 0


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When buffers are written; times in seconds, sizes in bytes."""

    seconds: float
    partition_bytes: int
    total_bytes: int

    def due(self, partitions: list[Partition], now: float) -> list[tuple[Partition, str]]:
        """Which partitions to write now, and why: `age`, `size` or `memory`.

        One partition's age takes all others along: their rows are then seen in the same refresh.
        """
        filled = [partition for partition in partitions if partition.records]
        if any(now - partition.since >= self.seconds for partition in filled):
            return [(partition, "age") for partition in filled]
        due = [(partition, "size") for partition in filled if partition.size >= self.partition_bytes]
        total = sum(partition.size for partition in filled)
        if not due and total >= self.total_bytes:
            fullest = sorted(filled, key=lambda partition: partition.size, reverse=True)
            due = [(partition, "memory") for partition in fullest[: max(1, len(fullest) // 2)]]
        return due
