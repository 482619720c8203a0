"""The commit protocol of one topic partition as a state machine (R1-R3; argued in docs/exactly-once.md).

Pure: no clock, no store, no broker. `wants(state)` names the one thing to do next, the shell (`consumer.py`)
does it and hands the answer to `advance(state, event)`. Records are not here: the shell buffers those of
[start, end) and throws them away whenever the state no longer `holds` them. The model in `tests/model` runs
this very code in every order that stalls, crashes, zombies, retention, archives and expiry allow.

    Looking -> Identified -> Listed -> Located -> Reading -> Closing -> Claiming -> Reading ...
                                          |                    ^           |
                                          +------- gap --------+      Confirming (only when the name may have been freed)

Whatever goes wrong after Located leads back to Looking: the log still has what was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from engagement.errors import PermanentError
from engagement.raw import chain
from engagement.raw.chain import Coverage, Link

FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 15.0

# ---------------------------------------------------------------- states


@dataclass(frozen=True, slots=True)
class Looking:
    """No position: the lake is asked where to go on, not before `not_before` (clock seconds).

    `delay` is what the next trouble in a row will cost; 0 after a success.
    """

    not_before: float = 0.0
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Identified:
    """The topic's id is known; the look began at `at`."""

    topic_id: str
    at: float
    delay: float


@dataclass(frozen=True, slots=True)
class Listed:
    """Raw was listed; archives come after it, never before (R5)."""

    topic_id: str
    at: float
    delay: float
    last: Link | None


@dataclass(frozen=True, slots=True)
class Located:
    """The lake says to go on at `offset`; the log has not been asked yet whether it still has it."""

    topic_id: str
    at: float
    delay: float
    offset: int


@dataclass(frozen=True, slots=True)
class Reading:
    """Records of [start, end) are buffered; `start` is the name of the next claim.

    `known_at` is when that name was last known to be free: at the look, or when our own claim before it was issued.
    """

    topic_id: str
    start: int
    end: int
    known_at: float
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Closing:
    """[start, end) is to be written, nothing is fetched any more; the topic must still be the same one."""

    reading: Reading
    why: str
    then: type[Reading | Looking] | None = Reading
    """What follows a success: read on, look again, or None: let go of the partition."""
    gap: bool = False
    """The log had lost [start, end) before anybody read it: the claim has no rows."""


@dataclass(frozen=True, slots=True)
class Claiming:
    """The PUT under the name `start` is due, or under way."""

    closing: Closing


@dataclass(frozen=True, slots=True)
class Confirming:
    """Our PUT succeeded so late that the name could have been archived, expired and free again: ask the archive."""

    closing: Closing
    issued_at: float


State = Looking | Identified | Listed | Located | Reading | Closing | Claiming | Confirming

# ---------------------------------------------------------------- what the shell does


@dataclass(frozen=True, slots=True)
class AskTopic:
    """Ask the broker for the topic's id; answered by TopicIs or Trouble."""


@dataclass(frozen=True, slots=True)
class ListRaw:
    """List the raw objects of this topic id and partition; answered by RawListed or Trouble."""

    topic_id: str


@dataclass(frozen=True, slots=True)
class ListArchive:
    """Read what archive parts cover of it; answered by ArchiveListed or Trouble."""

    topic_id: str


@dataclass(frozen=True, slots=True)
class AskLog:
    """Ask the broker for the log's range; answered by LogIs or Trouble."""


@dataclass(frozen=True, slots=True)
class Put:
    """Create the object [start, end), only if its name is free; answered by Written, Taken or Trouble."""

    topic_id: str
    start: int
    end: int
    gap: bool


Action = AskTopic | ListRaw | ListArchive | AskLog | Put

# ---------------------------------------------------------------- what happened


@dataclass(frozen=True, slots=True)
class TopicIs:
    """The broker's id of the topic, 32 hex digits; `now` is read before asking.

    While Reading it comes unasked now and then: a topic made anew with just as many records sends nothing.
    """

    topic_id: str
    now: float


@dataclass(frozen=True, slots=True)
class RawListed:
    """The object with the greatest start, None for an empty chain."""

    last: Link | None


@dataclass(frozen=True, slots=True)
class ArchiveListed:
    """What archive parts cover of the chain."""

    coverage: Coverage


