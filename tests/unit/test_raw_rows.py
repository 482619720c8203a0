"""Raw rows: one a record, whatever is in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engagement.contract import Event, TimeWindow, decode
from engagement.raw import rows

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
WHERE = rows.Coordinates("session", "5e" * 16, 3)
WINDOW = TimeWindow.of(HOUR.date(), 300, 30)
TYPED = Event.__struct_fields__
IDS = "0f8fad5b-d9cb-469f-a165-{:012x}"


def event(number=0, at=HOUR, **fields) -> bytes:
    document = {"event_id": IDS.format(number), "user_id": "u1", "event_type": "tap", "timestamp": at.isoformat()}
    return json.dumps(document | fields).encode()


def record(offset, value, received_at=HOUR, key=b"u1", headers=()):
    return rows.Record(offset, received_at, key, value, headers)


def built(*records, slot_minutes=60):
    batch = rows.build(WHERE, records, WINDOW, slot_minutes)
    return batch, batch.table.to_pylist()


def test_a_good_row_is_typed_and_carries_no_payload_and_no_key():
    payload = event(device_info={"model": "iPad13,1"}, properties={"screen": "Home"})
    batch, (row,) = built(record(7, payload))
    assert {name: row[name] for name in TYPED} == {name: getattr(decode(payload), name) for name in TYPED}
    assert (row["reject_reason"], row["payload"], row["key"]) == (None, None, None)
    assert batch.rejects == {}


def test_a_bad_row_has_reason_payload_and_key_and_nothing_typed():
    batch, (row,) = built(record(7, b"{", key=b"\xff\x00"))
    assert (row["reject_reason"], row["payload"], row["key"]) == ("bad_json", b"{", b"\xff\x00")
    assert all(row[name] is None for name in TYPED)
    assert batch.rejects == {"bad_json": 1}
    assert batch.event_slots == {}


def test_every_row_carries_its_coordinates():
    received = HOUR + timedelta(microseconds=1000)
    for value in (event(), b"{"):
        _, (row,) = built(record(7, value, received))
        found = {name: row[name] for name in ("kafka_topic", "kafka_topic_id", "kafka_partition", "kafka_offset", "received_at")}
        assert list(found.values()) == ["session", "5e" * 16, 3, 7, received]


def test_headers_stand_in_every_row_in_order_with_repeats_and_nulls():
    headers = (("a", b"1"), ("a", b"\xff"), ("b", None), ("", b""))
    _, found = built(record(0, event(), headers=headers), record(1, None, headers=headers), record(2, event()))
    expected = [{"name": name, "value": value} for name, value in headers]
    assert [row["headers"] for row in found] == [expected, expected, []]


def test_an_empty_value_is_a_reject_and_null_stays_null():
    _, found = built(record(0, None), record(1, b""), record(2, None, key=None))
    assert [(row["reject_reason"], row["payload"], row["key"]) for row in found] == [
        ("empty", None, b"u1"), ("empty", b"", b"u1"), ("empty", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (HOUR + timedelta(minutes=6), "in_future"),
        (HOUR.replace(hour=0) - timedelta(microseconds=1), "before_history_start"),
        (HOUR + timedelta(minutes=5), None),
        (HOUR.replace(hour=0), None),
    ],
)
def test_times_are_judged_against_each_records_own_log_append_time(at, expected):
    _, (row,) = built(record(0, event(at=at)))
    assert row["reject_reason"] == expected
    _, (row,) = built(record(0, event(at=HOUR), HOUR + timedelta(days=31)))
    assert row["reject_reason"] == "too_late"


def test_slots_are_counted_by_event_time_and_rejects_belong_to_none():
    times = [HOUR - timedelta(microseconds=1), HOUR, HOUR + timedelta(minutes=19, seconds=59), HOUR + timedelta(minutes=20)]
    records = [record(number, event(number, at), HOUR + timedelta(hours=1)) for number, at in enumerate(times)]
    batch, _ = built(*records, record(9, b"x"), slot_minutes=20)
    assert batch.event_slots == {HOUR - timedelta(minutes=20): 1, HOUR: 2, HOUR + timedelta(minutes=20): 1}
    assert list(batch.event_slots) == sorted(batch.event_slots)
    assert (batch.min_event_time, batch.max_event_time) == (times[0], times[-1])
    assert sum(built(*records)[0].event_slots.values()) == 4


def test_nothing_gives_an_empty_table_of_the_schema():
    batch, found = built()
    assert found == []
    assert batch.table.schema == rows.schema()
    assert (batch.min_event_time, batch.max_event_time, batch.first_received_at) == (None, None, None)


def test_copies_are_two_rows():
    assert len(built(record(0, event()), record(1, event()))[1]) == 2


VALUES = (
    st.none() | st.binary(max_size=40) | st.integers(0, 2**40).map(event) | st.just(b"[" * 5_000) | st.just(event()[:-1] + b',"new":1}')
)
RECORDS = st.lists(
    st.tuples(
        VALUES,
        st.none() | st.binary(max_size=5),
        st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2),
        st.integers(0, 10**6),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(RECORDS, st.sampled_from([1, 20, 60]))
@example([(event()[:-1] + b',"properties":{"x":' + b"[" * 900 + b"]" * 900 + b"}}", b"\xff", [("\x00", b"\x00")], 0)], 60)
def test_every_record_becomes_one_row_whatever_its_bytes(found, slot_minutes):
    records = [
        record(number, value, HOUR + timedelta(milliseconds=later), key, tuple(headers))
        for number, (value, key, headers, later) in enumerate(found)
    ]
    batch, table = built(*records, slot_minutes=slot_minutes)
    assert [row["kafka_offset"] for row in table] == list(range(len(records)))
    assert sum(batch.rejects.values()) + sum(batch.event_slots.values()) == len(records)
    for row, source in zip(table, records, strict=True):
        assert [(item["name"], item["value"]) for item in row["headers"]] == list(source.headers)
        if row["reject_reason"] is None:
            assert (row["payload"], row["key"]) == (None, None)
            assert None not in (row["event_id"], row["user_id"], row["event_type"], row["event_time"])
        else:
            assert (row["payload"], row["key"]) == (source.value, source.key)
            assert all(row[name] is None for name in TYPED)
    assert batch.first_received_at == min((item.received_at for item in records), default=None)


def test_a_record_counts_its_bytes():
    def size(*found):
        return rows.Records.of(found).size

    small = size(record(0, None, key=None))
    assert size(record(0, b"abc", key=b"de")) == small + 5
    assert size(record(0, None, key=None, headers=(("name", b"value"), ("n", None)))) == small + 10
    assert size(record(0, b"abc"), record(1, b"abc")) == 2 * size(record(0, b"abc"))


def test_late_rows_other_families_and_other_keys_are_counted_not_rejected():
    received = datetime(2026, 3, 11, 12, tzinfo=UTC)

    def record(offset, moment, event_type, key):
        event = {
            "event_id": f"00000000-0000-4000-8000-{offset:012d}",
            "user_id": "u1",
            "event_type": event_type,
            "timestamp": moment.isoformat(),
        }
        return rows.Record(offset, received, key, json.dumps(event).encode())

    found = [
        record(0, received, "tap", b"u1"),
        record(1, received - rows.LATE, "screen_view", b"u1"),
        record(2, received - rows.LATE - timedelta(microseconds=1), "tap", b"u1"),
        record(3, received, "install", b"u1"),
        record(4, received, "click_notification", b"u2"),
        record(5, received, "tap", None),
    ]
    batch = rows.build(WHERE, found, WINDOW, 60, "session")
    assert batch.rejects == {}
    assert batch.noticed == {"late": 1, "other_family": 2, "other_key": 2}
    assert rows.build(WHERE, found, WINDOW, 60).noticed == {}
