"""`engagement forget`: afterwards the lake equals one that never had the user, and nothing brings them back."""

from __future__ import annotations

from datetime import timedelta

import erasure_world as world
import pyarrow.parquet as pq
import pytest

from engagement.erasure.forget import forget
from engagement.lake import open_lake
from engagement.raw import archive, audit
from engagement.raw.index import RawIndex
from engagement.tables import refresh, waits
from engagement.tables.context import open_tables


class Broker:
    """A broker whose logs end where the lake's chains do, unless told otherwise."""

    def __init__(self, topics=("session",), ends=None, topic_id=world.TOPIC_ID):
        self.known, self.ends, self.topic_id = topics, ends or {}, topic_id

    def __call__(self, _settings):
        return self

    def ids(self, topics):
        return {topic: self.topic_id for topic in topics if topic in self.known}

    def partitions(self, _topic):
        return 2

    def end(self, topic, number):
        return self.ends.get((topic, number), 0)

    def kept(self, topics):
        return [f"topic {topic} keeps records for 7.0 days" for topic in topics]


def erase(settings, *users, broker=None, **options):
    return forget(settings, users, broker=broker or Broker(), **options)


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


def bytes_left(settings, user):
    """Objects in whose rows the user's name stands, by reading everything as text."""
    lake, _ = open_lake(settings)
    found = []
    for entry in lake.list(""):
        text = repr(pq.read_table(lake.path(entry.key)).to_pylist()) if entry.key.endswith(".parquet") else repr(lake.read(entry.key))
        if user in text.replace(f"{user}a", ""):
            found.append(entry.key)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_the_lake_becomes_one_that_never_had_the_user(tmp_path, seed):
    sent = world.records(seed)
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


@pytest.mark.parametrize("after_forget", [False, True])
def test_it_reaches_into_archive_parts(tmp_path, after_forget):
    """Some objects archived before, some after; parts keep their coverage, and the chains audit whole.

    Events of both share their ids: copies of one user's event that had been dropped for another's come forth.
    """
    sent = world.records(7)
    settings = made(tmp_path / "with", sent)
    lake, _ = open_lake(settings)
    archived(settings)
    with open_tables(settings) as context:
        world.write(context, extra := world.records(8, count=10), partition=0)
        refresh.until_nothing_waits(context)
    if after_forget:
        assert erase(settings, "cid").done
        archived(settings)
    report = erase(settings, "ann")
    assert report.done, report
    assert any(item.key.startswith("archive/") and item.action == "rewritten" for item in report.objects)
    assert bytes_left(settings, "ann") == []
    assert findings(lake) == []
    twin = made(tmp_path / "without", sent, extra, never=["ann", *(["cid"] if after_forget else [])])
    assert world.tables(settings) == world.tables(twin)
    archived(settings)
    assert findings(lake) == []
    with open_tables(settings) as context:
        assert not waits.compute(context)
        refresh.days(context, [world.START.date() + timedelta(days=number) for number in range(3)], rebuild=True)
    assert world.tables(settings) == world.tables(twin), "made again from the archive alone"
