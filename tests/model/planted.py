"""Simpler protocols, each wrong: the fourteen of the findings and those that this model showed to be wrong besides.

A planted bug is the product's machine with one transition changed, or one rule of the world changed; with the smallest
world in which the search meets it, and the invariant that breaks first.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from engagement.ingest import protocol as machine
from engagement.ingest.protocol import (
    ArchiveListed,
    Claiming,
    Closing,
    Event,
    Listed,
    Located,
    LogIs,
    Protocol,
    Reading,
    State,
    Step,
    Took,
    TopicIs,
    Trouble,
)
from engagement.raw.chain import Coverage, Link
from model import keepers, world
from model.lake import Obj, Part, Rules, Size, whole_ranges


@dataclass(frozen=True)
class Planted:
    """One bug, where it shows, and how."""

    name: str
    why: str
    size: Size
    rules: Rules
    breaks: str


class GapsBesideTheChain(Protocol):
    """Goes on behind a gap at once; the record of it is no claim."""

    def advance(self, state: State, event: Event) -> Step:
        step = super().advance(state, event)
        if isinstance(step.state, Closing) and step.state.gap:
            return Step(replace(step.state.reading, start=step.state.reading.end))
        return step


class FirstStartIsEarliest(Protocol):
    """An empty chain begins at the log's earliest offset instead of 0."""

    def advance(self, state: State, event: Event) -> Step:
        match state, event:
            case Listed(topic_id, at, delay, None), ArchiveListed(coverage) if coverage.end is None:
                return Step(Located(topic_id, at, delay, -1))
            case Located(topic_id, at, delay, -1), LogIs(low):
                return Step(Reading(topic_id, low, low, at, delay))
        return super().advance(state, event)


class GapsReachTooFar(Protocol):
    """Gives up one record more than the log has lost."""

    def advance(self, state: State, event: Event) -> Step:
        if isinstance(state, Located) and isinstance(event, LogIs) and state.offset < event.low < event.high:
            event = replace(event, low=event.low + 1)
        return super().advance(state, event)


class BelievesItWon(Protocol):
    """A PUT that succeeded is never confirmed, however late it was."""

    def name_may_have_been_freed(self, known_at: float, returned_at: float) -> bool:  # noqa: ARG002
        return False


class NeverAsksAgain(Protocol):
    """The topic's id is read before the seek only."""

    def advance(self, state: State, event: Event) -> Step:
        if isinstance(state, Closing) and isinstance(event, TopicIs):
            return Step(Claiming(state))
        return super().advance(state, event)


class NamedByFirstOffset(Protocol):
    """The claim is called after the first record read, not after the offset expected next."""

    def advance(self, state: State, event: Event) -> Step:
        if isinstance(state, Reading) and isinstance(event, Took) and state.start == state.end:
            return Step(replace(state, start=event.end - 1, end=event.end))
        return super().advance(state, event)


class ResumesWhereListed(Protocol):
    """Goes on from the end of the last object listed, even where that is archived already."""

    def advance(self, state: State, event: Event) -> Step:
        if isinstance(state, Listed) and isinstance(event, ArchiveListed):
            end = state.last.end if state.last else event.coverage.end or 0
            return Step(Located(state.topic_id, state.at, state.delay, end))
        return super().advance(state, event)


class UnknownMeansDone(Protocol):
    """An unknown outcome is taken for a success."""

    def advance(self, state: State, event: Event) -> Step:
        if isinstance(state, Claiming) and isinstance(event, Trouble):
            return super().advance(state, machine.Written(event.now, event.now))
        return super().advance(state, event)


def by_claim_and_hour(found: Obj, hour: int) -> tuple:
    return (hour, found.topic, found.start)


def greatest_start_then_end(links: Iterable[Obj]) -> Obj | None:
    return max(links, key=lambda link: (link.start, link.end), default=None)


def greatest_end(links: Iterable[Obj]) -> Obj | None:
    return max(links, key=lambda link: (link.end, link.start), default=None)


def last_path_of(hours: tuple[int, ...]):
    """The last by path where the path begins with the append hour."""
    return lambda links: max(links, key=lambda link: (hours[link.start], link.start), default=None)


def same_range_covered(found: Obj, covered: Coverage) -> bool:
    return Link(found.start, found.end) not in covered.ranges


def from_min_to_max(parts: Iterable[Part], topic: int) -> Coverage:
    found = [[link for link in part.objects if link.topic == topic] for part in parts]
    return Coverage.of(Link(min(held.start for held in part), max(held.end for held in part)) for part in found if part)


def of_any_topic(parts: Iterable[Part], _topic: int) -> Coverage:
    return whole_ranges([part._replace(objects=tuple(held._replace(topic=0) for held in part.objects)) for part in parts], 0)


