"""Dead letters as plain data: which ones are meant, when one is replayed, what is sent for it (R9, R11).

Pure: no lake, no broker, no clock. `dead_letters` reads them, `replay` sends them.

A replay carries the header `engagement-replay-of` with the *origin*: the address of the record that was first
rejected. A replay that is rejected again is a dead letter of its own and keeps that origin, however often it
happens. So all letters of one origin are one thing to mend, and at most one of them is waiting:

- a letter is replayed once a good row, or a record that ingest has not read yet, carries its origin;
- the first letter is replayed once any record carries its address: what was rejected again waits in its place;
- of letters that were rejected again, all but the newest are replayed.

What was rejected again is sent once more only if a fix changes its payload or key: the same bytes would come
back. An erased record keeps nothing to send, so it never waits. A replay that arrives erased has lost its header
and counts as not sent.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from engagement.raw.names import IMPORT_TOPIC, REPLAY_HEADER
from engagement.raw.rows import FAMILIES, Headers
from engagement.raw.sources import Source

ERASED = "erased"
REASONS = (
    "bad_json", "bad_encoding", "empty", "missing", "bad_type", "bad_value", "too_late", "in_future", "before_history_start", ERASED,
)  # fmt: skip
"""The closed list, without fields."""
_ADDRESS = re.compile(r"(?P<id>[0-9a-f]{32}|[0-9a-f]{64})/(?P<partition>0|[1-9][0-9]{0,9})/(?P<offset>0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """One record of the log for good: `topic_id/partition/offset`, the topic id in full, for imports the SHA-256."""

    topic_id: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic_id}/{self.partition}/{self.offset}"

    @staticmethod
    def parse(text: str) -> Address | None:
        """The address a text names, None where it names none."""
        found = _ADDRESS.fullmatch(text)
        return found and Address(sys.intern(found["id"]), int(found["partition"]), int(found["offset"]))


def replay_of(headers: Headers | None) -> Address | None:
    """Which record these headers say they replay; None for what is no replay. The last readable one counts: we append ours."""
    for name, value in reversed(headers or ()):
        if name == REPLAY_HEADER and value is not None and (found := _parsed(value)):
            return found
    return None


def _parsed(value: bytes) -> Address | None:
    try:
        return Address.parse(value.decode("ascii"))
    except UnicodeDecodeError:
        return None


@dataclass(frozen=True, slots=True)
class Letter:
    """One rejected record, as it was in the log."""

    topic: str
    address: Address
    received_at: datetime
    reason: str
    payload: bytes | None
    key: bytes | None
    headers: Headers | None
    """None where they could not be kept: erased, or with names that are no text."""
    source: str | None = None
    """Name of the imported file."""

    @property
    def origin(self) -> Address:
        """The record that was rejected first: its own address unless it is a replay itself."""
        return replay_of(self.headers) or self.address

    @property
    def size(self) -> int:
        """Bytes of payload, key and headers."""
        return len(self.payload or b"") + len(self.key or b"") + sum(len(name) + len(value or b"") for name, value in self.headers or ())


@dataclass(frozen=True, slots=True)
class Replay:
    """A row of the lake that carries the header; `reason` is None for a good one."""

    origin: Address
    address: Address
    topic: str
    received_at: datetime
    reason: str | None


class Replays:
    """What is known of replays: the rows in the lake, and the origins of records that ingest has not read yet."""

    def __init__(self, rows: Iterable[Replay], unread: Iterable[Address] = ()) -> None:
        self._mended: set[Address] = set(unread)
        self._newest: dict[Address, tuple[datetime, Address]] = {}
        for row in rows:
            if row.reason is None:
                self._mended.add(row.origin)
            else:
                place = (row.received_at, row.address)
                self._newest[row.origin] = max(place, self._newest.get(row.origin, place))

    def answer(self, address: Address, origin: Address, received_at: datetime) -> bool:
        """Whether the letter is replayed."""
        if origin in self._mended:
            return True
        newest = self._newest.get(origin)
        return newest is not None and (address == origin or (received_at, address) < newest)

    def know(self, origin: Address) -> bool:
        """Whether anything carries this origin."""
        return origin in self._mended or origin in self._newest


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant. `reasons` without a field take every field; times are those of received_at, `until` not included."""

    topics: Collection[str] | None = None
    reasons: Collection[str] = ()
    since: datetime | None = None
    until: datetime | None = None
    addresses: Collection[Address] = ()

    def of_reason(self, reason: str) -> bool:
        """Whether the reason is meant."""
        return not self.reasons or reason in self.reasons or reason.partition(":")[0] in self.reasons

    def of_topic(self, topic: str) -> bool:
        """Whether the topic is meant."""
        return self.topics is None or topic in self.topics

    def takes(self, reason: str, received_at: datetime, address: Address) -> bool:
        """Whether a reject of a topic that is meant is meant."""
        return (
            self.of_reason(reason)
            and (self.since is None or received_at >= self.since)
            and (self.until is None or received_at < self.until)
            and (not self.addresses or address in self.addresses)
        )

    def counts(self, raw: Source) -> dict[str, int]:
        """Rejects of the object by reason, those in question: an upper bound until its rows are looked at."""
        first, last = raw.first_received_at, raw.last_received_at
        if not self.of_topic(raw.chain.topic) or first is None or last is None:
            return {}
        if (self.since is not None and last < self.since) or (self.until is not None and first >= self.until):
            return {}
        if self.addresses and not any(holds(raw, address) for address in self.addresses):
            return {}
        return {reason: count for reason, count in raw.rejects.items() if count and self.of_reason(reason)}

    def whole(self, raw: Source) -> bool:
        """Whether the footer alone tells: no row of the object can be left out by time or address."""
        first, last = raw.first_received_at, raw.last_received_at
        return (
            not self.addresses
            and (self.since is None or (first is not None and first >= self.since))
            and (self.until is None or (last is not None and last < self.until))
        )


