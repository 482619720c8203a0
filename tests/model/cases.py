"""The bounded worlds in which the product's rules are searched: small ones for every test run, large ones for the bench.

`met` names moves that the search must have come across, so that a world cannot pass by never getting to the hard places.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from engagement.ingest.protocol import Protocol
from model.lake import Rules, Size


@dataclass(frozen=True)
class Case:
    """One world, and what happens in it."""

    name: str
    size: Size
    rules: Rules = field(default_factory=Rules)
    met: tuple[str, ...] = ()


STALLS = {"retention": False, "faults": False}
FENCED, LATE, EXPIRED = "exists already", "a late PUT", "deletes 0"

SMALL = [
    Case("faults", Size(), met=(FENCED, "the answer is lost", "is revoked", "{gap}", "out of range", "loses the partition")),
    Case("holes", Size(offsets=(4,), holes=0b1001, compacted=0b0010, faults=False), met=(FENCED, "compaction", "meets the log's end")),
    Case("late PUTs", Size(offsets=(2,), late_puts=1), met=(LATE, FENCED)),
    Case("topic made anew", Size(offsets=(2, 1)), met=("created again", "while it reads", "behind the lake", "0'=[0,1)")),
    Case("three writers", Size(offsets=(2,), writers=3, faults=False, one_look=True), met=(FENCED, "{gap}")),
    Case("archive and expiry", Size(archivers=1, expirers=1, parts=1, one_look=True, **STALLS), met=(EXPIRED, "0=[0,3)")),
    Case(
        "two archive writers",
        Size(offsets=(2,), writers=1, archivers=2, hours=(0, 1), faults=False),
        met=("part 0 of day 1: exists already",),
    ),
    Case("two expiries", Size(offsets=(3,), writers=1, archivers=1, expirers=2, parts=2, **STALLS), met=("deletes 1",)),
    Case(
        "reader",
        Size(offsets=(2,), archivers=1, expirers=1, readers=1, parts=1, one_look=True, **STALLS),
        met=("gone or replaced", EXPIRED),
    ),
    Case(
        "the archive's own retention",
        Size(offsets=(2,), archivers=1, expirers=1, parts=1, one_look=True, **STALLS),
        Rules(retires="rows"),
        met=("the rows of part 0",),
    ),
    Case("torn listing", Size(offsets=(4,), expirers=1, already=(1, 2), **STALLS), Rules(torn_listing=True), met=("deletes 1", FENCED)),
    Case(
        "fine clock",
        Size(offsets=(2,), archivers=1, expirers=1, parts=1, grace=4, one_look=True, **STALLS),
        Rules(Protocol(4.0)),
        met=(EXPIRED,),
    ),
    Case("forget", Size(offsets=(2,), archivers=1, one_look=True, personal=0b11, **STALLS), met=("and ends", "rewrites part", "is killed")),
    Case("forget and a topic made anew", Size(offsets=(1, 1), one_look=True, personal=0b1, faults=False), met=("seals", "and ends")),
    Case(
        "forget while records come",
        Size(offsets=(2,), appended=1, one_look=True, personal=0b11, faults=False),
        met=("is produced", "and ends"),
    ),
]
"""Each complete in a second or two."""

LARGE = [
    Case("three writers, every fault", Size(writers=3)),
    Case("late PUTs", Size(late_puts=1)),
    Case("topic made anew", Size(offsets=(3, 2), late_puts=1)),
    Case("archive and expiry, every fault", Size(archivers=1, expirers=1, parts=2)),
    Case("zombies, archive and expiry", Size(offsets=(3,), writers=3, archivers=1, expirers=1, parts=1, one_look=True, **STALLS)),
    Case("two archive writers, two days", Size(archivers=2, expirers=1, parts=2, hours=(0, 1, 0), one_look=True, **STALLS)),
    Case("reader", Size(archivers=1, expirers=1, readers=1, one_look=True, **STALLS)),
    Case("forget, archive and expiry", Size(offsets=(2,), archivers=1, expirers=1, one_look=True, personal=0b11, **STALLS)),
    Case("forget, two archive writers", Size(offsets=(2,), archivers=2, hours=(0, 1), one_look=True, personal=0b11, **STALLS)),
]
"""Millions of states; `bench/model.py` walks through them."""