LAKE = Size(offsets=(2,), retention=False, faults=False, one_look=True, archivers=1, expirers=1, parts=1)
"""Two writers that only stall, an archive writer, expiry."""
PRODUCT = Protocol(2.0)

FINDINGS = [
    Planted(
        "gap_record_is_no_claim",
        "A buffers from 0, retention deletes 0, B records the gap beside the chain and goes on at 1; both write 1",
        Size(offsets=(2,), faults=False), Rules(GapsBesideTheChain(2.0), progress=False), world.TWICE,
    ),
    Planted(
        "hour_in_the_key",
        "the first record vanishes between two reads, so the same start gets two names",
        Size(offsets=(2,), faults=False, retention=False, compacted=0b1, hours=(0, 1)),
        Rules(PRODUCT, key=by_claim_and_hour, last=greatest_start_then_end, progress=False), world.TWICE,
    ),
    Planted(
        "first_start_is_the_earliest_offset",
        "two writers begin at different earliest offsets: two chains",
        Size(offsets=(2,), faults=False), Rules(FirstStartIsEarliest(2.0), progress=False), world.SILENT,
    ),
    Planted(
        "freed_name_is_visible",
        "a zombie's PUT under a name that was archived and expired is seen, since only the same range is ignored",
        LAKE, Rules(PRODUCT, seen=same_range_covered), world.TWICE,
    ),
    Planted(
        "zombie_believes_it_won",
        "that zombie goes on from its own end: a second chain",
        replace(LAKE, offsets=(3,)), Rules(BelievesItWon(2.0), progress=False), world.TWICE,
    ),
    Planted(
        "resume_at_the_greatest_end",
        "the zombie's stray object reaches further than the chain and hides offsets",
        replace(LAKE, offsets=(3,)), Rules(PRODUCT, last=greatest_end), world.SILENT,
    ),
    Planted(
        "last_by_path_with_hours",
        "append hours are not monotone: one writer alone loops for ever",
        Size(writers=1, retention=False, hours=(1, 0, 0)), Rules(PRODUCT, last=last_path_of((1, 0, 0))), world.STUCK,
    ),
    Planted(
        "archive_is_overwritten",
        "an archive written again after half of its raw objects expired holds less",
        Size(offsets=(2,), writers=1, retention=False, faults=False, archivers=1, expirers=1, parts=2),
        Rules(PRODUCT, archive="overwrite"), world.LOST,
    ),
    Planted(
        "archive_name_is_no_claim",
        "two archive writers with different views both publish",
        Size(offsets=(1,), writers=1, retention=False, faults=False, archivers=2, parts=2),
        Rules(PRODUCT, archive="any free number"), world.TWICE,
    ),
    Planted(
        "expiry_by_day",
        "the day has an archive, but this object landed after the archive writer's listing",
        Size(offsets=(2,), writers=1, retention=False, faults=False, archivers=1, expirers=1, parts=1),
        Rules(PRODUCT, expiry="its day has a part"), world.LOST,
    ),
    Planted(
        "coverage_from_min_to_max",
        "a part of one hour hides the object of an interleaved hour",
        Size(writers=1, retention=False, faults=False, archivers=1, parts=1, hours=(0, 1, 0)),
        Rules(PRODUCT, coverage=from_min_to_max), world.LOST,
    ),
    Planted(
        "archives_listed_before_raw",
        "between the two listings an object is archived and expires",
        Size(offsets=(2,), writers=1, retention=False, faults=False, archivers=1, expirers=1, readers=1, parts=1),
        Rules(PRODUCT, raw_first=False), keepers.READER_LOST,
    ),
    Planted(
        "coverage_without_the_topic_id",
        "the archive of the deleted topic hides the new topic's objects",
        Size(offsets=(1, 1), retention=False, faults=False, archivers=1, parts=1),
        Rules(PRODUCT, coverage=of_any_topic, progress=False), world.SILENT,
    ),
    Planted(
        "fetch_straddles_a_re_creation",
        "records of the new topic are written into the chain of the old one",
        Size(offsets=(2, 2), writers=1, retention=False, faults=False), Rules(NeverAsksAgain(2.0), progress=False), world.MIXED,
    ),
    Planted(
        "start_is_the_first_record_s_own_offset",
        "a record vanishes between two reads, so the second writer's claim has another name",
        Size(offsets=(2,), retention=False, faults=False, compacted=0b1), Rules(NamedByFirstOffset(2.0)), world.TWICE,
    ),
]  # fmt: skip
"""The fourteen traces of the findings, in their order; the thirteenth has two halves."""