def holds(raw: Source, address: Address) -> bool:
    """Whether the address lies in the object's claim; 8 digits of a topic id are all that a name has."""
    chain = raw.chain
    width = None if chain.topic == IMPORT_TOPIC else 8
    return chain.topic_id == address.topic_id[:width] and chain.partition == address.partition and raw.start <= address.offset < raw.end


# What is sent.


class NotSendable(Exception):
    """This letter cannot be sent; the text says why. The others can."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is sent for a letter. `partition` None leaves the choice to the producer's partitioner."""

    topic: str
    partition: int | None
    key: bytes | None
    payload: bytes | None
    headers: Headers

    def repeats(self, letter: Letter) -> bool:
        """Whether these bytes were replayed, and rejected, before: the letter is a replay and nothing of it was changed."""
        return letter.origin != letter.address and (self.payload, self.key) == (letter.payload, letter.key)


Fix = Callable[[bytes | None, bytes | None, Headers, str], object]
"""(payload, key, headers, reason) -> new payload, or (payload, key), or None to leave the letter as it is."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where letters go: `topics` are those that ingest reads, by name, with their family; `to` is the one a person named."""

    topics: Mapping[str, str]
    to: str | None = None
    partitions: Mapping[str, int] = field(default_factory=dict)
    """How many each topic has now."""

    def topic(self, letter: Letter, payload: bytes | None) -> str:
        """The topic it came from; for imports and topics that are not read any more the named one, or that of its family.

        Raises NotSendable where it cannot be told.
        """
        if letter.topic in self.topics:
            return letter.topic
        if self.to is not None:
            return self.to
        family = _family(payload) or _family(letter.payload) if letter.topic == IMPORT_TOPIC else None
        for topic, carried in self.topics.items():
            if carried == family:
                return topic
        if letter.topic == IMPORT_TOPIC:
            raise NotSendable("an imported record that tells no event_type: name its topic by --topic")
        raise NotSendable(f"topic {letter.topic} is none of {', '.join(self.topics)}: name where it shall go by --topic")


def message(letter: Letter, route: Route, fix: Fix | None = None) -> Message | None:
    """What to send, None where the fix leaves the letter alone; raises NotSendable.

    Back in its own topic and under its own key it goes to the partition it came from, so that the order of a
    user's records is kept; else the partitioner decides.
    """
    payload, key = letter.payload, letter.key
    if fix is None and letter.headers is None:
        raise NotSendable("its header names are no text and were not kept: only a fix can send it, without headers")
    if fix is not None:
        fixed = _fixed(letter, fix)
        if fixed is None:
            return None
        payload, key = fixed
    topic = route.topic(letter, payload)
    stays = topic == letter.topic and key == letter.key and letter.address.partition < route.partitions.get(topic, 0)
    return Message(topic, letter.address.partition if stays else None, key, payload, headers(letter))


def headers(letter: Letter) -> Headers:
    """Its own headers in their order, then ours; a replay's own one is not repeated."""
    own = list(letter.headers or ())
    if letter.origin != letter.address:
        place = max(place for place, (name, value) in enumerate(own) if name == REPLAY_HEADER and value and _parsed(value))
        del own[place]
    return [*own, (REPLAY_HEADER, str(letter.origin).encode())]


def _fixed(letter: Letter, fix: Fix) -> tuple[bytes | None, bytes | None] | None:
    try:
        made = fix(letter.payload, letter.key, list(letter.headers or ()), letter.reason)
    except Exception as error:  # whatever a person's function raises concerns this letter alone
        text = " ".join(str(error).split())
        raise NotSendable(f"the fix raised {type(error).__name__}{f': {text}' if text else ''}") from error
    if made is None:
        return None
    if isinstance(made, bytes):
        return made, letter.key
    match made:
        case (bytes() | None as payload, bytes() | None as key):
            return payload, key
    raise NotSendable(f"the fix returned {type(made).__name__}; expected bytes, (bytes or None, bytes or None), or None to skip")


def _family(payload: bytes | None) -> str | None:
    """The topic family of an event type, where the payload tells one."""
    import msgspec

    try:
        found = msgspec.json.decode(payload or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    kind = found.get("event_type") if isinstance(found, dict) else None
    return FAMILIES.get(kind, "session") if isinstance(kind, str) and kind else None
