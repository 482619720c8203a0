"""One assigned partition: its state in the protocol, what is buffered, when it must be written.

Pure: the clock's reading is passed in, nothing here touches Kafka or a disk.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from engagement.ingest.protocol import Looking, State
from engagement.raw.rows import CHUNK, Batch, Records, Rows

Key = tuple[str, int]
"""Topic and partition number."""


@dataclass(slots=True)
class Buffer:
    """Records read since the last claim. They are decoded as they come, so memory holds columns, not messages.

    It may hold no record: offsets without one are claimed too.
    """

    rows: Rows
    since: float
    """Clock reading when the oldest offset was read, seconds."""
    waiting: Records = field(default_factory=Records)
    """Not decoded yet: fewer than a chunk."""
    size: int = 0
    """Bytes of all records in it as they came; their columns take no more."""
    oldest_received: int = 0
    """Log-append time of the oldest record, microseconds."""

    def add(self, records: Records) -> None:
        """Take records that follow one another."""
        if not self.size:
            self.oldest_received = records.received[0]
        self.size += records.size
        self.waiting.extend(records)
        if len(self.waiting) >= CHUNK:
            self._decode()

    def batch(self) -> Batch:
        """All rows, ready to be written."""
        self._decode()
        return self.rows.batch()

    def _decode(self) -> None:
        self.rows.add(self.waiting)
        self.waiting = Records()


@dataclass(slots=True)
class Partition:
    """An assigned partition. `buffer` is there exactly while records are held (`protocol.holds`)."""

    key: Key
    state: State = field(default_factory=Looking)
    buffer: Buffer | None = None
    fetching: bool = False
    """Whether the client fetches it."""
    end_of_log: int = -1
    """Where the client last met the log's end."""

    @property
    def size(self) -> int:
        """Bytes buffered."""
        return self.buffer.size if self.buffer else 0

    @property
    def since(self) -> float:
        """Clock reading when the oldest buffered record arrived; only while there is one."""
        return self.buffer.since if self.buffer else 0.0


def news(records: Records, end: int) -> Records:
    """Those from offset `end` on: what lies before was read already."""
    if records.offsets[0] >= end:
        return records
    return records.cut(bisect_left(records.offsets, end), len(records))


@dataclass(frozen=True, slots=True)
class FlushPolicy:
    """When buffers are written; times in seconds, sizes in bytes."""

    seconds: float
    partition_bytes: int
    total_bytes: int
    a_second: int = 20
    """Partitions due by age that are written in one second: a hundred at once would load the store in bursts."""

    def due(self, partitions: Iterable[Partition], now: float) -> list[tuple[Partition, str]]:
        """Which partitions to write now, and why: `age`, `size` or `memory`; none holds a record for longer than `seconds`."""
        filled = [partition for partition in partitions if partition.buffer]
        due = [(partition, "size") for partition in filled if partition.size >= self.partition_bytes]
        due += [(partition, "age") for partition in self._aged(filled, now) if partition.size < self.partition_bytes]
        if not due and sum(partition.size for partition in filled) >= self.total_bytes:
            fullest = sorted(filled, key=lambda partition: partition.size, reverse=True)
            due = [(partition, "memory") for partition in fullest[: max(1, len(fullest) // 2)]]
        return due

    def _aged(self, filled: list[Partition], now: float) -> list[Partition]:
        """Those whose turn has come in the last moments before the oldest record is too old, at most a quarter of its time.

        One partition's age takes the others along, so that their rows are seen in the same refresh; not those that
        were written in these very moments and have records again.
        """
        oldest = min((partition.since for partition in filled), default=now)
        along = [partition for partition in filled if partition.since < oldest + self.seconds * 0.75]
        along.sort(key=lambda partition: (partition.since, partition.key))
        rate = max(self.a_second, len(filled) / (self.seconds / 4))
        may_wait = max(0, int((oldest + self.seconds - now) * rate))
        return along[: max(0, len(along) - may_wait)]
