"""The erasure list, and what it does to raw rows (R1)."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from engagement.contract import TimeWindow
from engagement.lake import LocalLake
from engagement.raw import erasures, rows
from engagement.raw.erasures import ErasureList, KeyMissing, UnreadableList

KEY, OTHER = b"a key of tests, long", b"another key of tests"
NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)
WHERE = rows.Coordinates("session", "0" * 32, 0)
WINDOW = TimeWindow.of(datetime(2020, 1, 1, tzinfo=UTC).date(), 300, None)


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path)


def event(user="ann", at=NOON, **fields):
    made = {"event_id": "11111111-1111-4111-8111-111111111111", "user_id": user, "event_type": "tap", "timestamp": at.isoformat()}
    return json.dumps(made | fields).encode()


def flush(*records):
    """A batch of (key, value) or (key, value, headers)."""
    found = [rows.Record(place, NOON, record[0], record[1], *record[2:]) for place, record in enumerate(records)]
    return rows.build(WHERE, found, WINDOW, 60, "session")


def listed(lake, *users):
    ErasureList(lake, [KEY]).add(users)
    return erasures.read(lake, [KEY])


def test_the_list_holds_no_id_and_its_objects_are_claimed_one_after_another(lake):
    first, second = ErasureList(lake, [KEY]), ErasureList(lake, [KEY])
    assert (first.read().length, second.read().length) == (0, 0)
    assert first.add(["ann", "ben"]) == 1
    assert second.add(["cid", "ann"]) == 2, "the other one's claim is seen, then the next number taken"
    assert second.add(["ann"]) == 1, "nothing is written for users that are there"
    assert second.add(["cid", "ben"]) == 2
    assert erasures.length(lake) == 2
    assert [entry.key for entry in lake.list("erasures")] == ["erasures/00000001.json", "erasures/00000002.json"]
    assert not any(name in lake.read(entry.key) for entry in lake.list("erasures") for name in (b"ann", b"ben", b"cid"))


def test_a_list_under_another_key_or_none_is_refused_not_passed_over(lake):
    ErasureList(lake, [KEY]).add(["ann"])
    for keys, said in (([OTHER], "not the key"), ([], "is not set")):
        with pytest.raises(KeyMissing, match=said):
            erasures.read(lake, keys)
    with pytest.raises(KeyMissing, match="never by their ids"):
        ErasureList(LocalLake(lake.root / "another"), []).add(["ann"])
    rotated = ErasureList(lake, [KEY, OTHER])
    assert rotated.add(["ben"]) == 2
    assert rotated.read().holds("ann")
    assert rotated.read().holds("ben")


def test_a_damaged_or_missing_object_of_the_list_is_told(lake):
    listed(lake, "ann")
    listed(lake, "ben")
    lake.path("erasures/00000002.json").write_text("{")
    with pytest.raises(UnreadableList, match="who is erased cannot be told"):
        erasures.read(lake, [KEY])
    lake.delete("erasures/00000001.json")
    with pytest.raises(UnreadableList, match="some are missing"):
        erasures.length(lake)


def test_a_flush_without_erased_users_is_left_as_it_is(lake):
    batch = flush((b"ben", event("ben")), (b"ben", b"{"))
    assert erasures.read(lake, [KEY]).applied(batch) is batch
    assert listed(lake, "ann").applied(batch) is batch


def test_rows_of_an_erased_user_keep_their_place_in_the_log_and_nothing_else(lake):
    late = NOON - timedelta(hours=2)
    batch = flush(
        (b"ann", event("ann", late, properties={"screen": "home"}), [("trace", b"1")]),
        (b"ben", event("ben"), [("trace", b"2")]),
        (b"ann", b"{"),
        (b"ben", event("ann", timestamp="never")),
        (b"ben", event("ben", properties=1)),
        (b"ben", event("ben"), [("for", b"ann")]),
        (b"ben", event("anna")),
    )
    found = listed(lake, "ann").applied(batch)
    assert found.table.schema == batch.table.schema
    assert found.table["reject_reason"].to_pylist() == ["erased", None, "erased", "erased", "bad_type:properties", None, None]
    assert found.rejects == {"bad_type:properties": 1, "erased": 3}
    assert found.event_slots == {NOON: 3}, "good rows are counted anew, and an hour without any is gone"
    kept = {"kafka_topic", "kafka_topic_id", "kafka_partition", "kafka_offset", "received_at", "reject_reason"}
    for before, after in zip(batch.table.to_pylist(), found.table.to_pylist(), strict=True):
        if after["reject_reason"] == "erased":
            assert {name for name, value in after.items() if value is not None} == kept
            assert all(after[name] == before[name] for name in kept - {"reject_reason"})
        elif before["kafka_offset"] == 5:
            assert after == before | {"headers": None}, "another user's event stays, what names the erased one goes"
        else:
            assert after == before
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, found.table.schema) as stream:
        stream.write_table(found.table.filter(pa.array([True, False, True, True, False, True, False])))
    assert b"ann" not in sink.getvalue().to_pybytes(), "bytes under a null are gone too"


def test_erasing_twice_changes_nothing(lake):
    found = listed(lake, "ann").applied(flush((b"ann", event("ann")), (b"ann", b"{")))
    assert listed(lake, "ann").applied(found) is found