BESIDES = [
    Planted(
        "unknown_outcome_taken_for_done",
        "the PUT never arrived; the chain goes on behind a hole",
        Size(offsets=(2,), retention=False, writers=1, late_puts=1), Rules(UnknownMeansDone(2.0), progress=False), world.SILENT,
    ),
    Planted(
        "clock_stands_still_while_stalled",
        "a suspended machine's monotonic clock does not see the grace go by, so a late PUT is not confirmed",
        replace(LAKE, offsets=(3,)), Rules(PRODUCT, clock_stops=True, progress=False), world.TWICE,
    ),
    Planted(
        "reader_takes_whatever_has_the_name",
        "between listing and reading the name is archived, freed and taken by a zombie: the reader must read the listed version",
        replace(LAKE, readers=1), Rules(PRODUCT, pinned=False), keepers.READER_TWICE,
    ),
    Planted(
        "archive_writer_takes_whatever_has_the_name",
        "part numbers are claims of one day; a name whose object came back with another day's rows escapes them",
        replace(LAKE, compacted=0b1, hours=(0, 1), archivers=2, parts=2), Rules(PRODUCT, pinned=False), world.TWICE,
    ),
    Planted(
        "gap_reaches_too_far",
        "the gap record claims a record that the log could still give",
        Size(offsets=(2,), writers=1, faults=False), Rules(GapsReachTooFar(2.0)), world.WRONG_GAP,
    ),
    Planted(
        "newest_object_expires",
        "without the object of the greatest start a zombie's stray object is the last one",
        replace(LAKE, offsets=(3,)), Rules(PRODUCT, expiry="start covered, the newest too"), world.SILENT,
    ),
    Planted(
        "two_names_of_one_start",
        "as with the hour in the key, where readers of the chain take the last listed of both",
        Size(offsets=(2,), faults=False, retention=False, compacted=0b1, hours=(0, 1)),
        Rules(PRODUCT, key=by_claim_and_hour, progress=False), world.BACK,
    ),
    Planted(
        "archive_retention_forgets_the_coverage",
        "with an old part goes what it covered: the zombie's stray object is seen, and another believes that it won",
        LAKE, Rules(PRODUCT, retires="part", progress=False), world.TWICE,
    ),
    Planted(
        "idle_writer_never_asks_for_the_topic",
        "a topic made anew with just as many records as were read sends nothing: no record, no offset out of range",
        Size(offsets=(1, 1), writers=1, retention=False, faults=False), Rules(PRODUCT, asks_while_reading=False), world.STUCK,
    ),
    Planted(
        "torn_listing_believed",
        "an object comes and its forerunner is deleted during one directory scan, which shows neither",
        Size(offsets=(4,), retention=False, faults=False, expirers=1, already=(1, 2)),
        Rules(ResumesWhereListed(2.0), torn_listing=True, progress=False), world.TWICE,
    ),
]  # fmt: skip
"""Found wrong by this model, beyond the fourteen."""

ERASURE = Size(offsets=(2,), retention=False, faults=False, one_look=True, personal=0b11)
ARCHIVED = replace(ERASURE, writers=1, archivers=1)
FORGETTING = [
    Planted(
        "no_fence_in_the_archive",
        "an archive writer that read a raw object before it was rewritten publishes its copy after `forget` ended",
        ARCHIVED, Rules(PRODUCT, erasure="no fence"), world.ERASED,
    ),
    Planted(
        "archive_writer_reads_the_list_first",
        "the erasure list must be read after archives are listed: the fence then stops every older reading of it",
        ARCHIVED, Rules(PRODUCT, erasure="list read first"), world.ERASED,
    ),
    Planted(
        "no_flush_awaited",
        "a writer that built its rows before the request publishes them after `forget` ended",
        ERASURE, Rules(PRODUCT, erasure="no wait"), world.ERASED,
    ),
    Planted(
        "rewriting_counts_as_a_flush",
        "the rewritten object shows the new list's length, but no writer has flushed under it",
        ERASURE, Rules(PRODUCT, erasure="rewriting counts as a flush"), world.ERASED,
    ),
    Planted(
        "archive_part_counts_as_a_flush",
        "the part was begun under the new list, the raw object in it was not",
        ARCHIVED, Rules(PRODUCT, erasure="a part counts as a flush"), world.ERASED,
    ),
    Planted(
        "old_topic_s_chain_stays_open",
        "nobody will ever flush a deleted topic's chain again, so its next name stays free for a zombie",
        replace(ERASURE, offsets=(2, 1)), Rules(PRODUCT, erasure="old chains stay open"), world.ERASED,
    ),
    Planted(
        "flush_awaited_where_none_comes",
        "everything is flushed and nobody sends any more: `forget` would wait for ever",
        replace(ERASURE, writers=1), Rules(PRODUCT, erasure="a flush is always awaited"), world.STUCK,
    ),
]  # fmt: skip
"""Ways in which `forget` ends too early or not at all."""
