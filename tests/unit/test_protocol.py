"""The commit protocol's transitions, one by one: what each state makes of each event (R1-R3)."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engagement.ingest.protocol import (
    FIRST_RETRY_SECONDS,
    LAST_RETRY_SECONDS,
    ArchiveListed,
    AskLog,
    AskTopic,
    Claiming,
    Close,
    Closing,
    Confirming,
    Identified,
    ListArchive,
    Listed,
    ListRaw,
    Located,
    LogIs,
    Looking,
    Lost,
    OutOfOrder,
    OutOfRange,
    Protocol,
    Put,
    RawListed,
    Reading,
    Step,
    Taken,
    Took,
    TopicIs,
    Trouble,
    Written,
    holds,
)
from engagement.raw.chain import NO_COVERAGE, AheadOfLog, Coverage, Link

GRACE = 600.0
OLD, NEW = "5e" * 16, "0a" * 16
PROTOCOL = Protocol(GRACE)
EMPTY = Reading(OLD, 10, 10, 100.0, 0.5)
FILLED = Reading(OLD, 10, 15, 100.0, 0.5)
CLOSING = Closing(FILLED, "age")
LEAVING = Closing(FILLED, "revoked", None)
GAP = Closing(FILLED, "gap", gap=True)

STATES = {
    "looking": Looking(5.0, 0.5),
    "identified": Identified(OLD, 100.0, 0.5),
    "listed": Listed(OLD, 100.0, 0.5, Link(5, 10)),
    "located": Located(OLD, 100.0, 0.5, 10),
    "reading nothing": EMPTY,
    "reading": FILLED,
    "closing": CLOSING,
    "leaving": LEAVING,
    "closing to look": Closing(FILLED, "gap", Looking),
    "closing a gap": GAP,
    "claiming": Claiming(CLOSING),
    "claiming to leave": Claiming(LEAVING),
    "claiming to look": Claiming(Closing(FILLED, "gap", Looking)),
    "claiming a gap": Claiming(GAP),
    "confirming": Confirming(CLOSING, 150.0),
    "confirming to leave": Confirming(LEAVING, 150.0),
}
EVENTS = {
    "the same topic": TopicIs(OLD, 120.0),
    "another topic": TopicIs(NEW, 120.0),
    "raw listed": RawListed(Link(5, 10)),
    "no raw": RawListed(None),
    "start not archived": ArchiveListed(NO_COVERAGE),
    "start archived": ArchiveListed(Coverage((Link(10, 15),))),
    "log goes on": LogIs(0, 20),
    "log lost records": LogIs(15, 20),
    "took": Took(15),
    "close": Close("age"),
    "leave": Close("revoked", leave=True),
    "lost": Lost(),
    "out of range": OutOfRange(),
    "written": Written(150.0, 160.0),
    "written late": Written(150.0, 100.0 + GRACE / 2),
    "taken": Taken(),
    "trouble": Trouble("lake_unavailable", 200.0),
}
AGAIN = Looking(200.5, 1.0)
"""The look after the second trouble in a row."""
EXPECTED = {
    ("looking", "the same topic"): Step(Identified(OLD, 120.0, 0.5)),
    ("looking", "another topic"): Step(Identified(NEW, 120.0, 0.5)),
    ("looking", "leave"): Step(None),
    ("identified", "raw listed"): Step(Listed(OLD, 100.0, 0.5, Link(5, 10))),
    ("identified", "no raw"): Step(Listed(OLD, 100.0, 0.5, None)),
    ("identified", "leave"): Step(None),
    ("listed", "start not archived"): Step(Located(OLD, 100.0, 0.5, 10)),
    ("listed", "start archived"): Step(Located(OLD, 100.0, 0.5, 15)),
    ("listed", "leave"): Step(None),
    ("located", "log goes on"): Step(EMPTY),
    ("located", "log lost records"): Step(GAP),
    ("located", "leave"): Step(None),
    ("reading nothing", "the same topic"): Step(EMPTY),
    ("reading nothing", "another topic"): Step(Looking(), "topic_recreated"),
    ("reading nothing", "took"): Step(FILLED),
    ("reading nothing", "close"): Step(EMPTY),
    ("reading nothing", "leave"): Step(None),
    ("reading nothing", "out of range"): Step(Looking(delay=0.5), "out_of_range"),
    ("reading", "the same topic"): Step(FILLED),
    ("reading", "another topic"): Step(Looking(), "topic_recreated"),
    ("reading", "took"): Step(FILLED),
    ("reading", "close"): Step(CLOSING),
    ("reading", "leave"): Step(LEAVING),
    ("reading", "out of range"): Step(Closing(FILLED, "gap", Looking)),
    ("closing", "the same topic"): Step(Claiming(CLOSING)),
    ("leaving", "the same topic"): Step(Claiming(LEAVING)),
    ("closing to look", "the same topic"): Step(Claiming(Closing(FILLED, "gap", Looking))),
    ("closing a gap", "the same topic"): Step(Claiming(GAP)),
    ("closing", "another topic"): Step(Looking(), "topic_recreated"),
    ("leaving", "another topic"): Step(None, "topic_recreated"),
    ("closing to look", "another topic"): Step(Looking(), "topic_recreated"),
    ("closing a gap", "another topic"): Step(Looking(), "topic_recreated"),
    ("claiming", "written"): Step(Reading(OLD, 15, 15, 150.0)),
    ("claiming to leave", "written"): Step(None),
    ("claiming to look", "written"): Step(Looking()),
    ("claiming a gap", "written"): Step(Reading(OLD, 15, 15, 150.0)),
    ("claiming", "written late"): Step(Confirming(CLOSING, 150.0)),
    ("claiming to leave", "written late"): Step(Confirming(LEAVING, 150.0)),
    ("claiming to look", "written late"): Step(Confirming(Closing(FILLED, "gap", Looking), 150.0)),
    ("claiming a gap", "written late"): Step(Confirming(GAP, 150.0)),
    ("claiming", "taken"): Step(Looking(), "fenced"),
    ("claiming to leave", "taken"): Step(None, "fenced"),
    ("claiming to look", "taken"): Step(Looking(), "fenced"),
    ("claiming a gap", "taken"): Step(Looking(), "fenced"),
    ("confirming", "start not archived"): Step(Reading(OLD, 15, 15, 150.0)),
    ("confirming", "start archived"): Step(Looking(), "archived"),
    ("confirming to leave", "start not archived"): Step(None),
    ("confirming to leave", "start archived"): Step(None, "archived"),
}
LEAVES = ("leaving", "claiming to leave", "confirming to leave")
HOLDING = ("reading nothing", "reading", "closing", "leaving", "closing to look", "claiming", "claiming to leave", "claiming to look")
for _name in STATES:
    EXPECTED[_name, "lost"] = Step(None, "lost" if _name in HOLDING else None)
    EXPECTED[_name, "trouble"] = Step(None if _name in LEAVES else AGAIN, "lake_unavailable")
    if not _name.startswith("reading"):
        EXPECTED.setdefault((_name, "leave"), Step(None))


@pytest.mark.parametrize(("name", "event"), product(STATES, EVENTS))
def test_each_state_makes_of_each_event_what_is_written_here(name, event):
    expected = EXPECTED.get((name, event))
    if expected is None:
        with pytest.raises(OutOfOrder, match=type(STATES[name]).__name__):
            PROTOCOL.advance(STATES[name], EVENTS[event])
    else:
        assert PROTOCOL.advance(STATES[name], EVENTS[event]) == expected


def test_each_state_wants_one_thing():
    wanted = {name: PROTOCOL.wants(state) for name, state in STATES.items()}
    assert wanted == {
        "looking": AskTopic(),
        "identified": ListRaw(OLD),
        "listed": ListArchive(OLD),
        "located": AskLog(),
        "reading nothing": None,
        "reading": None,
        "closing": AskTopic(),
        "leaving": AskTopic(),
        "closing to look": AskTopic(),
        "closing a gap": AskTopic(),
        "claiming": Put(OLD, 10, 15, gap=False),
        "claiming to leave": Put(OLD, 10, 15, gap=False),
        "claiming to look": Put(OLD, 10, 15, gap=False),
        "claiming a gap": Put(OLD, 10, 15, gap=True),
        "confirming": ListArchive(OLD),
        "confirming to leave": ListArchive(OLD),
    }


def test_a_log_behind_the_lake_is_no_position():
    with pytest.raises(AheadOfLog, match="resumes at offset 10, but the log ends at 9"):
        PROTOCOL.advance(STATES["located"], LogIs(0, 9))


def test_records_read_twice_do_not_move_the_end_back():
    assert PROTOCOL.advance(FILLED, Took(12)) == Step(FILLED)
    assert PROTOCOL.advance(FILLED, Took(18)) == Step(replace(FILLED, end=18))


@pytest.mark.parametrize(("returned_at", "late"), [(100.0, False), (399.9, False), (400.0, True), (1e9, True)])
def test_a_claim_is_confirmed_once_half_the_grace_has_passed_since_its_name_was_known_free(returned_at, late):
    assert PROTOCOL.name_may_have_been_freed(100.0, returned_at) is late
    assert isinstance(PROTOCOL.advance(STATES["claiming"], Written(100.0, returned_at)).state, Confirming) is late


def test_the_next_name_is_known_free_since_the_own_claim_before_it_was_issued():
    """Not since it returned: in between the next name may have been claimed already."""
    step = PROTOCOL.advance(STATES["claiming"], Written(issued_at=150.0, returned_at=170.0))
    assert step.state.known_at == 150.0
    confirmed = PROTOCOL.advance(Confirming(CLOSING, 150.0), ArchiveListed(NO_COVERAGE))
    assert confirmed.state.known_at == 150.0


def look(state, now):
    """The state after a look without trouble at an empty chain."""
    for event in (TopicIs(OLD, now), RawListed(None), ArchiveListed(NO_COVERAGE), LogIs(0, 100)):
        state = PROTOCOL.advance(state, event).state
    return state


def test_trouble_in_a_row_is_met_with_growing_patience_up_to_a_bound():
    state, now, pauses = Looking(), 0.0, []
    for _ in range(8):
        state = PROTOCOL.advance(state, Trouble("lake_unavailable", now)).state
        pauses.append(state.not_before - now)
        now = state.not_before
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert pauses[0] == FIRST_RETRY_SECONDS
    assert pauses[-1] == LAST_RETRY_SECONDS


def test_patience_grows_also_when_only_the_last_step_fails_and_ends_with_a_success():
    state, pauses = Looking(), []
    for _ in range(3):
        state = PROTOCOL.advance(look(state, 0.0), Took(5)).state
        claiming = PROTOCOL.advance(PROTOCOL.advance(state, Close("age")).state, TopicIs(OLD, 0.0)).state
        state = PROTOCOL.advance(claiming, Trouble("lake_unavailable", 0.0)).state
        pauses.append(state.not_before)
    assert pauses == [0.5, 1.0, 2.0]
    written = PROTOCOL.advance(claiming, Written(0.0, 1.0)).state
    assert PROTOCOL.advance(written, Trouble("broker_away", 0.0)).state.not_before == 0.5


def test_being_fenced_is_no_trouble():
    """Somebody else's claim is there: the next look finds it, nothing need be waited for."""
    assert PROTOCOL.advance(STATES["claiming"], Taken()).state == Looking()


