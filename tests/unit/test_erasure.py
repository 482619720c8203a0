"""Erasure without a lake's tables: whose rows are whose, what is awaited, what writers do with the list."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from engagement.cli import run
from engagement.contract import TimeWindow
from engagement.erasure import fences
from engagement.erasure.people import People
from engagement.errors import UsageError
from engagement.ingest import protocol
from engagement.ingest.importer import import_file, inspect
from engagement.ingest.perform import Performer
from engagement.lake import LocalLake, open_lake
from engagement.raw import files, rows
from engagement.raw.chain import Coverage, Link
from engagement.raw.erasures import ErasureList, KeyMissing
from engagement.raw.footers import RawFile
from engagement.raw.names import Chain, topic_chain
from engagement.settings import load

KEY = "a key of unit tests"
NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)
TOPIC_ID = "5e" * 16
CHAIN = topic_chain("session", TOPIC_ID, 0)


def event(user="ann", **fields):
    made = {"event_id": "11111111-1111-4111-8111-111111111111", "user_id": user, "event_type": "tap", "timestamp": NOON.isoformat()}
    return json.dumps(made | fields).encode()


def table(*records):
    window = TimeWindow.of(NOON.date(), 300, None)
    made = [rows.Record(place, NOON, key, value, headers) for place, (key, value, headers) in enumerate(records)]
    return rows.build(rows.Coordinates("session", TOPIC_ID, 0), made, window, 60, "session").table


# Whose rows are whose.


@pytest.mark.parametrize(
    ("name", "payload", "is_theirs"),
    [
        ("ann", b"ann", True),
        ("ann", b'{"user_id": "ann", "x', True),
        ("ann", b"to:ann;", True),
        ("ann", b"anna", False),
        ("ann", b"x-ann", False),
        ("ann", b"ann_2", False),
        ("ann", b"\xff\xfeann\xff", True),
        ("zoë", "zoë".encode(), True),
        ("zoë", b'{"a": "zo\\u00eb"', True),
        ("a/b", b'"a\\/b"', True),
        ('q"q', b'"q\\"q"', True),
        ("a.b", b"axb", False),
        ("8f14e45f-ceea", b"id=8f14e45f-ceea&", True),
    ],
)
def test_a_name_in_a_reject_is_a_whole_name_however_it_is_written(name, payload, is_theirs):
    rejects = table((b"someone", payload, ()))
    assert bool(People.of([name]).find(rejects)) is is_theirs


def test_a_reject_is_theirs_by_key_or_header_too():
    rejects = table((b"ann", b"{", ()), (b"ben", b"{", [("who", b"ann")]), (b"ben", b"{", [("ann", None)]), (None, None, ()))
    assert People.of(["ann"]).find(rejects).whole == {0, 1, 2}


def test_a_name_in_a_header_of_anothers_event_is_found_whatever_its_bytes():
    people = People.of(["ann", "zoë"])
    values = [b"ann", "<zoë>".encode(), b"\xff ann \xfe", b"\xff", b"annex", None]
    good = table(*((b"ben", event("ben"), [("trace", b"1"), ("to", value)]) for value in values))
    assert people.find(good).headers == {0, 1, 2}
    assert people.find(table((b"ben", event("ben"), ()))).headers == set()
    assert people.find(table((b"ben", event("ben"), [("zoë", b"")]))).headers == {0}


def test_pseudonyms_are_names_as_well():
    good = table((b"ann", event("p1"), ()), (b"ben", event("p2"), ()))
    assert People.of(["ann"], ["p1"]).find(good).whole == {0}


@pytest.mark.parametrize("user", ["", "x" * 129])
def test_what_can_be_no_user_id_is_refused(user):
    with pytest.raises(UsageError, match="1 to 128"):
        People.of([user])


# What is awaited.


class Broker:
    def __init__(self, ends):
        self.ends = ends

    def ids(self, topics):
        return {topic: TOPIC_ID for topic in topics if topic == "session"}

    def partitions(self, _topic):
        return len(self.ends)

    def end(self, _topic, number):
        return self.ends[number]

    def kept(self, _topics):
        return []


def awaited(raw=(), covered=None, ends=(0,), length=2):
    return fences.awaited(fences.standings(raw, covered or {}), ["session"], Broker(list(ends)), length)


def test_a_log_that_the_lake_has_read_to_its_end_is_not_awaited():
    raw = [RawFile(CHAIN, 0, 5, 5), RawFile(CHAIN, 5, 9, 4)]
    assert awaited(raw, ends=[9]).pending == []
    assert len(awaited(raw, ends=[10]).pending) == 1
    assert awaited(raw, {CHAIN.label: Coverage.of([Link(0, 12)])}, ends=[12]).pending == [], "the archive counts"


def test_a_flush_under_the_list_is_enough_and_only_the_last_one_counts():
    assert awaited([RawFile(CHAIN, 0, 5, 5, erasures=2)], ends=[99]).pending == []
    assert len(awaited([RawFile(CHAIN, 0, 5, 5, erasures=1)], ends=[99]).pending) == 1


def test_a_partition_that_the_lake_has_nothing_of_is_awaited_too():
    (told,) = awaited(ends=[0, 3]).pending
    assert "session/5e5e5e5e-00001: 3 records" in told


def test_chains_of_other_topic_ids_are_closed_once_and_imports_never():
    old, sealed = Chain("session", "0d0d0d0d", 0), Chain("session", "0e0e0e0e", 0)
    raw = [RawFile(CHAIN, 0, 5, 5), RawFile(old, 0, 7, 7), RawFile(sealed, 0, 3, 3), RawFile(sealed, 3, 3, 0, sealed=True)]
    raw.append(RawFile(Chain("import", "a" * 64, 0), 0, 4, 4))
    assert [(item.chain, item.resume) for item in awaited(raw).closed] == [(old, 7)]


# What writers do with the list.


@pytest.fixture
def lake(tmp_path):
    lake = LocalLake(tmp_path / "lake")
    ErasureList(lake, [KEY.encode()]).add(["ann"])
    return lake


def test_a_consumer_writes_later_records_of_an_erased_user_as_erased_rows(lake):
    performer = Performer(None, lake, lambda: 0.0, [KEY.encode()])
    window = TimeWindow.of(NOON.date(), 300, None)
    made = [rows.Record(0, NOON, b"ann", event("ann")), rows.Record(1, NOON, b"ben", event("ben"))]
    batch = rows.build(rows.Coordinates("session", TOPIC_ID, 0), made, window, 60, "session")
    answer, raw = performer.put("session", 0, protocol.Put(TOPIC_ID, 0, 2, gap=False), batch)
    assert isinstance(answer, protocol.Written)
    assert (raw.rejects, raw.erasures, sum(raw.event_slots.values())) == ({"erased": 1}, 1, 1)
    assert files.read_footer(lake, CHAIN, 0).rejects == {"erased": 1}
    _, gap = performer.put("session", 0, protocol.Put(TOPIC_ID, 2, 4, gap=True), None)
    assert gap.erasures == 1


def test_a_consumer_without_the_key_writes_nothing(lake):
    performer = Performer(None, lake, lambda: 0.0)
    answer, raw = performer.put("session", 0, protocol.Put(TOPIC_ID, 0, 2, gap=True), None)
    assert isinstance(answer, protocol.Trouble)
    assert "ENGAGEMENT_HASH_KEY is not set" in answer.detail
    assert raw is None
    assert files.last_link(lake, CHAIN) is None


def test_an_import_writes_an_erased_user_as_erased_rows_and_needs_the_key(lake, tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_bytes(event("ann") + b"\n" + event("ben") + b"\n")
    settings = load({"ENGAGEMENT_HASH_KEY": KEY}, tmp_path, lake_url=str(lake.root), state_dir=tmp_path)
    opened, lake_format = open_lake(settings)
    assert import_file(inspect(path), opened, lake_format, settings, NOON).rejects == {"erased": 1}
    without = load({}, tmp_path, lake_url=str(lake.root), state_dir=tmp_path)
    with pytest.raises(KeyMissing):
        import_file(inspect(path), opened, lake_format, without, NOON)


# The command.


def test_the_command_needs_an_id_a_lake_and_a_readable_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["forget"]) == 2
    assert run(["forget", "--file", "none.txt"]) == 2
    assert run(["forget", "ann"]) == 1
    told = capsys.readouterr().err
    assert "name at least one user id" in told
    assert "none.txt: not readable" in told
    assert "there is no lake" in told