@dataclass(frozen=True, slots=True)
class LogIs:
    """The log holds [low, high)."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Took:
    """Records up to `end` were read; offsets that the log skips belong to the claim."""

    end: int


@dataclass(frozen=True, slots=True)
class Close:
    """Time to write: `age`, `size`, `memory`, `damaged` (the log cannot be read any further).

    Or the partition is taken from us: `revoked`, `shutdown`.
    """

    why: str
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """The group gave the partition to somebody else already: nothing of it may be written (R3)."""


@dataclass(frozen=True, slots=True)
class OutOfRange:
    """The log no longer has the offset that would be read next."""


@dataclass(frozen=True, slots=True)
class Written:
    """The PUT created the object; clock readings before it was issued and after it returned."""

    issued_at: float
    returned_at: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The name exists already: another writer made this claim (the fence of R2)."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """An action failed, or nobody knows whether it did.

    `why` is broker_away, log_unreadable, lake_unavailable, lake_unreadable, unknown_outcome or ahead_of_log; `detail` is for people.
    """

    why: str
    now: float
    detail: str = field(default="", compare=False)


Event = TopicIs | RawListed | ArchiveListed | LogIs | Took | Close | Lost | OutOfRange | Written | Taken | Trouble

FENCES = ("fenced", "archived", "topic_recreated")
"""Reasons to drop a buffer because somebody or something else was there first; each is counted."""


@dataclass(frozen=True, slots=True)
class Step:
    """The next state (None: let go of), and why a buffer was dropped or nothing could be done, if so."""

    state: State | None
    dropped: str | None = None


class OutOfOrder(PermanentError):
    """The shell reported what the state cannot have asked for: a defect, never a fault of the world."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """The transitions. `grace_seconds` is how long an archived raw object stays before it may be deleted (R5)."""

    grace_seconds: float

    def wants(self, state: State) -> Action | None:  # noqa: PLR0911 - one line a state
        """The one thing to do now; None while Reading, which waits for records."""
        match state:
            case Looking() | Closing():
                return AskTopic()
            case Identified():
                return ListRaw(state.topic_id)
            case Listed():
                return ListArchive(state.topic_id)
            case Located():
                return AskLog()
            case Claiming(Closing(reading, gap=gap)):
                return Put(reading.topic_id, reading.start, reading.end, gap)
            case Confirming(Closing(reading)):
                return ListArchive(reading.topic_id)
            case Reading():
                return None

    def advance(self, state: State, event: Event) -> Step:  # noqa: C901, PLR0911, PLR0912 - the table of transitions
        """The state after an event; raises OutOfOrder for an event that the state cannot meet, AheadOfLog."""
        match state, event:
            case _, Trouble(why, now):
                return _dropped(state, why, now)
            case _, Lost():
                return Step(None, "lost" if holds(state) else None)
            case Looking(), TopicIs(topic_id, now):
                return Step(Identified(topic_id, now, state.delay))
            case Identified(topic_id, at, delay), RawListed(last):
                return Step(Listed(topic_id, at, delay, last))
            case Listed(topic_id, at, delay, last), ArchiveListed(coverage):
                return Step(Located(topic_id, at, delay, chain.resume(last, coverage)))
            case Located(), LogIs():
                return Step(_located(state, event))
            case Reading(), TopicIs(topic_id):
                return Step(state) if topic_id == state.topic_id else _dropped(state, "topic_recreated")
            case Reading(), Took(end):
                return Step(replace(state, end=max(state.end, end)))
            case Reading(), Close(why, leave):
                if state.end == state.start:
                    return Step(None if leave else state)
                return Step(Closing(state, why, None if leave else Reading))
            case Reading(), OutOfRange():
                if state.end == state.start:
                    return Step(Looking(delay=state.delay), "out_of_range")
                return Step(Closing(state, "gap", Looking))
            case Closing(reading), TopicIs(topic_id):
                if topic_id != reading.topic_id:
                    return _dropped(state, "topic_recreated")
                return Step(Claiming(state))
            case Claiming(), Taken():
                return _dropped(state, "fenced")
            case Claiming(closing), Written(issued_at, returned_at):
                if self.name_may_have_been_freed(closing.reading.known_at, returned_at):
                    return Step(Confirming(closing, issued_at))
                return Step(_after(closing, issued_at))
            case Confirming(closing, issued_at), ArchiveListed(coverage):
                if coverage.holds(closing.reading.start):
                    return _dropped(state, "archived")
                return Step(_after(closing, issued_at))
            case _, Close(leave=True):
                return Step(None)
        msg = f"{type(event).__name__} while {type(state).__name__}"
        raise OutOfOrder(msg)

    def name_may_have_been_freed(self, known_at: float, returned_at: float) -> bool:
        """Whether an object of this name could have come, been archived and deleted since the name was known free.

        Deletion comes a whole grace after the archive part; half of it is left for clocks that disagree (R3).
        """
        return returned_at - known_at >= self.grace_seconds / 2


def _located(state: Located, log: LogIs) -> State:
    lost = chain.gap(state.offset, log.low, log.high)
    reading = Reading(state.topic_id, state.offset, state.offset, state.at, state.delay)
    if lost is None:
        return reading
    return Closing(replace(reading, end=lost.end), "gap", gap=True)


def holds(state: State | None) -> Link | None:
    """The offsets whose records the shell must have; None where it must have none."""
    match state:
        case Reading(start=start, end=end):
            return Link(start, end)
        case Closing(reading, gap=False) | Claiming(Closing(reading, gap=False)):
            return Link(reading.start, reading.end)
    return None


def _after(closing: Closing, issued_at: float) -> State | None:
    reading = closing.reading
    if closing.then is Reading:
        return Reading(reading.topic_id, reading.end, reading.end, issued_at)
    return None if closing.then is None else Looking()


def _dropped(state: State, why: str, trouble_at: float | None = None) -> Step:
    """Look again, after a trouble with growing delay; who is leaving leaves: the next owner reads it again."""
    if isinstance(state, Claiming | Confirming):
        state = state.closing
    if isinstance(state, Closing) and state.then is None:
        return Step(None, why)
    delay = state.reading.delay if isinstance(state, Closing) else state.delay
    if trouble_at is None:
        return Step(Looking(), why)
    pause = delay or FIRST_RETRY_SECONDS
    return Step(Looking(trouble_at + pause, min(pause * 2, LAST_RETRY_SECONDS)), why)
