"""Which listings keep the raw index in step at the cost of what is new, not of what there is.

A look lists each living chain from its last known start, and besides takes its turn in two rounds: the folders of `raw`
and of one topic after the other (new chains); the archive and one page of one chain after the other (what was replaced or
deleted). A page is what a store answers at once, so a look costs a request a living chain and three more, whatever there is.
An object appended to a known chain is seen at once, everything else within a round. A look at everything lists `raw` and
the archive whole. Both are safe at any time: what an index has not seen yet only waits longer, and a raw object that an
unseen part covers is read raw until it is deleted, at the earliest a grace later (R5).
Not here: reading footers and the database (`index`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from engagement.lake import Entry, Lake
from engagement.lake.together import together
from engagement.raw.names import IMPORT_TOPIC, RAW, Chain

PAGE = 1000
"""Names in one answer of a store."""
IMPORT_LIVES = 3600.0
"""Seconds after its last new object in which an imported file's chain may grow at once."""


@dataclass(frozen=True, slots=True)
class Head:
    """A chain as the index knows it: `last_received_at` as text, `seen_at` when its last object was new, in epoch seconds."""

    label: str
    last_start: int
    last_received_at: str
    seen_at: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Objects of one chain that are listed: those that start behind `after` and up to `until`, without bounds where they are None."""

    label: str
    after: int | None = None
    until: int | None = None

    def holds(self, start: int) -> bool:
        """Whether the object that starts there is listed."""
        return (self.after is None or start > self.after) and (self.until is None or start <= self.until)


@dataclass(frozen=True, slots=True)
class Look:
    """What to list."""

    scopes: Sequence[Scope]
    archive: bool


def recent(lake: Lake, heads: Iterable[Head], starts: Callable[[str], Sequence[int]], turn: int, now: float) -> Look:
    """The look of this turn: a listing of each living chain, one of folders, and at every second turn one of a chain's page or the archive.

    New chains are then listed whole. `starts` tells where the known objects of a chain start, in order.
    """
    known = {head.label: head for head in heads}
    scopes = [Scope(head.label, head.last_start) for head in living(known.values(), now)]
    topics = sorted({Chain.parse(label).topic for label in known})
    scopes += [Scope(label) for label in _chains(lake, topics, turn) if label not in known]
    archive = False
    if turn % 2 == 0:  # at the others whoever looks lists something of his own (`waiting.recent`)
        rounds, place = divmod(turn // 2, 1 + len(known))
        label = [None, *sorted(known)][place]
        archive = label is None
        if label is not None:
            after, until = page(starts(label), rounds)
            if until is None:  # what is new is behind it
                scopes = [scope for scope in scopes if scope.label != label]
            scopes.append(Scope(label, after, until))
    return Look(scopes, archive)


Place = TypeVar("Place", int, str)


def page(known: Sequence[Place], turn: int) -> tuple[Place | None, Place | None]:
    """Of what is known in order the page whose turn it is: behind the first place and up to the second; None at the ends."""
    ends = known[PAGE - 1 :: PAGE]
    number = turn % (len(ends) + 1)
    return (ends[number - 1] if number else None), (ends[number] if number < len(ends) else None)


def up_to(listed: Iterable[Entry], until: str | None) -> Iterator[Entry]:
    """The entries up to a key, all where it is None; asks for none behind it."""
    for entry in listed:
        if until is None or entry.key <= until:
            yield entry
        if until is not None and entry.key >= until:
            return


def _chains(lake: Lake, topics: Sequence[str], turn: int) -> list[str]:
    """Labels in the folder whose turn it is: of one known topic, or of all topics that are not known yet."""
    topic = ["", *topics][turn % (1 + len(topics))]
    found = [topic] if topic else sorted(set(lake.folders(RAW)) - set(topics))
    named = together(lake, lambda topic: [f"{topic}/{name}" for name in lake.folders(f"{RAW}/{topic}")], found)
    return [label for labels in named for label in labels if _is_chain(label)]


def living(heads: Iterable[Head], now: float) -> list[Head]:
    """The chains that may grow: of each topic partition the one with the newest record, of imports those that grew just now."""
    newest: dict[object, Head] = {}
    for head in heads:
        chain = Chain.parse(head.label)
        place: object = (chain.topic, chain.partition)
        if chain.topic == IMPORT_TOPIC:
            if now - head.seen_at > IMPORT_LIVES:
                continue
            place = head.label
        best = newest.get(place)
        if best is None or (head.last_received_at, head.seen_at) > (best.last_received_at, best.seen_at):
            newest[place] = head
    return list(newest.values())


def _is_chain(label: str) -> bool:
    try:
        return Chain.parse(label).label == label
    except ValueError:
        return False
