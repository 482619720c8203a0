"""Raw rows of some event slots as SQL reads them: from raw objects and archive parts alike, each record once (R5).

Which sources there are, the raw index says; which of them a unit lacks, is decided here from the offsets in its footer.
Not here: what is made of the rows (`events`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from engagement.errors import TransientError
from engagement.lake import Changed
from engagement.raw.sources import Source, entries, require_same
from engagement.tables import engine
from engagement.tables.context import TableContext

ATTEMPTS = 4
"""Looks at the lake until one finds everything where it was listed; files vanish only when they expire."""
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Lacking:
    """What a unit does not carry of its slot: the sources to read, those in the same objects to leave out, and whether it starts anew."""

    new: Sequence[Source]
    known: Sequence[Source]
    again: bool


def lacking(touching: Sequence[Source], slot: datetime, covered: Mapping[str, int], rows_in: int) -> Lacking:
    """What a unit with these offsets, made from so many rows, lacks of the sources of its slot.

    It is made from all of them again where a source that it covers could not be read then and can be now, and where one
    holds rows on both sides of its offset, as a range of the archive may: rows are never counted twice.
    """
    behind = [source for source in touching if source.upto(slot) <= covered.get(source.chain.label, 0)]
    ahead = [source for source in touching if source.upto(slot) > covered.get(source.chain.label, 0)]
    mended = sum(source.event_slots[slot] for source in behind) > rows_in
    if mended or any(source.start < covered.get(source.chain.label, 0) for source in ahead):
        return Lacking(touching, (), again=True)
    return Lacking(ahead, behind, again=False)


def relation(context: TableContext, sources: Iterable[Source], left_out: Iterable[Source] = ()) -> str:
    """A FROM-clause over the objects of these sources, without the rows of those that are left out."""
    objects = entries(sources)
    keys = {entry.key for entry in objects}
    rows = engine.raw_relation(list(context.lake.local(objects)))
    unwanted = " OR ".join(_within(source) for source in left_out if source.key in keys)
    return f"(SELECT * FROM {rows} WHERE NOT ({unwanted}))" if unwanted else rows


def _within(source: Source) -> str:
    chain = source.chain
    return (
        f"(kafka_partition = {chain.partition} AND starts_with(kafka_topic_id, '{chain.topic_id}')"
        f" AND kafka_offset >= {source.start} AND kafka_offset < {source.end})"
    )


def require_unchanged(context: TableContext, sources: Iterable[Source]) -> None:
    """To be called once the rows were read; raises Changed where they were not those that were listed."""
    require_same(context.lake, entries(sources))


def looking_again(read: Callable[[], Found]) -> Found:
    """What `read` makes of a look at the lake; where an object was gone or replaced when it was read, of another look.

    Raises TransientError where that happens again and again.
    """
    import duckdb

    for _ in range(ATTEMPTS - 1):
        try:
            return read()
        except (Changed, FileNotFoundError, duckdb.IOException):
            continue
    try:
        return read()
    except Changed as error:
        msg = f"raw objects vanished or were replaced at each of {ATTEMPTS} looks: {error}"
        raise TransientError(msg) from error
