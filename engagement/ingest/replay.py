"""Sending dead letters back, once: what the lake and the rest of the log already hold is not sent again.

Nothing is remembered between runs. A letter is replayed when the lake says so (`letters`), or when the part of
the log that ingest has not read yet, from the lake's end to the log's, holds its header. That part is read
without regard to transactions: one that somebody left open hides nothing. The lake is listed first, so what ingest
moves over meanwhile is seen twice, never not at all. Replays of one lake wait for each other.

A run that is killed is simply run again. What this does not cover: a request that the broker took from a killed
run and appends only after the next run has read to the partition's end. That event is then in the log twice and
counted once (R6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from engagement import contract
from engagement.errors import PermanentError
from engagement.ingest import letters
from engagement.ingest.dead_letters import DeadLetters, keeps_bytes
from engagement.ingest.letters import Address, Fix, Letter, NotSendable, Replays, Route, Selection
from engagement.ingest.outbox import Nowhere, Outbox
from engagement.ingest.tails import read_tails
from engagement.lake import Lake
from engagement.progress import Progress, silent
from engagement.raw.index import RawIndex
from engagement.settings import Settings

LOCK = "dead-letters"
Trouble = Callable[[Address, str], None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a replay was asked for; `to` is the topic of letters that have none of their own."""

    selection: Selection
    to: str | None = None
    fix: Fix | None = None
    again: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class Report:
    """What became of the letters that were meant; each is counted once, and `rejected_again` counts among those sent."""

    selected: int = 0
    sent: dict[str, int] = field(default_factory=dict)
    """By topic, acknowledged by the broker; in a dry run what would be sent."""
    already_replayed: int = 0
    unchanged: int = 0
    """Replayed and rejected again before, and no fix changed them."""
    skipped_by_fix: int = 0
    erased: int = 0
    failed: int = 0
    rejected_again: dict[str, int] = field(default_factory=dict)
    """What the contract says against the bytes sent, by reason; times are not judged here."""


def replay(settings: Settings, lake: Lake, request: Request, *, trouble: Trouble = lambda *_: None, progress: Progress = silent) -> Report:
    """Send what is meant and not replayed yet; `trouble` is told each letter that could not be sent, the others go on.

    Raises PermanentError for an address that is no dead letter, TransientError where lake or broker cannot be read
    or the broker goes away: what it did not acknowledge is for the next run.
    """
    _require_bytes(lake)
    with nullcontext() if request.dry_run else lake.lock(LOCK), reading(settings, lake, progress) as found:
        if request.selection.addresses:
            found.at(request.selection.addresses)
        total = found.count(request.selection)
        if not total:
            return Report()
        unread, partitions = read_tails(settings, found.ends(), {} if request.again else found.doubts(), progress)
        known = Replays(found.replays(found.since(request.selection)), unread)
        outbox = Nowhere() if request.dry_run else Outbox(settings)
        work = _Work(request, known, Route(settings.topics, request.to, partitions), outbox, trouble)
        for letter in found.letters(request.selection):
            progress("dead letters", work.report.selected, total)
            work.treat(letter)
        outbox.close()
        return work.report


def _require_bytes(lake: Lake) -> None:
    if not keeps_bytes(lake):
        raise PermanentError(
            "this lake keeps no bytes of rejected records (ENGAGEMENT_KEEP_BYTES=none), so nothing can be sent again from it: "
            "send them from where they came, or import them"
        )


@contextmanager
def reading(settings: Settings, lake: Lake, progress: Progress = silent) -> Iterator[DeadLetters]:
    """The lake's dead letters as they are now."""
    index = RawIndex(lake, settings.state_dir)
    try:
        index.sync()
        yield DeadLetters(lake, index.sources(), index.unreadable(), progress)
    finally:
        index.close()


@dataclass(slots=True)
class _Work:
    """One run: decides on letter after letter and counts what became of them."""

    request: Request
    known: Replays
    route: Route
    outbox: Outbox | Nowhere
    trouble: Trouble
    report: Report = field(default_factory=Report)
    _twins: set[Address] = field(default_factory=set)
    """Origins sent in this run that may have more than one letter: with `again` only one of them is sent."""

    def treat(self, letter: Letter) -> None:
        self.report.selected += 1
        if letter.reason == letters.ERASED:
            self.report.erased += 1
            return
        replayed = not self.request.again and self.known.answer(letter.address, letter.origin, letter.received_at)
        if replayed or letter.origin in self._twins:
            self.report.already_replayed += 1
            return
        try:
            message = letters.message(letter, self.route, self.request.fix)
        except NotSendable as error:
            self._failed(letter.address, str(error))
            return
        if message is None:
            self.report.skipped_by_fix += 1
            return
        if not self.request.again and message.repeats(letter):
            self.report.unchanged += 1
            return
        if self.known.know(letter.origin):
            self._twins.add(letter.origin)
        self.outbox.send(message, partial(self._done, letter.address, message.topic, contract.reason(message.payload)))

    def _done(self, address: Address, topic: str, against: str | None, error: str | None) -> None:
        if error is not None:
            self._failed(address, error)
            return
        self.report.sent[topic] = self.report.sent.get(topic, 0) + 1
        if against is not None:
            self.report.rejected_again[against] = self.report.rejected_again.get(against, 0) + 1

    def _failed(self, address: Address, why: str) -> None:
        self.report.failed += 1
        self.trouble(address, why)
