"""No record whatsoever can stop a partition or disappear: every one becomes one row, good or rejected (R1).

Three witnesses: named records with the outcome written beside each (`record_cases.py`), an independent slow reading of the
contract (`record_oracle.py`), and the law that a batch equals its records one by one, whatever the neighbours.
"""

from __future__ import annotations

import io
import json
import os
import random
from datetime import UTC, date, datetime, timedelta, timezone
from functools import cache

import pyarrow.parquet as pq
import pytest
import record_oracle
from any_record import MANDATORY, NESTED, REASONS, TYPED, assert_row, canonical, changed
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from record_cases import cases

from engagement.contract import TimeWindow
from engagement.lake import Entry
from engagement.raw import files, footers, rows
from engagement.raw.names import REPLAY_HEADER, topic_chain

MOMENT = datetime(2026, 3, 11, 10, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHERE = rows.Coordinates("session", "5e" * 16, 3)
START = date(2020, 1, 1)
WINDOW = TimeWindow.of(START, 300, 30)
MICROSECOND = timedelta(microseconds=1)
LARGE = 200_000
"""Records above it stand in few tests: each costs as much as a thousand others."""

# `LAW_EXAMPLES=50000 .venv/bin/python -m pytest tests/unit/test_any_record.py` draws that many new ones a test.
EXAMPLES = os.environ.get("LAW_EXAMPLES")
fuzzed = settings(
    deadline=None, max_examples=int(EXAMPLES or 40), suppress_health_check=list(HealthCheck), derandomize=EXAMPLES is None, database=None
)


@cache
def corpus():
    return cases(MOMENT)


@cache
def small():
    return [case for case in corpus() if case.value is None or len(case.value) <= LARGE]


def built(records, slot_minutes=60):
    return rows.build(WHERE, records, WINDOW, slot_minutes, "session")


def rows_of(batch):
    return batch.table.to_pylist()


def record_of(case, offset=0):
    return rows.Record(offset, MOMENT, case.key, case.value, case.headers)


# Named records


def assert_outcomes(picked):
    """In one batch every case has its own outcome, whatever its neighbours."""
    found = rows_of(built([record_of(case, 2 * place) for place, case in enumerate(picked)]))
    for place, (row, case) in enumerate(zip(found, picked, strict=True)):
        try:
            assert (row["kafka_offset"], row["received_at"]) == (2 * place, MOMENT)
            assert_row(row, case, MOMENT)
        except AssertionError as error:
            error.add_note(case.name)
            raise


@pytest.mark.parametrize("part", range(4))
def test_each_named_record_alone_has_its_outcome(part):
    for case in corpus()[part::4]:
        assert_outcomes([case])


def test_all_named_records_together_have_their_outcomes():
    picked = list(corpus())
    random.Random(0).shuffle(picked)
    assert_outcomes(picked)


def test_rare_named_records_among_thousands_of_good_ones_have_their_outcomes():
    good = [case for case in corpus() if isinstance(case.expected, dict) and len(case.value) < LARGE]
    chance = random.Random(1)
    picked = [chance.choice(good[:9] if chance.random() < 0.97 else small()) for _ in range(2 * rows.CHUNK + 17)]
    assert_outcomes(picked)


@fuzzed
@given(st.lists(st.deferred(lambda: st.sampled_from(small())), max_size=8))
def test_any_picking_of_named_records_has_their_outcomes(picked):
    assert_outcomes(picked)


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_limits_of_time_belong_to_what_is_taken_to_the_microsecond(beyond):
    start, lateness = datetime(START.year, START.month, START.day, tzinfo=UTC), timedelta(days=30)
    for at, received, reason in (
        (MOMENT + timedelta(minutes=5) + beyond * MICROSECOND, MOMENT, "in_future"),
        (MOMENT - lateness - beyond * MICROSECOND, MOMENT, "too_late"),
        (start - beyond * MICROSECOND, start, "before_history_start"),
        (start - beyond * MICROSECOND, start + timedelta(days=1), "before_history_start"),
        (start - timedelta(days=99), MOMENT, "before_history_start"),
    ):
        for zone in (UTC, timezone(timedelta(hours=-23))):  # the second is read one by one, not in columns
            (row,) = rows_of(built([rows.Record(0, received, b"u1", changed(MOMENT, timestamp=at.astimezone(zone).isoformat()))]))
            assert row["reject_reason"] == (reason if beyond or at < start - MICROSECOND else None)


def test_headers_that_the_client_cannot_hand_out_reject_the_record_and_no_neighbour():
    value = small()[0].value
    pieces = rows.Rows(WHERE, WINDOW, 60, "session")
    pieces.add(rows.Records([4, 5, 6], [(MOMENT - EPOCH) // MICROSECOND] * 3, [b"u1", b"k", None], [value] * 3, [(("a", b"1"),), None, ()]))
    batch = pieces.batch()
    assert [row["reject_reason"] for row in rows_of(batch)] == [None, "bad_encoding", None]
    assert [(row["payload"], row["key"]) for row in rows_of(batch)] == [(None, None), (value, b"k"), (None, None)]
    assert batch.rejects == {"bad_encoding": 1}
    assert not any(rows_of(batch)[1][name] is not None for name in TYPED)


def test_every_reason_of_the_closed_list_and_every_column_occur_among_the_named_records():
    assert {case.expected for case in corpus() if isinstance(case.expected, str)} == REASONS
    told = {name for case in corpus() if isinstance(case.expected, dict) for name, value in case.expected.items() if value is not None}
    assert told == set(TYPED)
    assert len({case.name for case in corpus()}) == len(corpus())


def test_the_slow_reading_of_the_contract_agrees_with_what_is_written_beside_each_named_record():
    for case in corpus():
        if case.value is None or len(case.value) <= LARGE:
            found = judged(case.value, MOMENT)
            assert isinstance(found, set) == isinstance(case.expected, str), case.name
            assert not isinstance(found, set) or case.expected in found, case.name


# Any bytes, any JSON, any mutation of an event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = (*MANDATORY, "session_id", "app_version", *NESTED, "properties", "_extra")
TOKENS = st.sampled_from([
    b"\x00", b"\xff", b"\xc3", b"\\ud800", b"\\u0000", b"\\", b'"', b"\n", b"[", b"]", b"{", b"}", b",", b":", b"null", b"NaN", b"1e400",
    b"-0", b'"user_id":null,', b'"properties":{"_extra":1},', b'"x":{"y":[1]},', b"\xef\xbb\xbf", b"  ", b"00", b"+", b"Z", b"z",
    b".123456789",
])  # fmt: skip
OFFSETS = st.sampled_from(["Z", "z", "+00:00", "-00:00", "+01:30", "-14:00", "+14:59", "+23:59", "-23:59", "+24:00", "+01:60", ""])


@st.composite
def times(draw):
    near = st.integers(-40 * 86_400, 400).map(lambda seconds: MOMENT + timedelta(seconds=seconds))
    moment = draw(near | st.datetimes(min_value=datetime(1, 1, 1)))  # noqa: DTZ001 - the offset is part of the text
    day = f"{moment.year:04d}-{moment.month:02d}-{moment.day:02d}"
    fraction = draw(st.sampled_from(["", "."]) | st.text("0123456789", min_size=1, max_size=9).map(lambda digits: f".{digits}"))
    return f"{day}{draw(st.sampled_from('TTTTt '))}{moment:%H:%M:%S}{fraction}{draw(OFFSETS)}"


def nested(holder):
    texts = st.dictionaries(st.sampled_from(NESTED[holder]), st.none() | st.text(max_size=6))
    return st.none() | texts | st.dictionaries(st.text(max_size=3), JSON, max_size=2)


@st.composite
def documents(draw):
    """An event, good in most fields."""
    return {
        "event_id": draw(st.uuids().map(str) | st.uuids().map(lambda found: str(found).upper())),
        "user_id": draw(st.text(min_size=1, max_size=8) | st.sampled_from(["u1", "u" * 128, "u" * 129, "\U0001f600" * 128])),
        "event_type": draw(st.sampled_from(["tap", "install", "screen_view", "view_notification", "a1_b"])),
        "timestamp": draw(times()),
    } | draw(
        st.fixed_dictionaries({}, optional={
            "session_id": st.none() | st.text(max_size=6), "app_version": st.none() | st.text(max_size=6),
            **{holder: nested(holder) for holder in NESTED},
            "properties": st.none() | st.dictionaries(st.text(max_size=4), JSON, max_size=3),
        })
    )  # fmt: skip


@st.composite
def events(draw):
    """The bytes of such an event, sometimes with a field replaced by any JSON or one that nobody announced."""
    document = draw(documents())
    change = draw(st.integers(0, 5))
    if change == 0:
        document[draw(st.sampled_from(NAMES))] = draw(JSON)
    elif change == 1:
        document[draw(st.text(max_size=4))] = draw(JSON)
    elif change == 2:
        del document[draw(st.sampled_from(sorted(document)))]
    form = draw(st.sampled_from([(None, None), (None, (",", ":")), (1, None)]))
    return json.dumps(document, ensure_ascii=draw(st.booleans()), indent=form[0], separators=form[1]).encode("utf-8", "surrogatepass")


@st.composite
def mutated(draw):
    """An event damaged in one to three places."""
    data = bytearray(draw(events()))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "insert", "cut", "shorten", "double", "splice"]))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "insert":
            data[place:place] = draw(TOKENS)
        elif kind == "cut":
            del data[place:]
        elif kind == "shorten":
            del data[place : place + draw(st.integers(1, 20))]
        elif kind == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 40))]
        else:
            other = draw(events())
            data[place:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


VALUES = (
    st.none() | st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()) | events() | events() | mutated() | mutated()
)
HEADERS = st.lists(st.tuples(st.text(max_size=3) | st.just(REPLAY_HEADER), st.none() | st.binary(max_size=3)), max_size=3).map(tuple)
RECEIVED = st.integers(0, 400_000).map(lambda millis: MOMENT + timedelta(milliseconds=millis)) | st.integers(0, 253_402_300_799_999).map(
    lambda millis: EPOCH + timedelta(milliseconds=millis)
)
RECORDS = st.lists(st.tuples(RECEIVED, st.none() | st.binary(max_size=6) | st.just(b"u1"), VALUES, HEADERS, st.integers(1, 3)), max_size=5)


