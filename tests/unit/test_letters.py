"""Dead letters as plain data: who is meant, what counts as replayed, what is sent, where to."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.ingest import letters
from engagement.ingest.letters import Address, Letter, NotSendable, Replay, Replays, Route, Selection
from engagement.raw.footers import RawFile
from engagement.raw.names import REPLAY_HEADER, import_chain, topic_chain

TOPIC_ID = "0f" * 16
SHA = "ab" * 32
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROUTE = Route({"x-install": "install", "x-session": "session", "x-view_notification": "view_notification"}, None, {"x-session": 3})
ORIGIN = Address(TOPIC_ID, 2, 7)


def letter(**changes) -> Letter:
    return replace(Letter("x-session", ORIGIN, NOON, "bad_json", b"{", b"u1", [("a", b"1")]), **changes)


def imported(payload: bytes | None) -> Letter:
    return letter(topic="import", address=Address(SHA, 0, 3), payload=payload, key=None, headers=[], source="old.jsonl")


def ours(origin: Address = ORIGIN) -> tuple[str, bytes]:
    return REPLAY_HEADER, str(origin).encode()


# ------------------------------------------------------------------------------------------------ addresses


@given(st.sampled_from([TOPIC_ID, SHA]), st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1))
def test_an_address_is_read_back(topic_id, partition, offset):
    address = Address(topic_id, partition, offset)
    assert Address.parse(str(address)) == address


NO_ADDRESSES = ["a/0/1", *(TOPIC_ID + end for end in ("", "/0", "/0/-1", "/0/01", "/0/1 ", "/0/1/2")), f"{TOPIC_ID.upper()}/0/1", ""]


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_is_none(text):
    assert Address.parse(text) is None


@pytest.mark.parametrize(
    ("headers", "origin"),
    [
        (None, None),
        ([], None),
        ([("a", str(ORIGIN).encode())], None),
        ([(REPLAY_HEADER, None)], None),
        ([(REPLAY_HEADER, b"\xff")], None),
        ([(REPLAY_HEADER, b"somebody else's")], None),
        ([ours()], ORIGIN),
        ([ours(Address(TOPIC_ID, 0, 0)), ours()], ORIGIN),
        ([ours(), (REPLAY_HEADER, b"somebody else's")], ORIGIN),
    ],
    ids=["not kept", "none", "another name", "null", "no text", "not ours", "ours", "the last counts", "the last readable counts"],
)
def test_a_replay_is_known_by_its_header(headers, origin):
    assert letters.replay_of(headers) == origin
    assert letter(headers=headers).origin == (origin or ORIGIN)


# ------------------------------------------------------------------------------------------------ what is replayed


def rejected(minutes: int, offset: int, reason: str | None = "bad_json") -> Replay:
    return Replay(ORIGIN, Address(TOPIC_ID, 0, offset), "x-session", NOON + timedelta(minutes=minutes), reason)


def waits(replays: Replays, row: Replay | None = None) -> bool:
    address, received_at = (ORIGIN, NOON) if row is None else (row.address, row.received_at)
    return not replays.answer(address, ORIGIN, received_at)


def test_without_a_replay_the_letter_waits():
    assert waits(Replays([]))
    assert waits(Replays([replace(rejected(1, 8), origin=Address(TOPIC_ID, 2, 8))])), "that one is of another letter"


def test_a_good_replay_ends_it():
    assert not waits(Replays([rejected(1, 8, None)]))


def test_a_replay_in_the_log_ends_it_until_it_is_read():
    first = rejected(1, 8)
    assert not waits(Replays([], [ORIGIN]))
    assert not waits(Replays([first], [ORIGIN]), first)


def test_a_rejected_replay_waits_in_place_of_the_first():
    first, second = rejected(1, 8), rejected(2, 9)
    replays = Replays([second, first])
    assert [waits(replays), waits(replays, first), waits(replays, second)] == [False, False, True]


def test_a_good_replay_ends_also_those_rejected_later():
    good, late = rejected(1, 8, None), rejected(2, 9)
    replays = Replays([good, late])
    assert not waits(replays)
    assert not waits(replays, late)


def test_a_replay_that_a_slow_clock_dates_before_its_letter_counts():
    early = rejected(-5, 8)
    replays = Replays([early])
    assert [waits(replays), waits(replays, early)] == [False, True]


@given(st.lists(st.tuples(st.integers(-3, 3), st.sampled_from(["bad_json", None])), max_size=6), st.booleans(), st.randoms())
def test_at_most_one_letter_of_an_origin_waits_in_any_order_of_reading(attempts, unread, chance):
    rows = [rejected(minutes, 8 + place, reason) for place, (minutes, reason) in enumerate(attempts)]
    letters_of_it = [None, *(row for row in rows if row.reason is not None)]
    chance.shuffle(rows)
    replays = Replays(rows, [ORIGIN] if unread else [])
    mended = unread or any(row.reason is None for row in rows)
    assert sum(waits(replays, row) for row in letters_of_it) == (0 if mended else 1)
    assert replays.know(ORIGIN) == bool(rows or unread)


# ------------------------------------------------------------------------------------------------ what is meant


def raw(**changes) -> RawFile:
    held = RawFile(
        topic_chain("x-session", TOPIC_ID, 2), 0, 10, 10, {"bad_json": 2, "missing:user_id": 1},
        first_received_at=NOON, last_received_at=NOON + timedelta(hours=1),
    )  # fmt: skip
    return replace(held, **changes)


@pytest.mark.parametrize(
    ("selection", "counted", "whole"),
    [
        (Selection(), 3, True),
        (Selection(topics={"x-session"}), 3, True),
        (Selection(topics={"x-install"}), 0, True),
        (Selection(reasons=["missing"]), 1, True),
        (Selection(reasons=["missing:user_id", "bad_json"]), 3, True),
        (Selection(reasons=["missing:event_id"]), 0, True),
        (Selection(since=NOON), 3, True),
        (Selection(since=NOON + timedelta(seconds=1)), 3, False),
        (Selection(since=NOON + timedelta(hours=1)), 3, False),
        (Selection(since=NOON + timedelta(hours=1, seconds=1)), 0, False),
        (Selection(until=NOON), 0, False),
        (Selection(until=NOON + timedelta(hours=1)), 3, False),
        (Selection(until=NOON + timedelta(hours=1, seconds=1)), 3, True),
        (Selection(addresses=[ORIGIN]), 3, False),
        (Selection(addresses=[Address(TOPIC_ID, 2, 10)]), 0, False),
        (Selection(addresses=[Address(TOPIC_ID, 1, 7)]), 0, False),
        (Selection(addresses=[Address("0e" * 16, 2, 7)]), 0, False),
    ],
)
def test_a_footer_tells_whether_an_object_is_in_question(selection, counted, whole):
    assert sum(selection.counts(raw()).values()) == counted
    assert selection.whole(raw()) == whole


def test_an_imported_chain_is_found_by_its_whole_hash():
    found = raw(chain=import_chain(SHA))
    assert letters.holds(found, Address(SHA, 0, 3))
    assert not letters.holds(found, Address(SHA[:-1] + "c", 0, 3))


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (Selection(), True),
        (Selection(reasons=["bad_json"]), True),
        (Selection(reasons=["bad"]), False),
        (Selection(since=NOON, until=NOON + timedelta(microseconds=1)), True),
        (Selection(since=NOON + timedelta(microseconds=1)), False),
        (Selection(until=NOON), False),
        (Selection(addresses=[ORIGIN]), True),
        (Selection(addresses=[replace(ORIGIN, offset=8)]), False),
    ],
)
def test_a_row_is_meant_by_reason_time_and_address(selection, taken):
    assert selection.takes("bad_json", NOON, ORIGIN) is taken


# ------------------------------------------------------------------------------------------------ what is sent


@pytest.mark.parametrize("payload", [None, b"", b"{", bytes(range(256))])
@pytest.mark.parametrize("key", [None, b"", b"u1"])
@pytest.mark.parametrize(
    "headers", [[], [("a", b"1"), ("a", None), ("", b""), ("a", b"1")], [(REPLAY_HEADER, b"not ours"), (REPLAY_HEADER, None)]]
)
def test_the_same_bytes_key_and_headers_go_back_with_one_more_header(payload, key, headers):
    sent = letters.message(letter(payload=payload, key=key, headers=headers), ROUTE)
    assert (sent.topic, sent.partition, sent.payload, sent.key) == ("x-session", 2, payload, key)
    assert sent.headers == [*headers, ours()]


def test_a_replay_that_was_rejected_keeps_its_one_header():
    again = letter(address=Address(TOPIC_ID, 0, 9), headers=[("a", b"1"), ours()])
    sent = letters.message(again, ROUTE)
    assert sent.headers == [("a", b"1"), ours()]
    assert sent.repeats(again)
    assert not letters.message(letter(), ROUTE).repeats(letter())


def test_what_was_rejected_again_is_no_repetition_once_a_fix_changes_payload_or_key():
    again = letter(address=Address(TOPIC_ID, 0, 9), headers=[ours()])
    for made, repeated in ((b"{", True), (b"{}", False), ((b"{", b"u1"), True), ((b"{", b"u2"), False), ((None, b"u1"), False)):
        assert letters.message(again, ROUTE, lambda *_, made=made: made).repeats(again) is repeated


def test_headers_that_were_not_kept_are_never_made_up():
    lost = letter(headers=None)
    with pytest.raises(NotSendable, match="header names are no text"):
        letters.message(lost, ROUTE)
    assert letters.message(lost, ROUTE, lambda *_: b"{}").headers == [ours()]


def test_another_key_or_a_partition_that_is_gone_leaves_the_choice_to_the_partitioner():
    assert letters.message(letter(), ROUTE, lambda *_: (b"{}", b"u2")).partition is None
    assert letters.message(letter(), ROUTE, lambda *_: (b"{}", b"u1")).partition == 2
    assert letters.message(letter(address=Address(TOPIC_ID, 3, 1)), ROUTE).partition is None


@pytest.mark.parametrize(
    ("payload", "topic"),
    [
        (b'{"event_type": "install"}', "x-install"),
        (b'{"event_type": "click_notification", "user_id": 7}', "x-view_notification"),
        (b'{"event_type": "tap"}', "x-session"),
        (b'{"event_type": "No Snake"}', "x-session"),
    ],
)
def test_an_imported_reject_goes_to_the_topic_of_its_family(payload, topic):
    assert letters.message(imported(payload), ROUTE).topic == topic
    assert letters.message(imported(payload), replace(ROUTE, to="x-install")).topic == "x-install", "unless a topic is named"


@pytest.mark.parametrize("payload", [None, b"", b"{", b"[]", b"7", b'{"event_type": 7}', b'{"event_type": ""}', b"\xff", b"[" * 100_000])
def test_an_imported_reject_without_a_family_needs_a_named_topic(payload):
    with pytest.raises(NotSendable, match="--topic"):
        letters.message(imported(payload), ROUTE)
    assert letters.message(imported(payload), replace(ROUTE, to="x-session")).topic == "x-session"


def test_the_mended_payload_tells_the_family():
    assert letters.message(imported(b"{"), ROUTE, lambda *_: b'{"event_type": "install"}').topic == "x-install"


def test_a_topic_that_is_not_read_any_more_needs_a_named_one():
    with pytest.raises(NotSendable, match=r"old-session .*--topic"):
        letters.message(letter(topic="old-session", payload=b'{"event_type": "tap"}'), ROUTE)
    sent = letters.message(letter(topic="old-session"), replace(ROUTE, to="x-session"))
    assert (sent.topic, sent.partition) == ("x-session", None)


def test_a_named_topic_moves_nothing_that_has_its_own():
    assert letters.message(letter(), replace(ROUTE, to="x-install")).topic == "x-session"


def test_a_fix_sees_all_and_cannot_change_what_is_kept():
    seen = []

    def fix(payload, key, headers, reason):
        seen.append((payload, key, list(headers), reason))
        headers.clear()
        return payload

    held = letter()
    assert letters.message(held, ROUTE, fix).headers == [("a", b"1"), ours()]
    assert seen == [(b"{", b"u1", [("a", b"1")], "bad_json")]


def test_a_fix_may_leave_a_letter_alone():
    assert letters.message(letter(), ROUTE, lambda *_: None) is None


@pytest.mark.parametrize("made", ["text", 7, (b"{",), (b"{", "u"), ("{", b"u"), (b"{", b"u", b"x"), bytearray(b"{"), {}])
def test_what_a_fix_may_not_return_is_told(made):
    with pytest.raises(NotSendable, match=f"returned {type(made).__name__}; expected bytes"):
        letters.message(letter(), ROUTE, lambda *_: made)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("user_id"), "the fix raised KeyError: 'user_id'"),
        (ValueError("two\nlines"), "the fix raised ValueError: two lines"),
        (RecursionError(), "the fix raised RecursionError"),
    ],
)
def test_what_a_fix_raises_is_one_line(error, told):
    def fix(*_):
        raise error

    with pytest.raises(NotSendable) as caught:
        letters.message(letter(), ROUTE, fix)
    assert str(caught.value) == told
