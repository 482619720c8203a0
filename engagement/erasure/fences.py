"""What keeps people from coming back: writers that began before the list had them lose their claims, or are awaited.

- An archive writer of then lost its part's number: an empty part takes it, in every day that has raw objects no part
  covers. One that listed archives later has read the list since (R5).
- A consumer of then lost its name once a flush under the new list is in the chain, or when the log has nothing that the
  lake lacks. A part never counts as a flush. The chain of a topic that is gone is sealed behind its end.
- An import of then is waited for: it holds a lock from reading the list to its put.

The model in `tests/model` searches these very rules; each left out brings rows of the user back.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date
from typing import Protocol

from engagement.errors import TransientError
from engagement.lake import AlreadyExists, Lake
from engagement.raw import chain, compaction, files, rows
from engagement.raw.chain import NO_COVERAGE, Coverage
from engagement.raw.coverage import Part, PartName, Parts
from engagement.raw.erasures import IMPORT_LOCK, Erasures
from engagement.raw.footers import RawFile
from engagement.raw.names import IMPORT_TOPIC, Chain, topic_chain

LOOKS = 20


class Broker(Protocol):
    """What has to be asked of the broker."""

    def ids(self, topics: list[str]) -> Mapping[str, str]:
        """Topic -> its id as 32 hex digits, of those that are there; raises BrokerUnavailable."""

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has."""

    def end(self, topic: str, number: int) -> int:
        """End of a partition's log."""

    def kept(self, topics: list[str]) -> list[str]:
        """What the topics themselves still hold of erased users, a line each."""


@dataclass(frozen=True, slots=True)
class Standing:
    """A chain as raw and archive show it: its last raw object, and where it goes on."""

    chain: Chain
    last: RawFile | None
    resume: int


@dataclass(slots=True)
class Awaited:
    """What must still come to pass, in words; and the chains to seal, with their ends."""

    pending: list[str] = field(default_factory=list)
    closed: list[Standing] = field(default_factory=list)


def standings(raw: Iterable[RawFile], covered: Mapping[str, Coverage]) -> dict[Chain, Standing]:
    """Every chain of the log but those of imports."""
    last: dict[Chain, RawFile] = {}
    for item in raw:
        if item.chain not in last or item.start > last[item.chain].start:
            last[item.chain] = item
    chains = {*last, *map(Chain.parse, covered)}
    return {
        found: Standing(
            found, last.get(found), chain.resume(last[found].link if found in last else None, covered.get(found.label, NO_COVERAGE))
        )
        for found in sorted(chains)
        if found.topic != IMPORT_TOPIC
    }


def awaited(chains: Mapping[Chain, Standing], topics: Sequence[str], broker: Broker, length: int) -> Awaited:
    """What is not certain yet about flushes begun before the erasure list had `length` objects.

    Raises BrokerUnavailable. Whether a chain's topic is gone is believed only of the broker that the lake is fed from.
    """
    result = Awaited()
    ids = broker.ids(sorted({*topics, *(found.topic for found in chains)}))
    live = {topic_chain(topic, topic_id, number) for topic, topic_id in ids.items() for number in range(broker.partitions(topic))}
    for found in sorted(live):
        standing = chains.get(found, Standing(found, None, 0))
        if standing.last is not None and standing.last.erasures >= length:
            continue
        behind = broker.end(found.topic, found.partition) - standing.resume
        if behind > 0:
            result.pending.append(
                f"{found.label}: {behind} records of the log are not in the lake, and a consumer may hold some that it read before the "
                "erasure: let `engagement ingest` flush them"
            )
    known = not chains or not live.isdisjoint(chains)
    for found, standing in chains.items():
        if found in live or (standing.last is not None and standing.last.sealed):
            continue
        if known:
            result.closed.append(standing)
        else:
            result.pending.append(f"{found.label}: the broker knows no such topic id, and none of the lake's: is it the lake's broker?")
    return result


def seal(lake: Lake, closed: Iterable[Standing], erasures: Erasures) -> Iterator[str]:
    """Take the name behind the end of chains whose topics are gone; yields the keys."""
    for standing in closed:
        with suppress(AlreadyExists):  # somebody still writes to it: the next run looks again
            yield files.seal(lake, standing.chain, standing.resume, erasures).key


def days_to_fence(raw: Iterable[RawFile], covered: Mapping[str, Coverage]) -> set[tuple[str, date]]:
    """Topic and ingest day of every raw object that no part covers."""
    return {
        (item.chain.topic, item.first_received_at.astimezone(UTC).date())
        for item in raw
        if item.first_received_at and not covered.get(item.chain.label, NO_COVERAGE).holds(item.start)
    }


def fence(lake: Lake, days: Iterable[tuple[str, date]], erasures: Erasures, length: int) -> Iterator[str]:
    """An empty part in each of these days that has none begun under a list of `length` objects; yields the keys."""
    parts = Parts(lake)
    for topic, day in sorted(days):
        for _ in range(LOOKS):
            looked = parts.look(topic)
            begun = {entry.key: part.erasures for entry, part in zip(looked.entries, looked.parts, strict=True)}
            keys = [key for key in (*begun, *looked.unreadable) if (name := PartName.parse(key)) and name.day == day]
            if any(begun.get(key, 0) >= length for key in keys):
                break
            key = PartName(topic, day, len(keys)).key
            try:
                lake.put_new(key, _empty(erasures.length))
            except AlreadyExists:
                continue
            yield key
            break
        else:
            raise TransientError(f"{lake.name(f'archive/{topic}')}: other parts of {day} came at each of {LOOKS} looks; run it again")


def _empty(length: int) -> bytes:
    """An archive part that covers nothing."""
    sink = io.BytesIO()
    with compaction.writer_of(sink, schema := rows.schema()) as writer:
        writer.add_key_value_metadata(compaction.footer(Part({}, length), schema))
    return sink.getvalue()


def wait_for_imports(lake: Lake, tell: Callable[[str], None]) -> None:
    """Return once no import is between reading the list and its put."""
    tell("waits for imports")
    with lake.lock(IMPORT_LOCK):
        pass
