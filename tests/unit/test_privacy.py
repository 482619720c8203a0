"""What raw rows keep of a person under each policy (decision 0016)."""

from __future__ import annotations

import hashlib
import hmac
import json
import pickle
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from engagement.contract import TimeWindow
from engagement.raw import rows
from engagement.raw.names import REPLAY_HEADER
from engagement.raw.privacy import KEEP_ALL, Policy, pseudonym

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
WHERE = rows.Coordinates("session", "5e" * 16, 3)
WINDOW = TimeWindow.of(NOW.date(), 300, 30)
KEY, NEXT = b"a key of at least sixteen", b"and another one after a leak"
HASHED = Policy(user_ids="hashed", keys=(KEY,))
ADDRESS = b"0f" * 16 + b"/2/1234"


def event(number=0, user="u1", **fields) -> bytes:
    document = {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": user, "event_type": "tap", "timestamp": NOW.isoformat(),
    }  # fmt: skip
    return json.dumps(document | fields).encode()


def stored(policy: Policy, *values: bytes | None, key: bytes | None = b"u1", headers=()):
    built = rows.Rows(WHERE, WINDOW, 60, "session", policy)
    built.add(rows.Records.of(rows.Record(offset, NOW, key, value, headers) for offset, value in enumerate(values)))
    batch = built.batch()
    assert batch.table.schema.equals(rows.schema())
    return batch, batch.table.to_pylist()


def test_a_user_id_is_stored_as_its_hmac_and_nowhere_in_plain():
    users = ["u1", "Zoë", "u1", "x" * 128]
    batch, found = stored(HASHED, *(event(number, user) for number, user in enumerate(users)))
    expected = [hmac.new(KEY, user.encode(), hashlib.sha256).hexdigest()[:32] for user in users]
    assert [row["user_id"] for row in found] == expected
    assert [HASHED.stored(user) for user in users] == expected
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.table.schema) as out:
        out.write_table(batch.table)
    assert not [user for user in ("Zoë", "x" * 128) if user.encode() in sink.getvalue().to_pybytes()]


def test_a_key_that_differs_from_the_user_id_is_noticed_before_the_id_is_hashed():
    assert stored(HASHED, event(user="u1"))[0].noticed == {}
    assert stored(HASHED, event(user="u2"))[0].noticed == {"other_key": 1}


def test_after_a_rotation_a_user_is_hashed_under_both_keys_so_that_old_pseudonyms_can_be_carried_over():
    both = Policy(user_ids="hashed", keys=(KEY, NEXT))
    assert both.stored("u1") == pseudonym((NEXT,), HASHED.stored("u1")) != HASHED.stored("u1")


def test_pseudonyms_do_not_depend_on_what_a_process_remembers(monkeypatch):
    monkeypatch.setattr("engagement.raw.privacy.REMEMBERED", 2)
    policy = Policy(user_ids="hashed", keys=(KEY,))
    users = [f"u{number % 5}" for number in range(20)]
    assert [policy.stored(user) for user in users] == [pseudonym((KEY,), user) for user in users]


def test_a_policy_travels_to_other_processes_and_shows_its_key_nowhere():
    assert pickle.loads(pickle.dumps(HASHED)).stored("u1") == HASHED.stored("u1")  # noqa: S301 - our own bytes
    assert KEY.decode() not in repr(HASHED)


def test_rejects_have_no_user_id_and_keep_their_bytes_or_not():
    payload, key = b'{"user_id": "u1"', b"u1"
    for keep, expected in (("all", (payload, key)), ("none", (None, None))):
        batch, (row,) = stored(Policy("hashed", keep_bytes=keep, keys=(KEY,)), payload, key=key)
        assert (row["payload"], row["key"], row["user_id"], row["reject_reason"]) == (*expected, None, "bad_json")
        assert batch.rejects == {"bad_json": 1}


def test_without_bytes_the_only_header_left_is_the_address_that_a_replay_carries():
    headers = [("trace", b"u1"), (REPLAY_HEADER, ADDRESS), (REPLAY_HEADER, b"u1"), (REPLAY_HEADER, None)]
    for payload in (event(), b"{"):
        _, (row,) = stored(Policy(keep_bytes="none"), payload, headers=headers)
        assert row["headers"] == [{"name": REPLAY_HEADER, "value": ADDRESS}]
        assert stored(KEEP_ALL, payload, headers=headers)[1][0]["headers"] == [{"name": name, "value": value} for name, value in headers]


def test_headers_that_are_no_text_stay_unreadable():
    records = rows.Records([0], [int(NOW.timestamp() * 1e6)], [None], [event()], [None])
    built = rows.Rows(WHERE, WINDOW, 60, "session", Policy(keep_bytes="none"))
    built.add(records)
    assert built.batch().table.to_pylist()[0]["headers"] is None
    assert built.batch().rejects == {"bad_encoding": 1}


PLACE = {"country": "DE", "region": "BY", "city": "Fürth"}


@pytest.mark.parametrize(("keep", "kept"), [("city", PLACE), ("region", PLACE | {"city": None}), ("country", {"country": "DE"})])
def test_places_are_stored_no_finer_than_said(keep, kept):
    _, (row,) = stored(Policy(keep_place=keep), event(geo_location=PLACE))
    assert {name: row[name] for name in PLACE} == dict.fromkeys(PLACE) | kept


def test_coordinates_that_the_contract_does_not_know_go_with_the_city():
    sent = event(geo_location=PLACE | {"lat": 49.48, "lon": 10.99}, device_info={"vendor": 7}, properties={"n": 10**30, "screen": "Home"})
    _, (row,) = stored(Policy(keep_place="region"), sent)
    assert json.loads(row["properties"]) == {"n": 10**30, "screen": "Home", "_extra": {"device_info": {"vendor": 7}}}
    assert json.loads(stored(KEEP_ALL, sent)[1][0]["properties"])["_extra"]["geo_location"] == {"lat": 49.48, "lon": 10.99}


@pytest.mark.parametrize(
    "properties", [{"about": "geo_location"}, {"_extra": "geo_location"}, {"_extra": ["geo_location"]}, {"_extra": None}]
)
def test_properties_of_the_app_that_only_look_so_are_kept(properties):
    sent = event(properties=properties)
    assert stored(Policy(keep_place="region"), sent)[1][0]["properties"] == stored(KEEP_ALL, sent)[1][0]["properties"]


LOCALES = {
    "de_DE": "de",
    "zh-Hans-CN": "zh",
    "EN": "en",
    "fil": "fil",
    "de.UTF-8": "de",
    "x": None,
    "": None,
    "sent by u1": None,
    None: None,
}


@pytest.mark.parametrize(("locale", "language"), LOCALES.items())
def test_a_locale_is_coarsened_to_its_language(locale, language):
    sent = event(device_info={"locale": locale})
    assert stored(Policy(keep_locale="language"), sent)[1][0]["locale"] == language
    assert stored(Policy(keep_locale="none"), sent)[1][0]["locale"] is None
    assert stored(KEEP_ALL, sent)[1][0]["locale"] == locale


def test_what_keeps_everything_changes_no_byte():
    sent = [event(number, device_info={"locale": "de_DE"}, geo_location=PLACE) for number in range(3)] + [b"{", None]
    assert stored(KEEP_ALL, *sent)[0].table.equals(
        rows.build(WHERE, [rows.Record(n, NOW, b"u1", v) for n, v in enumerate(sent)], WINDOW, 60).table
    )
