"""Rows of a file to decoded batches, in order, in as many processes as pay.

Decoding is most of an import's work and holds the interpreter, so it goes to processes; what is sent is a piece of
a few thousand rows, what comes back its columns. The processes are fresh ones (`spawn`): the parent has threads.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from engagement.contract import TimeWindow
from engagement.raw.privacy import KEEP_ALL, Policy

if TYPE_CHECKING:
    from pathlib import Path

    from engagement.raw.rows import Batch, Coordinates

AHEAD = 3
"""Pieces in flight for each process: enough that none waits, few enough for memory."""
MAX_PROCESSES = 4
"""More would wait for the one that reads and writes."""


class Reader(Protocol):
    """What knows a kind of file; it travels to the processes."""

    @property
    def columns(self) -> Sequence[str] | None:
        """Names of its columns; None where every row has names of its own."""

    def chunks(self, path: Path, start: int, sizes: Iterator[int]) -> Iterator[Any]:
        """Rows from `start` on, as many at once as the sizes say, to the file's end."""

    def documents(self, chunk: Any) -> list[bytes]:
        """The record of each row of a chunk."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one file that follow one another, and all that their rows in the lake depend on."""

    reader: Reader
    chunk: Any
    first: int
    where: Coordinates
    window: TimeWindow
    slot_minutes: int
    received_micros: int
    policy: Policy = KEEP_ALL


Decode = Callable[[Iterable[Piece]], Iterator["Batch"]]


def decode(piece: Piece) -> Batch:
    """The rows of a piece."""
    from engagement.raw import rows

    values: list[bytes | None] = [*piece.reader.documents(piece.chunk)]
    count = len(values)
    found = rows.Rows(piece.where, piece.window, piece.slot_minutes, policy=piece.policy)
    offsets = list(range(piece.first, piece.first + count))
    found.add(rows.Records(offsets, [piece.received_micros] * count, [None] * count, values, [()] * count))
    return found.batch()


def joined(batches: Iterable[Batch]) -> Batch:
    """Batches that follow one another as one."""
    import pyarrow as pa

    from engagement.raw.rows import Batch

    found = list(batches)
    return Batch(
        pa.concat_tables([batch.table for batch in found]),
        added(batch.rejects for batch in found),
        dict(sorted(added(batch.event_slots for batch in found).items())),
        _least(batch.min_event_time for batch in found),
        _greatest(batch.max_event_time for batch in found),
        _least(batch.first_received_at for batch in found),
        _greatest(batch.last_received_at for batch in found),
        added(batch.noticed for batch in found),
    )


@contextmanager
def processes(count: int) -> Iterator[Decode]:
    """Decoding in so many processes, in this one where that is 1; they end with the context, or with their parent."""
    if count <= 1:
        yield lambda pieces: map(decode, pieces)
        return
    import multiprocessing
    from concurrent.futures import Future, ProcessPoolExecutor

    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)

    def in_order(pieces: Iterable[Piece]) -> Iterator[Batch]:
        running: deque[Future[Batch]] = deque()
        for piece in pieces:
            running.append(pool.submit(decode, piece))
            if len(running) >= AHEAD * count:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    try:
        yield in_order
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ctrl-C reaches the whole group: the parent decides. A parent that was killed cannot, so its end is watched."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()
    gc.set_threshold(100_000)  # rows by the thousand live for a moment and form no cycles
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def added(counts: Iterable[dict[Any, int]]) -> dict[Any, int]:
    """Counts of the same names together."""
    total: dict[Any, int] = {}
    for found in counts:
        for name, count in found.items():
            total[name] = total.get(name, 0) + count
    return total


def _least(times: Iterable[datetime | None]) -> datetime | None:
    return min((time for time in times if time is not None), default=None)


def _greatest(times: Iterable[datetime | None]) -> datetime | None:
    return max((time for time in times if time is not None), default=None)
