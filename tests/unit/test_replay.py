"""What one replay does with each letter: sends it, or counts why not; the broker is a list here."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from dataclasses import asdict, replace

import pytest
from reject_lake import World, good, replay_of

from engagement.errors import PermanentError
from engagement.ingest import letters
from engagement.ingest import replay as replaying
from engagement.ingest.kafka import BrokerUnavailable
from engagement.ingest.letters import Address, Message, Selection
from engagement.ingest.outbox import Outbox
from engagement.ingest.replay import Report, Request


class Log:
    """Stands for the broker: what was sent, and what ingest has not read."""

    def __init__(self):
        self.sent = []
        self.unread = set()
        self.refuses = {}
        self.asked = []

    def send(self, message, done):
        error = self.refuses.get(message.payload)
        if error is None:
            self.sent.append(message)
            self.unread.add(letters.replay_of(message.headers))
        done(error)

    def close(self):
        pass


@pytest.fixture
def log(monkeypatch):
    made = Log()

    def read_tails(settings, ends, doubts, _progress):
        made.asked.append((ends, doubts))
        return set(made.unread), dict.fromkeys(settings.topics, 3)

    monkeypatch.setattr(replaying, "read_tails", read_tails)
    monkeypatch.setattr(replaying, "Outbox", lambda _settings: made)
    return made


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture
def replay(world, log):  # noqa: ARG001 - it stands in the broker's place
    def run(trouble=None, **asked):
        told = [] if trouble is None else trouble
        request = Request(asked.pop("selection", Selection()), **asked)
        return replaying.replay(world.settings, world.lake, request, trouble=lambda address, why: told.append((address, why)))

    return run


def test_nothing_to_replay_asks_no_broker(world, log, replay):
    world.put([good()])
    assert replay() == Report()
    assert not log.asked


def test_each_letter_is_sent_once_whether_ingest_has_read_the_replay_or_not(world, log, replay):
    origins = world.put([b"{", b"[", good()])
    assert replay() == Report(2, {"session": 2}, rejected_again={"bad_json": 2})
    assert [letters.replay_of(message.headers) for message in log.sent] == origins[:2]
    assert replay() == Report(2, already_replayed=2)
    world.put([(None, good(), replay_of(origins[0])), (None, b"[", replay_of(origins[1]))], 5)
    log.unread.clear()
    assert replay() == Report(3, already_replayed=2, unchanged=1)
    assert len(log.sent) == 2


def test_a_fix_gets_a_second_chance_at_what_was_rejected_again(world, log, replay):
    (origin,) = world.put([b"{"])
    world.put([(None, b"{", replay_of(origin))], 5)
    assert replay(fix=lambda payload, *_: payload) == Report(2, already_replayed=1, unchanged=1)
    assert replay(fix=lambda *_: good()) == Report(2, {"session": 1}, already_replayed=1)
    assert [(message.headers, letters.replay_of(message.headers)) for message in log.sent] == [(replay_of(origin), origin)]
    assert replay(fix=lambda *_: good()) == Report(2, already_replayed=2)


def test_again_sends_what_was_replayed_but_one_of_an_origin_alone(world, log, replay):
    origin, other = world.put([b"{", b"["])
    world.put([(None, b"{", replay_of(origin)), (None, b"{", replay_of(origin))], 5)
    log.unread.add(other)
    assert replay(again=True) == Report(4, {"session": 2}, already_replayed=2, rejected_again={"bad_json": 2})
    assert [message.payload for message in log.sent] == [b"{", b"["]


def test_again_sends_also_what_was_rejected_again_as_it_is(world, log, replay):
    (origin,) = world.put([b"{"])
    (rejected,) = world.put([(None, b"{", replay_of(origin))], 5)
    meant = Selection(addresses=[rejected])
    assert replay(selection=meant) == Report(1, unchanged=1)
    assert replay(selection=meant, again=True).sent == {"session": 1}
    assert [message.headers for message in log.sent] == [replay_of(origin)]


def test_a_dry_run_counts_the_same_and_sends_nothing(world, log, replay):
    world.put([b"{", None])
    expected = Report(2, {"session": 1}, skipped_by_fix=1)
    mend = {"fix": lambda payload, *_: payload and good()}
    assert replay(dry_run=True, **mend) == expected
    assert not log.sent
    assert replay(**mend) == expected


def test_what_cannot_be_sent_is_told_and_the_others_go_on(world, log, replay):
    addresses = world.put([b"{", b"[", b'"', None])
    log.refuses[b'"'] = "Broker: Message size too large"
    told = []

    def fix(payload, *_):
        return payload or 1 / 0

    assert replay(told, fix=fix) == Report(4, {"session": 2}, failed=2, rejected_again={"bad_json": 2})
    assert told == [(addresses[2], "Broker: Message size too large"), (addresses[3], "the fix raised ZeroDivisionError: division by zero")]
    assert replay(told, fix=fix) == Report(4, already_replayed=2, failed=2), "what failed is tried again"


def test_the_letters_meant_are_sent_and_no_others(world, log, replay):
    first, second, _ = world.put([b"{", b"[", None])
    assert replay(selection=Selection(addresses=[second])).sent == {"session": 1}
    bad_json = Selection(reasons=["bad_json"])
    assert replay(selection=bad_json) == Report(2, {"session": 1}, already_replayed=1, rejected_again={"bad_json": 1})
    assert [letters.replay_of(message.headers) for message in log.sent] == [second, first]
    with pytest.raises(PermanentError, match="no dead letter at"):
        replay(selection=Selection(addresses=[first, Address("00" * 16, 0, 0)]))
    assert len(log.sent) == 2


def test_erased_records_are_counted_and_never_sent(world, log, replay, monkeypatch):
    world.put([b"{", b"["])
    real = replaying.DeadLetters.letters
    erase = lambda found: replace(found, reason="erased", payload=None, key=None, headers=None)  # noqa: E731
    monkeypatch.setattr(replaying.DeadLetters, "letters", lambda self, meant: map(erase, real(self, meant)))
    assert replay() == replay(again=True) == Report(2, erased=2)
    assert not log.sent


def test_the_log_is_read_from_where_the_lake_ends_and_doubts_are_passed_on_unless_asked_again(world, log, replay):
    world.put([b"{", good()])
    world.put([good()], 5, "session", 1)
    world.put([b"{"], 6, "import")
    world.lake.path("raw/session/5e5e5e5e-00001/00000000000000000000.parquet").write_bytes(b"damaged")
    replay(to="session")
    replay(to="session", again=True)
    (ends, doubts), (_, none) = log.asked
    assert ends == {("session", "5e5e5e5e", 0): 2, ("session", "5e5e5e5e", 1): 0}
    assert list(doubts) == [("session", "5e5e5e5e", 1)]
    assert none == {}


def test_replays_of_one_lake_wait_for_each_other_and_look_after_they_waited(world, log, replay, monkeypatch):
    order = []

    @contextmanager
    def lock(name):
        order.append(name)
        world.put([b"{"])
        yield

    monkeypatch.setattr(world.lake, "lock", lock)
    assert replay().selected == 1, "a letter that came while it waited"
    replay(dry_run=True)
    assert order == [replaying.LOCK]
    assert len(log.sent) == 1


def test_a_broker_that_goes_away_ends_the_run(world, log, replay):
    world.put([b"{", b"["])

    def away(*_):
        raise BrokerUnavailable("broker x: away; 0 dead letters were acknowledged, run it again for the rest")

    log.send = away
    with pytest.raises(BrokerUnavailable, match="run it again"):
        replay()


def test_a_report_is_plain_data():
    assert set(asdict(Report())) == {
        "selected", "sent", "already_replayed", "unchanged", "skipped_by_fix", "erased", "failed", "rejected_again",
    }  # fmt: skip


def test_a_broker_that_does_not_answer_ends_the_sending_in_one_line(world):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = replace(world.settings, kafka_bootstrap_servers=nowhere, kafka={"message.timeout.ms": "100"})
    outbox = Outbox(settings)
    done = []
    outbox.send(Message("session", 0, None, b"{", []), done.append)
    with pytest.raises(BrokerUnavailable, match=f"broker {nowhere}: .*; 0 records were acknowledged, run it again for the rest"):
        outbox.close()
    assert done == [], "it is not known to have failed: the next run looks"


def test_a_lake_that_keeps_no_bytes_of_rejects_says_so_and_sends_nothing(tmp_path, log):
    world = World(tmp_path, keep_bytes="none")
    world.put([b"{"])
    with pytest.raises(PermanentError, match="ENGAGEMENT_KEEP_BYTES=none"):
        replaying.replay(world.settings, world.lake, Request(Selection()))
    with world.read() as found:
        assert [(tally.count, tally.waiting) for tally in found.tally(Selection())] == [(1, 0)]
    assert not log.sent