def numbered(parts):
    """Records with growing offsets and holes between them, as a log has."""
    offset, found = 0, []
    for received, key, value, headers, step in parts:
        found.append(rows.Record(offset, received, key, value, headers))
        offset += step
    return found


class Shelf:
    """Holds the one object that is put."""

    def put_new(self, key, data):
        self.data = data
        return Entry(key, len(data), "1")


def assert_complete(records, batch):
    """One row a record, in order, each good or rejected and nothing between; the counts fit."""
    found = rows_of(batch)
    assert [(row["kafka_offset"], row["received_at"]) for row in found] == [(record.offset, record.received_at) for record in records]
    for row, record in zip(found, records, strict=True):
        assert [(header["name"], header["value"]) for header in row["headers"]] == list(record.headers)
        if row["reject_reason"] is None:
            assert (row["payload"], row["key"]) == (None, None)
            assert None not in (row["event_id"], row["user_id"], row["event_type"], row["event_time"])
        else:
            assert row["reject_reason"] in REASONS
            assert (row["payload"], row["key"]) == (record.value, record.key)
            assert not any(row[name] is not None for name in TYPED)
    good = [row for row in found if row["reject_reason"] is None]
    assert sum(batch.event_slots.values()) == len(good)
    assert sum(batch.rejects.values()) == len(found) - len(good)
    times = [row["event_time"] for row in good]
    assert (batch.min_event_time, batch.max_event_time) == (min(times, default=None), max(times, default=None))
    assert all(sum(slot <= time < slot + timedelta(hours=1) for time in times) == count for slot, count in batch.event_slots.items())


