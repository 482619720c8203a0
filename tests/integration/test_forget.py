"""`engagement forget`: afterwards the lake equals one that never had the user, and nothing brings them back."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import erasure_world as world
import lake_helpers
import pyarrow.parquet as pq
import pytest
from erasure_world import Broker, erase

from engagement.cli import run
from engagement.contract import TimeWindow
from engagement.ingest.importer import import_file, inspect
from engagement.lake import AlreadyExists, open_lake
from engagement.model import units
from engagement.raw import archive, audit, compaction, coverage, erasures, files, rows
from engagement.raw.index import RawIndex
from engagement.raw.names import import_chain, topic_chain
from engagement.settings import load
from engagement.tables import bulk, events, finality
from engagement.tables.context import open_tables
from engagement.waiting import refresh, waits


def made(folder, sent, extra=(), *, never=()):
    """A lake of these records in two partitions, flushed in pieces, its tables made in two steps; without some users' records."""
    settings = world.settings_of(folder)
    pieces = [(number // 7 % 2, sent[number : number + 7]) for number in range(0, len(sent), 7)]
    with open_tables(settings) as context:
        for number, (partition, piece) in enumerate([*pieces, (0, list(extra))]):
            if kept := [item for item in piece if not any(is_of(user, item) for user in never)]:
                world.write(context, kept, partition)
            if not never and number == len(pieces) // 2:
                refresh.until_nothing_waits(context)
        refresh.until_nothing_waits(context)
    return settings


def archived(settings):
    """Everything that is there goes into the archive, as far as the product's writer takes it."""
    lake, _ = open_lake(settings)
    return archive.archive(lake, now=world.START + timedelta(days=9), after=timedelta(0), hash_keys=settings.hash_keys)


def assert_footers_tell_the_rows(lake):
    """Of each range of each part: rejects by reason, and good rows and the last offset of each slot."""
    for entry in lake.list("archive"):
        held = pq.read_table(lake.path(entry.key)).to_pylist()
        for _, item, first in coverage.read_part(lake, entry.key).in_order():
            slots, rejects = {}, Counter()
            for row in held[first : first + item.rows]:
                if row["reject_reason"]:
                    rejects[row["reject_reason"]] += 1
                else:
                    slot = units.floor_hour(row["event_time"])
                    slots[slot] = coverage.Slot(row["kafka_offset"], 1 + (slots[slot].rows if slot in slots else 0))
            assert (item.slots, item.rejects) == (slots, rejects)


def findings(lake):
    index = RawIndex(lake)
    try:
        return [*audit.audit(index).findings]
    finally:
        index.close()


def is_of(user, item):
    return item.key == user.encode() or f'"{user}"'.encode() in (item.value or b"")


def raw_rows(settings):
    lake, _ = open_lake(settings)
    return [row for entry in lake.list("raw") for row in pq.read_table(lake.path(entry.key)).to_pylist()]


def bytes_left(settings, user, skip=()):
    """Objects in whose rows the user's name stands, by reading everything as text."""
    lake, _ = open_lake(settings)
    found = []
    for entry in lake.list(""):
        if entry.key in skip:
            continue
        text = repr(pq.read_table(lake.path(entry.key)).to_pylist()) if entry.key.endswith(".parquet") else repr(lake.read(entry.key))
        if user in text.replace(f"{user}a", ""):
            found.append(entry.key)
    return found


def test_the_lake_becomes_one_that_never_had_the_user(tmp_path):
    sent = world.records(1)
    settings = made(tmp_path / "with", sent)
    before = raw_rows(settings)
    assert bytes_left(settings, "ann")
    report = erase(settings, "ann")
    assert report.done, report
    assert bytes_left(settings, "ann") == []
    twin = made(tmp_path / "without", sent, never=["ann"])
    with open_tables(settings) as context:
        assert not waits.compute(context)
    assert world.tables(settings) == world.tables(twin)
    for old, new in zip(before, raw_rows(settings), strict=True):
        if old["user_id"] == "ann" or old["key"] == b"ann":
            kept = {name for name, value in new.items() if value is not None}
            assert kept == {"kafka_topic", "kafka_topic_id", "kafka_partition", "kafka_offset", "received_at", "reject_reason"}
            assert new["reject_reason"] == "erased"
        else:
            assert new == old
    again = erase(settings, "ann")
    assert again.done
    assert again.objects == []


def test_it_reaches_into_archive_parts(tmp_path):
    """Some objects archived before, some after, one user erased before; parts keep their coverage, and the chains audit whole.

    Events of both share their ids: copies of one user's event that had been dropped for another's come forth.
    """
    sent = world.records(7)
    settings = made(tmp_path / "with", sent)
    lake, _ = open_lake(settings)
    archived(settings)
    with open_tables(settings) as context:
        world.write(context, extra := world.records(8, count=10), partition=0)
        refresh.until_nothing_waits(context)
    assert erase(settings, "cid").done
    archived(settings)
    report = erase(settings, "ann")
    assert report.done, report
    assert any(item.key.startswith("archive/") and item.action == "rewritten" for item in report.objects)
    assert bytes_left(settings, "ann") == []
    assert findings(lake) == []
    assert_footers_tell_the_rows(lake)
    twin = made(tmp_path / "without", sent, extra, never=["ann", "cid"])
    assert world.tables(settings) == world.tables(twin)
    archived(settings)
    assert findings(lake) == []
    with open_tables(settings) as context:
        assert not waits.compute(context)
        refresh.days(context, [world.START.date() + timedelta(days=number) for number in range(3)], rebuild=True)
    assert world.tables(settings) == world.tables(twin), "made again from the archive alone"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """One hour of ann and ben, one object archived, one not; the folder, and its tables once ann is forgotten."""
    folder = tmp_path_factory.mktemp("small")
    sent = [world.event(user, world.START + timedelta(minutes=9 * place), place) for place, user in enumerate(["ann", "ben"] * 3)]
    settings = made(folder / "base", sent[:4])
    archived(settings)
    with open_tables(settings) as context:
        world.write(context, [*sent[4:], world.Sent(b"ann", b"{")])
        refresh.until_nothing_waits(context)
    erased_ = copied(folder / "base", folder / "erased")
    points: list[str] = []
    assert erase(erased_, "ann", step=points.append).done
    return folder / "base", world.tables(erased_), points


def copied(base, folder):
    shutil.copytree(base, folder)
    return world.settings_of(folder)


def test_killed_at_any_point_it_finishes_when_run_again(tmp_path, small):
    base, expected, points = small
    assert {"listed", "fenced", "rewritten", "log cleared", "marked", "a table made", "units made", "caught up"} <= set(points)
    for place in sorted({points.index(point) for point in points} | {points.index("rewritten") + 1}):
        settings = copied(base, tmp_path / str(place))
        left = iter(range(place))

        def step(_point, left=left):
            if next(left, None) is None:
                raise Killed

        with pytest.raises(Killed):
            erase(settings, "ann", step=step)
        assert erase(settings, "ann").done
        assert bytes_left(settings, "ann") == []
        with open_tables(settings) as context:
            assert not waits.compute(context)
        assert world.tables(settings) == expected, points[place]


def test_a_dry_run_changes_nothing_and_says_where_they_stand(tmp_path, small):
    settings = copied(small[0], tmp_path / "dry")
    lake, _ = open_lake(settings)
    before = [*lake.list("")]
    report = erase(settings, "ann", dry_run=True)
    assert [*lake.list("")] == before
    assert {item.key.split("/")[0] for item in report.objects} == {"raw", "archive", "processed"}
    assert not report.done


def test_a_refresh_that_read_before_cannot_bring_the_user_back(tmp_path, small, monkeypatch):
    """It is about to publish rows that it read before the erasure, of an object that is older too."""
    settings = copied(small[0], tmp_path / "lake")
    publish = bulk._Writers.publish
    once = iter([True])

    def late(writers, slot, old, candidate):
        if next(once, False):
            assert erase(settings, "ann").done
        publish(writers, slot, old, candidate)

    monkeypatch.setattr(bulk._Writers, "publish", late)
    with open_tables(settings) as context:
        events.refresh_all(context, [world.START], rebuild=True)
        refresh.until_nothing_waits(context)
    assert bytes_left(settings, "ann") == []
    assert world.tables(settings) == small[1]


@pytest.mark.parametrize(("is_archived", "killed"), [(False, False), (False, True), (True, True)])
def test_a_refresh_of_an_hour_that_has_no_object_yet_cannot_bring_the_user_back(tmp_path, monkeypatch, is_archived, killed):
    """Nor where the run was killed in between: the next one knows the hour from footers alone."""
    settings = world.settings_of(tmp_path)
    with open_tables(settings) as context:
        world.write(context, [world.event("ann", world.START, 1)])
    if is_archived:
        archived(settings)
        lake, _ = open_lake(settings)
        for entry in lake.list("raw"):  # as if it had expired
            lake.delete(entry.key)
    publish = bulk._Writers.publish
    once = iter([True])

    def kill(point):
        if point == "log cleared":
            raise Killed

    def late(writers, slot, old, candidate):
        if next(once, False):
            with contextlib.suppress(Killed):
                erase(settings, "ann", **({"step": kill} if killed else {}))
            assert erase(settings, "ann").done
        publish(writers, slot, old, candidate)

    monkeypatch.setattr(bulk._Writers, "publish", late)
    with open_tables(settings) as context:
        events.refresh_all(context, [world.START], rebuild=True)
        refresh.until_nothing_waits(context)
    assert bytes_left(settings, "ann") == []
    assert world.tables(settings)["events"] == []


def test_an_archive_writer_that_read_before_loses_its_claim(tmp_path, small, monkeypatch):
    settings = copied(small[0], tmp_path / "lake")
    compact = compaction.compact
    once = iter([True])

    def late(*arguments):
        part = compact(*arguments)
        if next(once, False):
            assert erase(settings, "ann").done
        return part

    monkeypatch.setattr(compaction, "compact", late)
    report = archived(settings)
    assert report.parts, "it looked again and took what is there now"
    assert bytes_left(settings, "ann") == []
    assert findings(open_lake(settings)[0]) == []


def test_a_flush_that_was_begun_before_is_awaited(tmp_path, small):
    """Records in the log that the lake has not: a consumer may hold them, read under the old list."""
    settings = copied(small[0], tmp_path / "lake")
    lake, _ = open_lake(settings)
    chain = topic_chain("session", world.TOPIC_ID, 0)
    end = files.last_link(lake, chain).end
    broker = Broker(ends={("session", 0): end + 1})
    report = erase(settings, "ann", broker=broker)
    assert not report.done
    assert "1 records of the log are not in the lake" in report.pending[0]
    assert bytes_left(settings, "ann") == [], "what is there goes at once"
    assert not erase(settings, "ann", broker=broker).done, "and the next run waits as well"
    flush(settings, chain, [world.event("ann", world.START, 50)])
    assert bytes_left(settings, "ann") == []
    with open_tables(settings) as context:
        assert context.index.sync() or True
        assert [raw.rejects for raw in context.index.files() if raw.start == end] == [{"erased": 1}]
    assert erase(settings, "ann", broker=broker).done
    assert erase(settings, "ann", broker=Broker(ends={("session", 0): end + 9})).done, "one flush is enough"


def test_a_flush_of_the_old_list_that_came_in_between_is_erased(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    lake, _ = open_lake(settings)
    chain = topic_chain("session", world.TOPIC_ID, 0)
    broker = Broker(ends={("session", 0): files.last_link(lake, chain).end + 2})
    assert not erase(settings, "ann", broker=broker).done
    with open_tables(settings) as context:
        world.write(context, [world.event("ann", world.START, 50)])
    assert not erase(settings, "ann", broker=broker).done, "it was begun under the old list: another one may be"
    assert bytes_left(settings, "ann") == []
    flush(settings, chain, [world.event("ben", world.START, 51)])
    assert erase(settings, "ann", broker=broker).done


def flush(settings, chain, sent):
    """A flush as the consumer makes it: the list is read, then the claim is made."""
    lake, format_ = open_lake(settings)
    start = files.last_link(lake, chain).end
    window = TimeWindow.of(format_.history_start, 10**9, None)
    made_ = [rows.Record(start + place, world.START + timedelta(days=3), item.key, item.value) for place, item in enumerate(sent)]
    batch = rows.build(rows.Coordinates(chain.topic, world.TOPIC_ID, chain.partition), made_, window, format_.slot_minutes)
    files.write(lake, chain, start, start + len(sent), batch, erasures=erasures.read(lake, settings.hash_keys))


def test_the_chain_of_a_topic_that_is_gone_is_sealed(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    with open_tables(settings) as context:
        world.write(context, [world.event("ann", world.START, 60)], topic_id="0d" * 16)
    lake, _ = open_lake(settings)
    old = topic_chain("session", "0d" * 16, 0)
    report = erase(settings, "ann")
    assert report.done
    assert [item.key for item in report.objects if item.action == "sealed"] == [old.key(1)]
    with pytest.raises(AlreadyExists):
        files.write_gap(lake, old, 1, 2)
    assert findings(lake) == []
    assert erase(settings, "ann").objects == []


def test_another_cluster_is_not_believed(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    report = erase(settings, "ann", broker=Broker(topic_id="77" * 16))
    assert not report.done
    assert "is it the lake's broker?" in report.pending[0]
    assert not any(item.action == "sealed" for item in report.objects)


def test_names_in_other_users_records_go_and_the_records_stay(tmp_path):
    settings = world.settings_of(tmp_path)
    mention = world.event("ben", world.START, 1, properties={"screen": "home", "friends": ["ann", "anna"]})
    headed = replace(world.event("ben", world.START, 2), headers=(("for", b"ann"), ("other", b"x")))
    longer = replace(world.event("ben", world.START, 3, properties={"screen": "annex of ann"}), headers=(("for", b"ann-2"),))
    bad = [world.Sent(b"ben", b'{"to": ann, "x'), world.Sent(b"ben", b'{"to": anna, "x')]
    with open_tables(settings) as context:
        world.write(context, [mention, headed, longer, *bad])
        refresh.until_nothing_waits(context)
    report = erase(settings, "ann")
    assert report.done
    found = lake_helpers.table(settings, "SELECT properties, screen FROM events ORDER BY event_id")
    assert [json.loads(row["properties"]) for row in found] == [
        {"screen": "home", "friends": ["erased", "anna"]}, {"screen": "s2"}, {"screen": "annex of ann"},
    ]  # fmt: skip
    by_offset = {row["kafka_offset"]: row for row in raw_rows(settings)}
    assert [by_offset[place]["headers"] for place in range(3)] == [[], None, [{"name": "for", "value": b"ann-2"}]]
    assert [by_offset[place]["reject_reason"] for place in (3, 4)] == ["erased", "bad_json"]


def test_an_object_that_cannot_be_read_is_named_and_the_rest_is_erased(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    lake, _ = open_lake(settings)
    (lake.root / "processed" / "notes.parquet").write_bytes(b"PAR1 ann")
    (lake.root / "readme.txt").write_text("ask ann about it")
    report = erase(settings, "ann")
    assert not report.done
    assert set(report.left) == {"processed/notes.parquet", "readme.txt"}
    assert bytes_left(settings, "ann", skip=report.left) == []


def test_without_the_key_nothing_is_done(tmp_path, small):
    settings = replace(copied(small[0], tmp_path / "lake"), hash_key="")
    with pytest.raises(erasures.KeyMissing, match="ENGAGEMENT_HASH_KEY is not set"):
        erase(settings, "ann")
    assert erasures.length(open_lake(settings)[0]) == 0


def test_many_users_in_one_pass(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    assert erase(settings, "ann", "ben", "nobody", "né/e", 'q"q', *(f"user-{number}" for number in range(50))).done
    assert world.tables(settings)["events"] == []
    assert bytes_left(settings, "ann") == bytes_left(settings, "ben") == []


def test_of_a_final_day_the_users_rows_go_and_the_counts_stay(tmp_path, small):
    """Retention took what its tables were made from: they cannot be made again."""
    settings = copied(small[0], tmp_path / "lake")
    lake, _ = open_lake(settings)
    day = world.START.date() + timedelta(days=1)
    lake.put_new(finality.KEY, finality.Finality(final_before=day).to_json())
    before = world.tables(settings)
    assert erase(settings, "ann").done
    after = world.tables(settings)
    assert bytes_left(settings, "ann") == []
    for name in ("events", "session_fragments", "user_activity", "sessions"):
        assert after[name] == [row for row in before[name] if "'ann'" not in row]
        assert after[name]
    assert (after["hour"], after["day"]) == (before["hour"], before["day"])


def test_the_command_is_a_dry_run_unless_told_and_speaks_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGAGEMENT_HASH_KEY", world.KEY)
    lake, _ = open_lake(load())
    window = TimeWindow.of(world.START.date(), 10**9, None)
    records = [
        rows.Record(place, world.START, None, world.event(user, world.START, place).value) for place, user in enumerate(["ann", "ben"])
    ]
    batch = rows.build(rows.Coordinates("import", "a" * 64, 0), records, window, 60)
    files.write(lake, import_chain("a" * 64), 0, 2, batch)
    (tmp_path / "asked.txt").write_text("ann\n\nnobody\n")
    assert run(["forget", "--file", "asked.txt"]) == 0
    out, err = capsys.readouterr()
    assert "would rewrite" in out
    assert "nothing was changed; --yes erases" in err
    assert erasures.length(lake) == 0
    assert run(["forget", "--file", "asked.txt", "--yes", "--json"]) == 0
    told = json.load(io.StringIO(capsys.readouterr().out))
    assert (told["done"], told["users"], told["pending"], told["left"]) == (True, 2, [], {})
    assert {item["action"] for item in told["objects"]} >= {"rewritten", "rebuilt"}


def test_two_at_once_wait_for_each_other(tmp_path, small):
    settings = copied(small[0], tmp_path / "lake")
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda user: erase(settings, user), ["ann", "ben"]))
    assert all(report.done for report in reports)
    assert min(report.number for report in reports) == 1
    assert world.tables(settings)["events"] == []
    assert bytes_left(settings, "ann") == bytes_left(settings, "ben") == []


def test_where_the_lake_holds_pseudonyms_the_real_id_is_named(tmp_path):
    environment = {"ENGAGEMENT_HASH_KEY": world.KEY, "ENGAGEMENT_USER_IDS": "hashed", "ENGAGEMENT_KEEP_BYTES": "all"}
    settings = load(environment, tmp_path, lake_url=str(tmp_path / "lake"), state_dir=tmp_path / "state", threads=1)
    lake, format_ = open_lake(settings)

    def imported(name, users):
        path = tmp_path / name
        path.write_bytes(b"".join((world.event(user, world.START, number).value + b"\n") for number, user in enumerate(users)))
        return import_file(inspect(path), lake, format_, settings, world.START + timedelta(days=1)).rejects

    imported("first.jsonl", ["ann", "ben", "ann"])
    with open_tables(settings) as context:
        refresh.until_nothing_waits(context)
    assert erase(settings, "ann").done
    assert len(world.tables(settings)["events"]) == 1
    assert imported("second.jsonl", ["ben", "ann"]) == {"erased": 1}


# What gates refused


def test_a_refused_candidate_loses_the_rows_of_the_erased_too_and_is_held_as_before(tmp_path):
    from engagement.tables.objects import Candidate, read_rows
    from engagement.verdicts import quarantine

    settings = made(tmp_path, world.records(3))
    lake, _ = open_lake(settings)
    entry = next(entry for entry in lake.list(units.SESSIONS) if "ann" in read_rows(lake, entry)["user_id"].to_pylist())
    with open_tables(settings) as context:
        table = context.table_of(f"SELECT * FROM {context.relation([entry], units.SESSIONS)}", {}, units.SESSIONS)
    held = quarantine.hold(lake, units.SESSIONS, Candidate(table, {}, None, entry.key), {"no_repeated_sessions": 2})
    report = erase(settings, "ann")
    assert report.done
    left = read_rows(lake, lake.stat(held.key))["user_id"].to_pylist()
    assert "ann" not in left
    assert len(left) == sum(user != "ann" for user in table["user_id"].to_pylist())
    assert held.key in {item.key for item in report.objects}
    assert [incident.unit for incident in quarantine.held(lake)] == [held.unit]
