"""Many units in one pass: what refreshes and rebuilds are made of. Which rows, the tables' own modules say.

A pass notes what lies under each key, makes the candidates of a batch of slots by one query, has the gates judge
each, and publishes them in threads (compression and fsync wait for no interpreter lock). A unit that a gate holds, that
another writer replaced meanwhile, or whose batch could not be made holds no other: the last two are made anew one by one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime

from engagement.errors import EngagementError
from engagement.lake import Entry
from engagement.model import units
from engagement.tables.context import TableContext
from engagement.tables.objects import Candidate, Outcome, publish_made, unchanged

WRITERS = 4
"""Threads that publish; more than cores, because each waits for the disk."""
WAITING = 16
"""Candidates on their way to the disk at most: they hold memory."""

Notes = Mapping[datetime, Entry | None]
"""Slot -> what lay under its key when the pass began."""
Results = dict[datetime, Outcome | Exception]
"""Slot -> what became of it. An exception is this slot's alone."""


def make_all(
    context: TableContext,
    table: str,
    batches: Iterable[Sequence[datetime]],
    notes: Notes,
    make: Callable[[Sequence[datetime]], Mapping[datetime, Candidate]],
    one: Callable[[datetime], Outcome],
    locked: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Results:
    """Make and publish all slots of the batches; `make` leaves out those that need no new object, `one` makes a single slot.

    `notes` may be filled by `make`; `locked` is held from there to the batch's last put. Never raises for what is in a unit.
    """
    results: Results = {}
    slots: list[datetime] = []
    with _plain_memory(), ThreadPoolExecutor(WRITERS) as pool:
        writers = _Writers(context, table, pool, results)
        for batch in batches:
            slots += batch
            with locked():
                try:
                    candidates = make(batch)
                    accepted = _accepted(context, table, candidates, results)
                except Exception:  # noqa: BLE001, S112 - one by one it shows whose fault it is
                    continue
                for slot, candidate in accepted:
                    writers.publish(slot, notes[slot], candidate)
                if locked is not nullcontext:
                    writers.settle()  # else the last ones are compressed while the next batch is read
            for slot in batch:
                if slot not in candidates:
                    results[slot] = unchanged(context.lake, units.slot_key(table, slot), notes[slot])
        writers.settle()
    alone = [slot for slot in slots if slot not in results]
    for slot in alone:
        try:
            results[slot] = one(slot)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other units are published all the same
            results[slot] = error
    return dict(sorted(results.items()))


def note(context: TableContext, table: str, slots: Iterable[datetime]) -> Notes:
    """What lies under the slots' keys now; to be taken before the inputs are listed (R4)."""
    return {slot: context.lake.stat(units.slot_key(table, slot)) for slot in slots}


def batches_of(slots: Iterable[datetime], weight: Mapping[datetime, int], most: int) -> list[list[datetime]]:
    """Slots in order, cut into batches no heavier than `most` each; a slot that is heavier stands alone."""
    found: list[list[datetime]] = []
    heavy = 0
    for slot in sorted(slots):
        if not found or heavy + weight.get(slot, 0) > most:
            found.append([])
            heavy = 0
        found[-1].append(slot)
        heavy += weight.get(slot, 0)
    return found


def required(results: Results) -> dict[datetime, Outcome]:
    """The outcomes; raises the first unit's error where there is one."""
    for result in results.values():
        if isinstance(result, Exception):
            raise result
    return {slot: result for slot, result in results.items() if isinstance(result, Outcome)}


@contextmanager
def _plain_memory() -> Iterator[None]:
    """Arrow's memory from the C library meanwhile.

    Arrow's own allocator hands large blocks back at once and faults them in again: half of a rebuild's time was the kernel's.
    """
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def _accepted(
    context: TableContext, table: str, candidates: Mapping[datetime, Candidate], results: Results
) -> list[tuple[datetime, Candidate]]:
    """The candidates that the gates let pass; the others get their result here."""
    asked = [replace(candidate, hour=units.floor_hour(slot), unit=units.slot_key(table, slot)) for slot, candidate in candidates.items()]
    accepted = []
    for (slot, candidate), verdict in zip(candidates.items(), context.verdicts(table, asked), strict=True):
        if verdict is None:
            accepted.append((slot, candidate))
            continue
        key = units.slot_key(table, slot)
        old = context.lake.stat(key)
        results[slot] = Outcome(key, 0, old.size if old else 0, False, held=str(verdict))
    return accepted


class _Writers:
    """Threads that publish. A slot that another writer replaced meanwhile gets no result here."""

    def __init__(self, context: TableContext, table: str, pool: ThreadPoolExecutor, results: Results) -> None:
        self._context, self._table, self._pool, self._results = context, table, pool, results
        self._under_way: deque[tuple[datetime, Future[Outcome | None]]] = deque()

    def publish(self, slot: datetime, old: Entry | None, candidate: Candidate) -> None:
        """Hand one over; waits while too many are under way."""
        key = units.slot_key(self._table, slot)
        self._under_way.append((slot, self._pool.submit(publish_made, self._context.lake, key, old, candidate)))
        self.settle(WAITING)

    def settle(self, most: int = 0) -> None:
        """Wait until no more than so many are under way."""
        while len(self._under_way) > most:
            slot, future = self._under_way.popleft()
            try:
                outcome = future.result()
            except EngagementError as error:  # the store refused: to try again one by one would only fail slower
                self._results[slot] = error
            except Exception:  # noqa: BLE001, S112 - without a result it is made anew alone, where this shows again
                continue
            else:
                if outcome is not None:
                    self._results[slot] = outcome