@fuzzed
@given(RECORDS, st.integers(0, 5))
def test_any_batch_equals_its_records_one_by_one(parts, place):
    records = numbered(parts)
    whole, alone = built(records), [built([record]) for record in records]
    assert rows_of(whole) == [row for batch in alone for row in rows_of(batch)]
    pieces = rows.Rows(WHERE, WINDOW, 60, "session")
    pieces.add(rows.Records.of(records[:place]))
    pieces.add(rows.Records.of(records[place:]))
    assert rows_of(pieces.batch()) == rows_of(whole)
    for name in ("rejects", "event_slots", "noticed"):
        counts: dict = {}
        for batch in alone:
            for what, count in getattr(batch, name).items():
                counts[what] = counts.get(what, 0) + count
        assert getattr(whole, name) == counts == getattr(pieces.batch(), name)


def judged(value, received, *, replayed=False):
    """What the slow reading says of a record received then."""
    found = record_oracle.judge(value)
    if isinstance(found, set):
        return found
    lateness = None if replayed else 30 * record_oracle.DAY
    start = (datetime(START.year, START.month, START.day, tzinfo=UTC) - EPOCH) // MICROSECOND
    reason = record_oracle.judge_time(found.micros, (received - EPOCH) // MICROSECOND, start, skew=300_000_000, lateness=lateness)
    return {reason} if reason else found


def assert_judged(row, record):
    found = judged(record.value, record.received_at, replayed=any(name == REPLAY_HEADER for name, _ in record.headers))
    if isinstance(found, set):
        assert row["reject_reason"] in found
        return
    assert row["reject_reason"] is None, row["reject_reason"]
    texts = {name: row[name] for name in TYPED if name not in ("event_time", "properties") and row[name] is not None}
    assert texts == found.texts
    assert (row["event_time"] - EPOCH) // MICROSECOND == found.micros
    kept = record_oracle.parsed(row["properties"], record_oracle.DEEPEST + 1) if row["properties"] is not None else None
    assert kept == found.properties
    if row["properties"] is not None and "_extra" not in found.properties:
        assert row["properties"].encode() in record.value, "without unknown fields the text is kept as sent, byte for byte"


@fuzzed
@given(RECORDS)
def test_every_record_becomes_one_row_as_the_slow_reading_says_and_is_read_back_so(parts):
    records = numbered(parts)
    batch = built(records)
    assert_complete(records, batch)
    for row, record in zip(rows_of(batch), records, strict=True):
        assert_judged(row, record)
    shelf = Shelf()
    end = records[-1].offset + 1 if records else 0
    raw = files.write(shelf, topic_chain(WHERE.topic, WHERE.topic_id, WHERE.partition), 0, end, batch)
    read = pq.ParquetFile(io.BytesIO(shelf.data))
    assert read.read().equals(batch.table)
    footer = footers.RawFile.from_json(read.metadata.metadata[footers.FOOTER_KEY])
    assert (footer.start, footer.end, footer.rows, footer.rejects, footer.event_slots) == (0, end, raw.rows, raw.rejects, raw.event_slots)
    assert raw.rows == sum(raw.rejects.values()) + sum(raw.event_slots.values()) == len(records)


@fuzzed
@given(documents())
def test_the_slow_reading_agrees_on_events_at_any_time(document):
    """Received when they happened, so that the form of the time alone decides."""
    value = json.dumps(document).encode()
    found = record_oracle.judge(value)
    received = MOMENT
    if isinstance(found, record_oracle.Good):
        received = EPOCH + timedelta(microseconds=max(found.micros, 0) // 1000 * 1000)
    record = rows.Record(0, received, b"u1", value)
    (row,) = rows_of(built([record]))
    assert_judged(row, record)


def test_the_comparison_itself_sees_every_digit():
    assert canonical('{"a":1.0}') != canonical('{"a":1}') != canonical('{"a":1e0}')
