"""What the protocol asks for, done against the broker and the lake; each answer is an event for it.

No decisions: whatever goes wrong becomes `Taken` or `Trouble`, and the protocol says what follows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from engagement.errors import PermanentError
from engagement.ingest import kafka, protocol
from engagement.lake import AlreadyExists, Lake, LakeUnavailable, OutcomeUnknown
from engagement.raw import files, footers
from engagement.raw.coverage import Parts
from engagement.raw.erasures import ErasureList
from engagement.raw.names import topic_chain
from engagement.raw.rows import Batch

Clock = Callable[[], float]
Answer = TypeVar("Answer")


@dataclass(slots=True)
class Performer:
    """Does one action at a time for one partition at a time."""

    topics: kafka.Topics
    lake: Lake
    clock: Clock
    keys: Sequence[bytes] = field(default=(), repr=False)
    """Of the erasure list (`settings.hash_keys`)."""
    _parts: Parts = field(init=False)
    _erasures: ErasureList = field(init=False)
    _ids: dict[str, str] = field(default_factory=dict)
    """Topic ids asked since the last fetch."""
    _away: str | None = None
    """Why the broker did not answer, in this turn."""

    def __post_init__(self) -> None:
        self._parts = Parts(self.lake)
        self._erasures = ErasureList(self.lake, self.keys)

    def begin_turn(self) -> None:
        """Ask the broker again: a topic id asked before a fetch says nothing about what was fetched (R2)."""
        self._ids.clear()
        self._away = None

    def ask_topic(self, topic: str) -> protocol.Event:
        """The topic's id; one question serves all partitions until the next fetch."""
        now = self.clock()
        if topic not in self._ids:
            found = self._ask(lambda: self.topics.ids([topic]))
            if isinstance(found, protocol.Trouble):
                return found
            self._ids |= found
        return protocol.TopicIs(self._ids[topic], now)

    def ask_log(self, topic: str, number: int) -> protocol.Event:
        """The log's range."""
        found = self._ask(lambda: self.topics.log_range(topic, number))
        return found if isinstance(found, protocol.Trouble) else protocol.LogIs(*found)

    def _ask(self, question: Callable[[], Answer]) -> Answer | protocol.Trouble:
        """The broker's answer. One that is away is waited for once a turn, not once a partition: the group's own clock runs on."""
        if self._away is None:
            try:
                return question()
            except kafka.UnknownTopic as error:
                return protocol.Trouble("broker_away", self.clock(), str(error))
            except kafka.BrokerUnavailable as error:
                self._away = str(error)
        return protocol.Trouble("broker_away", self.clock(), self._away)

    def list_raw(self, topic: str, number: int, topic_id: str) -> protocol.Event:
        """The raw object with the greatest start."""
        try:
            return protocol.RawListed(files.last_link(self.lake, topic_chain(topic, topic_id, number)))
        except (LakeUnavailable, PermanentError) as error:
            return self._trouble(error)

    def list_archive(self, topic: str, number: int, topic_id: str) -> protocol.Event:
        """What archive parts cover."""
        try:
            return protocol.ArchiveListed(self._parts.of(topic_chain(topic, topic_id, number)))
        except (LakeUnavailable, PermanentError) as error:
            return self._trouble(error)

    def put(self, topic: str, number: int, claim: protocol.Put, batch: Batch | None) -> tuple[protocol.Event, footers.RawFile | None]:
        """Publish the claim, without rows where it is a gap; with the object, if it is there."""
        chain = topic_chain(topic, claim.topic_id, number)
        issued = self.clock()
        try:
            erasures = self._erasures.read()  # after the look that gave the name, or a user erased since would come back
            if batch is None:
                raw = files.write_gap(self.lake, chain, claim.start, claim.end, erasures)
            else:
                raw = files.write(self.lake, chain, claim.start, claim.end, batch, erasures=erasures)
        except AlreadyExists:
            return protocol.Taken(), None
        except (LakeUnavailable, PermanentError) as error:
            return self._trouble(error), None
        return protocol.Written(issued, self.clock()), raw

    def _trouble(self, error: Exception) -> protocol.Trouble:
        match error:
            case OutcomeUnknown():
                why = "unknown_outcome"
            case LakeUnavailable():
                why = "lake_unavailable"
            case _:
                why = "lake_unreadable"
        return protocol.Trouble(why, self.clock(), str(error))
