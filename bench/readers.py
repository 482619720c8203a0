"""Readers in a loop while everything else goes on: how often one sees what was never true.

    .venv/bin/python bench/readers.py [--reads 10000] [--readers 2] [--seed 1] [--json]

One process appends raw objects, refreshes, archives, lets raw expire as soon as a part covers it, and erases guests, in an order
that the seed decides. Others read meanwhile, each in turn the whole log through the raw index (as planning and dead letters do), and
the events by a plain DuckDB glob (as anybody does). A step adds ten events to every slot, two of them of a guest who is in that step
alone. A read is wrong unless each slot holds eight times a number of steps that had at least begun when it ended and at most been
published when it began, of each guest both events or none, each event once, and the log holds every offset once from 0 on. Errors
that say that something changed, and are gone at the next try, are counted apart.
Wanted: wrong 0 times in at least 10,000 reads.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import measure

from engagement import settings as settings_module
from engagement.contract import TimeWindow
from engagement.erasure.forget import forget
from engagement.errors import TransientError
from engagement.ingest.kafka import BrokerUnavailable
from engagement.lake import Changed, Lake, open_lake
from engagement.model import units
from engagement.raw import archive, chain, erasures, expiry, files, rows, sources
from engagement.raw.coverage import Parts
from engagement.raw.index import RawIndex
from engagement.raw.names import topic_chain
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import refresh

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
SLOTS = 2
EACH = 10
GUESTS = 2
"""Of the events that a step adds to a slot: the first of each partition, of a user who may be erased later."""
STEPS = 20
"""Steps in one lake; parts are never merged, so a lake that only grows would slow the readers down."""
WHERE = [rows.Coordinates("session", "5e" * 16, partition) for partition in range(2)]
LATER = timedelta(days=400)
KEY = "of-this-bench-alone-0123456789abcdef"


@dataclass
class Count:
    """What the readers saw."""

    reads: int = 0
    retried: int = 0
    wrong: list[str] = field(default_factory=list)
    actions: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Read until there are enough reads; 1 where one was wrong."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--reads", type=int, default=10_000)
    options.add_argument("--readers", type=int, default=2)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    found = watch(asked.reads, asked.readers, asked.seed)
    told = {
        "reads": found.reads, "wrong": len(found.wrong), "retried": found.retried, "actions": dict(found.actions),
        "first_wrong": found.wrong[:3], "machine": measure.machine(),
    }  # fmt: skip
    print(json.dumps(told) if asked.json else "\n".join(f"{name:<12}{value}" for name, value in told.items()))
    return 1 if found.wrong or found.reads < asked.reads else 0


def watch(reads: int, readers: int, seed: int, steps: int = STEPS) -> Count:
    """One lake after another until there were so many reads."""
    found = Count()
    for number in itertools.count(seed):
        with tempfile.TemporaryDirectory(prefix="readers-") as folder:
            one_lake(Path(folder), number, readers, steps, found)
        if found.reads >= reads or found.wrong:
            return found
    return found


def one_lake(folder: Path, seed: int, readers: int, steps: int, found: Count) -> None:
    """A writer and its readers from the first step to the last."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        shared = manager.Namespace(raw_begun=0, raw_done=0, tables_begun=0, tables_done=0, over=False)
        told = manager.Queue()
        open_lake(settings_of(folder, "writer"))
        workers = [context.Process(target=write, args=(folder, seed, steps, shared, told))]
        workers += [context.Process(target=read, args=(folder, number, shared, told)) for number in range(readers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        while not told.empty():
            kind, value = told.get()
            if kind == "read":
                found.reads, found.retried = found.reads + value[0], found.retried + value[1]
            elif kind == "wrong":
                found.wrong.append(value)
            else:
                found.actions[value] += 1


def settings_of(folder: Path, who: str) -> Settings:
    """Settings with a state folder of one's own."""
    return settings_module.load({}, folder, lake_url=str(folder / "lake"), state_dir=folder / who, threads=1, hash_key=KEY)


# Writing.


def write(folder: Path, seed: int, steps: int, shared: Any, told: Any) -> None:
    """Steps in the seed's order; the readers stop when it is over."""
    chance = random.Random(seed)
    try:
        with open_tables(settings_of(folder, "writer")) as context:
            for step in range(1, steps + 1):
                shared.raw_begun = step
                for where in WHERE:
                    append(context.lake, where, step, context.settings.hash_keys)
                shared.raw_done = step
                for action in chance.sample([_refresh, _archive, _expire, _rebuild, _forget], chance.randint(1, 5)):
                    action(context, shared)
                    told.put(("action", action.__name__.strip("_")))
    except Exception:  # noqa: BLE001 - whoever watches must hear of it
        told.put(("wrong", f"the writer failed: {traceback.format_exc()}"))
    finally:
        shared.over = True


def append(lake: Lake, where: rows.Coordinates, step: int, keys: Sequence[bytes]) -> None:
    """One raw object of a partition: its half of the step's events of every slot."""
    own = topic_chain(where.topic, where.topic_id, where.partition)
    start = chain.resume(files.last_link(lake, own), Parts(lake).of(own))
    listed = erasures.read(lake, keys)
    count = SLOTS * EACH // len(WHERE)
    records = [
        rows.Record(start + at, HOUR + timedelta(hours=at % SLOTS, seconds=step), user.encode(), event(where, start + at, at % SLOTS, user))
        for at in range(count)
        for user in [guest(step) if at < SLOTS else "u"]
    ]
    batch = rows.build(where, records, TimeWindow.of(HOUR.date(), 10**9, None), 60)
    files.write(lake, own, start, start + count, batch, erasures=listed)


def guest(step: int) -> str:
    """The user who is in this step alone."""
    return f"guest-{step:04d}"


def event(where: rows.Coordinates, offset: int, slot: int, user: str) -> bytes:
    """An event of its own id in that slot."""
    at = HOUR + timedelta(hours=slot, seconds=offset % 3600)
    number = where.partition << 40 | offset
    return json.dumps({
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": user, "event_type": "tap", "timestamp": at.isoformat(),
    }).encode()  # fmt: skip


def _refresh(context: Any, shared: Any) -> None:
    shared.tables_begun = shared.raw_done
    refresh.hours(context, hours())
    shared.tables_done = shared.raw_done


def _rebuild(context: Any, shared: Any) -> None:
    shared.tables_begun = shared.raw_done
    refresh.hours(context, hours(), rebuild=True)
    shared.tables_done = shared.raw_done


def _archive(context: Any, _shared: Any) -> None:
    report = archive.archive(context.lake, now=HOUR + LATER, after=timedelta(0), index=context.index, hash_keys=context.settings.hash_keys)
    assert not report.problems, report.problems


def _expire(context: Any, _shared: Any) -> None:
    report = expiry.expire(context.lake, grace=timedelta(0), now=context.lake.clock() + LATER, index=context.index)
    assert not report.problems, report.problems


def _forget(context: Any, shared: Any) -> None:
    """Erase the guest of one step. No broker tells what consumers still hold, so that much stays pending; there are none."""
    shared.tables_begun = shared.raw_done  # erasing makes the tables of what it touched
    forget(context.settings, [guest(shared.raw_done // 2 or 1)], broker=_away)


def _away(_settings: Settings) -> Any:
    raise BrokerUnavailable("there is none in this bench")


def hours() -> list[datetime]:
    """The hours that have events."""
    return [HOUR + number * units.HOUR for number in range(SLOTS)]


# Reading.


def read(folder: Path, number: int, shared: Any, told: Any) -> None:
    """Read in turn until the writer is done."""
    settings = settings_of(folder, f"reader-{number}")
    lake = open_lake(settings)[0]
    index = RawIndex(lake, settings.state_dir)
    checks: list[Callable[[], str | None]] = [lambda: log(lake, index, shared), lambda: events(folder, shared)]
    reads = retried = 0
    for check in itertools.cycle(checks):
        if shared.over:
            break
        if not shared.raw_done:  # reading an empty lake proves nothing
            continue
        try:
            wrong = check()
        except (TransientError, Changed, FileNotFoundError) as error:
            retried += bool(str(error))
            continue
        except Exception:  # noqa: BLE001 - an error that does not say what to do counts as wrong
            wrong = traceback.format_exc()
        reads += 1
        if wrong:
            told.put(("wrong", wrong))
            break
    told.put(("read", (reads, retried)))
    index.close()


def log(lake: Lake, index: RawIndex, shared: Any) -> str | None:
    """The whole log through the index: every offset of each partition once, from 0 to an end that was true meanwhile."""
    least = shared.raw_done
    index.sync()
    listed = index.sources()
    found: Counter[tuple[int, int]] = Counter()
    for source in listed:
        with sources.opened(lake, source) as file:
            for batch in sources.batches(file, source, ["kafka_partition", "kafka_offset"]):
                found.update(zip(batch["kafka_partition"].to_pylist(), batch["kafka_offset"].to_pylist(), strict=True))
    sources.require_same(lake, sources.entries(listed))
    most = shared.raw_begun
    each = SLOTS * EACH // len(WHERE)
    for where in WHERE:
        ends = [offset for partition, offset in found if partition == where.partition]
        count = len(ends)
        if max(found.values(), default=0) > 1:
            return f"the log holds {found.most_common(1)[0]} more than once"
        if sorted(ends) != list(range(count)) or not least * each <= count <= most * each or count % each:
            return f"the log of partition {where.partition} holds {count} offsets, expected {least} to {most} times {each}"
    return None


def events(folder: Path, shared: Any) -> str | None:
    """The events by a plain glob: of each slot a state that was true meanwhile, each event once."""
    import duckdb

    least = shared.tables_done
    glob = f"{folder}/lake/{units.EVENTS}/**/*.parquet"
    try:
        query = f"SELECT user_id, hour, count(*), count(DISTINCT event_id) FROM read_parquet('{glob}') GROUP BY user_id, hour"
        found = {(user, hour): (count, distinct) for user, hour, count, distinct in duckdb.sql(query).fetchall()}
    except duckdb.Error as error:
        if least == 0 and "No files found" in str(error):
            return None
        raise TransientError(str(error)) from error
    most, each = shared.tables_begun, EACH - GUESTS
    for hour in hours():
        count, distinct = found.get(("u", hour.hour), (0, 0))
        if count != distinct or count % each or not least * each <= count <= most * each:
            return f"{hour}: {count} events of {distinct} ids, expected {least} to {most} times {each}"
    halves = {key: counts for key, counts in found.items() if key[0] != "u" and counts != (GUESTS, GUESTS)}
    if halves:
        return f"guests are there in part: {halves}"
    return None


if __name__ == "__main__":
    sys.exit(main())
