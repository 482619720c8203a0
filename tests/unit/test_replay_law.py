"""The law of replays: whatever is run, killed or read in between, in any order, no bytes go back twice and each letter is mended once."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engagement.ingest import letters
from engagement.ingest.letters import Address, Letter, Replay, Replays, Route, Selection
from engagement.ingest.replay import Request, _Work

TOPIC_ID = "5e" * 16
PARTITIONS = 2
BEGIN = datetime(2026, 11, 24, tzinfo=UTC)
ROUTE = Route({"session": "session"}, None, {"session": PARTITIONS})
FIXES = {"plain": None, "mend": lambda *_: b"good", "another": lambda payload, *_: payload + b"?", "leave": lambda *_: None}


class Killed(Exception):
    pass


@dataclass
class World:
    """A log, what ingest has read of it, and the letters in that."""

    skew: tuple[int, int]
    """Seconds by which the clock of each partition's broker is wrong."""
    log: dict[int, list[Letter]] = field(default_factory=lambda: {number: [] for number in range(PARTITIONS)})
    read: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(PARTITIONS), 0))
    now: int = 0

    def append(self, partition, payload, headers=()):
        self.now += 1
        at = BEGIN + timedelta(seconds=self.now + self.skew[partition])
        address = Address(TOPIC_ID, partition, len(self.log[partition]))
        reason = "good" if payload == b"good" else "bad_json"
        self.log[partition].append(Letter("session", address, at, reason, payload, b"u", list(headers)))

    def ingest(self, partition, count):
        self.read[partition] = min(len(self.log[partition]), self.read[partition] + count)

    def known(self):
        lake = [letter for number, held in self.log.items() for letter in held[: self.read[number]]]
        unread = [letter for number, held in self.log.items() for letter in held[self.read[number] :]]
        rows = [
            Replay(letter.origin, letter.address, letter.topic, letter.received_at, None if letter.reason == "good" else letter.reason)
            for letter in lake
            if letter.origin != letter.address
        ]
        origins = filter(None, (letters.replay_of(letter.headers) for letter in unread))
        return [letter for letter in lake if letter.reason != "good"], Replays(rows, origins)

    def replay(self, kind, alive):
        """One run, killed after so many records were sent."""
        rejects, known = self.known()
        world, left = self, [alive]

        class Outbox:
            def send(self, message, done):
                if not left[0]:
                    raise Killed
                left[0] -= 1
                world.append(message.partition, message.payload, message.headers)
                done(None)

        work = _Work(Request(Selection(), fix=FIXES[kind]), known, ROUTE, Outbox(), lambda *_: None)
        with suppress(Killed):
            for letter in rejects:
                work.treat(letter)
        return work.report

    def check(self):
        replays = [letter for held in self.log.values() for letter in held if letter.origin != letter.address]
        sent = Counter((letter.origin, letter.payload) for letter in replays)
        assert not sent or max(sent.values()) == 1, "the same bytes of one letter twice"


ARRIVE = st.tuples(st.just("arrive"), st.integers(0, PARTITIONS - 1), st.sampled_from([b"{", b"[", b"good"]))
READ = st.tuples(st.just("ingest"), st.integers(0, PARTITIONS - 1), st.integers(1, 4))
RUN = st.tuples(st.just("replay"), st.sampled_from(list(FIXES)), st.integers(0, 5))


@given(st.lists(st.one_of(ARRIVE, READ, RUN), max_size=25), st.tuples(st.integers(-9, 9), st.integers(-9, 9)))
def test_no_bytes_go_back_twice_and_each_letter_is_mended_once(steps, skew):
    world = World(skew)
    acts = {"arrive": world.append, "ingest": world.ingest, "replay": world.replay}
    for act, *arguments in steps:
        acts[act](*arguments)
        world.check()
    for _ in range(2):  # what was sent and is not read yet, then what of it was rejected
        for partition in range(PARTITIONS):
            world.ingest(partition, 1000)
        world.replay("mend", 1000)
        world.check()
    for partition in range(PARTITIONS):
        world.ingest(partition, 1000)
    rejects, known = world.known()
    assert all(known.answer(letter.address, letter.origin, letter.received_at) for letter in rejects), "one waits still"
    mended = Counter(letter.origin for held in world.log.values() for letter in held if letter.reason == "good" and letter.headers)
    assert mended == {letter.origin: 1 for letter in rejects}
    report = world.replay("plain", 1000)
    assert (report.sent, report.unchanged, report.already_replayed) == ({}, 0, len(rejects))