@pytest.mark.parametrize("name", LEAVES)
def test_who_is_leaving_leaves_whatever_becomes_of_the_last_write(name):
    for event in EVENTS.values():
        try:
            after = PROTOCOL.advance(STATES[name], event).state
        except OutOfOrder:
            continue
        assert after is None or after.closing.then is None


def test_an_archive_is_asked_only_after_raw_was_listed():
    """In the other order a look misses what is archived and deleted between the two (R5)."""
    with pytest.raises(OutOfOrder):
        PROTOCOL.advance(STATES["identified"], ArchiveListed(NO_COVERAGE))
    with pytest.raises(OutOfOrder):
        PROTOCOL.advance(STATES["looking"], RawListed(None))


ALWAYS = st.sampled_from(["lost", "trouble", "leave"])


class Shell:
    """As much of the consumer as the law speaks of: a buffer of offsets that follows `holds`, a clock, a log with holes."""

    def __init__(self, log: list[int], low: int) -> None:
        self.state, self.buffer, self.log, self.low, self.now = Looking(), [], log, low, 0.0
        self.claims: list[tuple[int, int, tuple[int, ...]]] = []
        self.dropped: list[str] = []

    def tell(self, event) -> None:
        step = PROTOCOL.advance(self.state, event)
        if step.dropped:
            self.dropped.append(step.dropped)
        self.state = step.state or Looking()
        held = holds(step.state)
        self.buffer = [] if held is None else [offset for offset in self.buffer if held.start <= offset < held.end]

    def end(self) -> int:
        return max((end for _, end, _ in self.claims), default=0)

    def do(self, data) -> None:
        self.now += data.draw(st.sampled_from([0.0, 1.0, GRACE]))
        if data.draw(st.integers(0, 5)) == 0:
            what = data.draw(ALWAYS)
            self.tell(Trouble("broker_away", self.now) if what == "trouble" else EVENTS[what])
            return
        match PROTOCOL.wants(self.state):
            case AskTopic():
                self.tell(TopicIs(data.draw(st.sampled_from([OLD, OLD, OLD, NEW])), self.now))
            case ListRaw():
                self.tell(RawListed(Link(0, self.end()) if self.claims else None))
            case ListArchive():
                self.tell(ArchiveListed(NO_COVERAGE))
            case AskLog():
                self.tell(LogIs(self.low, self.log[-1] + 1))
            case Put(_, start, end, gap):
                self.put(start, end, gap, data)
            case None:
                self.read(data)

    def put(self, start: int, end: int, gap: bool, data) -> None:
        outcome = data.draw(st.sampled_from(["written", "unknown, written", "unknown", "taken"]))
        if outcome.endswith("written"):
            self.claims.append((start, end, () if gap else tuple(self.buffer)))
        issued = self.now
        self.now += data.draw(st.sampled_from([0.0, GRACE]))
        event = {"written": Written(issued, self.now), "taken": Taken()}.get(outcome, Trouble("unknown_outcome", self.now))
        self.tell(event)

    def read(self, data) -> None:
        left = [offset for offset in self.log if offset >= max(self.state.end, self.low)]
        if left and data.draw(st.booleans()):
            taken = left[: data.draw(st.integers(1, 3))]
            self.buffer += taken
            self.tell(Took(taken[-1] + 1))
        else:
            self.tell(data.draw(st.sampled_from([Close("age"), Close("revoked", leave=True), OutOfRange()])))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True).map(sorted), st.integers(0, 20))
def test_whatever_happens_the_buffer_is_what_the_state_holds_and_claims_form_a_chain(data, log, low):
    shell = Shell(log, min(low, log[-1] + 1))
    for _ in range(data.draw(st.integers(1, 60))):
        shell.do(data)
        held = holds(shell.state)
        if held is None:
            assert shell.buffer == []
        else:
            assert held.start == shell.end()
            assert shell.buffer == [offset for offset in log if max(held.start, shell.low) <= offset < held.end]
        if isinstance(shell.state, Looking):
            assert shell.state.delay <= LAST_RETRY_SECONDS
            assert shell.state.not_before <= shell.now + LAST_RETRY_SECONDS
        if isinstance(shell.state, Reading):
            assert shell.state.known_at <= shell.now
    ends = 0
    for start, end, rows in shell.claims:
        assert start == ends < end, shell.claims
        assert rows in ((), tuple(offset for offset in log if max(start, shell.low) <= offset < end))
        ends = end
