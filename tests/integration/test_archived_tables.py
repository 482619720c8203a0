"""Tables made from archive parts: each record counted once, whatever a unit already carries and whatever happens while it is read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import archive_helpers
import lake_helpers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archive_helpers import archive, expire

from engagement.errors import TransientError
from engagement.model import units
from engagement.raw import files
from engagement.raw.names import topic_chain
from engagement.tables import arrivals, events
from engagement.waiting import audited, backlog, refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHAIN = topic_chain("session", "5e" * 16, 0)


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


def put(context, first, last, hour=HOUR, **changes):
    """Views of one user with the offsets [first, last), a minute apart."""
    lake_helpers.write(context, [lake_helpers.screen_view(number, hour + number * MINUTE, **changes) for number in range(first, last)])


def facts(context, hour=HOUR):
    found = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, hour)))
    return {name: found[name] for name in ("rows", "rows_in", "duplicates")}


def counted(rows, rows_in=None, duplicates=0):
    return {"rows": rows, "rows_in": rows if rows_in is None else rows_in, "duplicates": duplicates}


def test_a_range_with_rows_on_both_sides_of_what_a_unit_carries_is_not_counted_twice(context):
    put(context, 0, 2)
    refresh.hours(context, [HOUR])
    put(context, 2, 4)
    archive(context.lake)
    put(context, 4, 5)
    expire(context.lake)
    assert waits.compute(context).hours == {HOUR: "raw"}
    assert backlog.measure(context, [HOUR]).rows == 5, "an upper bound: the range tells no number beyond an offset"
    refresh.hours(context, [HOUR])
    assert facts(context) == counted(5)
    assert not waits.compute(context).hours


def test_of_a_part_only_what_a_unit_lacks_is_read(context):
    """Two chains in one part: a unit carries the one, and gets the other."""
    put(context, 0, 2)
    refresh.hours(context, [HOUR])
    put(context, 0, 3, kafka_partition=1, user_id="u2")
    put(context, 2, 3, HOUR + timedelta(hours=5))
    archive(context.lake)
    (source,) = arrivals.lacking(context_sources(context), HOUR, offsets(context), 2).new
    assert source.chain.partition == 1
    refresh.hours(context, [HOUR])
    assert facts(context) == counted(5 - 2, 5, 2), "the same event ids in both chains: copies"


def context_sources(context):
    context.index.sync()
    return context.index.touching(HOUR)


def offsets(context):
    return context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, HOUR)))["offsets"]


def test_an_archived_lake_asks_for_nothing_and_a_rebuild_from_the_archive_alone_makes_the_same_objects(context):
    put(context, 0, 3)
    put(context, 3, 40)
    put(context, 40, 41, HOUR + timedelta(hours=9))
    refresh.days(context, [HOUR.date()])
    before = {entry.key: context.lake.read(entry.key) for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}
    archive(context.lake, context.index)
    expire(context.lake, context.index)
    assert [entry.key for entry in context.lake.list("raw")] == [CHAIN.key(40)]
    assert not waits.compute(context)
    refresh.days(context, [HOUR.date()], rebuild=True)
    assert not waits.compute(context)
    for key, data in before.items():
        assert rows_of(context.lake.read(key)).equals(rows_of(data)), key


def rows_of(data):
    return pq.ParquetFile(pa.BufferReader(data)).read().replace_schema_metadata(None)


def test_an_object_that_expires_while_it_is_read_is_found_in_the_archive(context, monkeypatch):
    put(context, 0, 3)
    put(context, 3, 4)
    real, looks = events.arrivals.relation, []

    def expires_first(opened, sources, left_out=()):
        looks.append([source.key for source in sources])
        if len(looks) == 1:
            archive(context.lake)
            expire(context.lake)
        return real(opened, sources, left_out)

    monkeypatch.setattr(events.arrivals, "relation", expires_first)
    events.refresh(context, HOUR)
    assert [len(set(keys)) for keys in looks] == [2, 1]
    assert facts(context) == counted(4)


def test_an_object_whose_name_was_taken_by_others_while_it_was_read_is_not_believed(context, monkeypatch):
    """0 was archived and expired, and a writer that slept since writes [0, 4) under its name."""
    put(context, 0, 2)
    put(context, 2, 4)
    real, looks = events.arrivals.relation, []

    def replaced_first(opened, sources, left_out=()):
        looks.append(1)
        if len(looks) == 1:
            archive(context.lake)
            expire(context.lake)
            with monkeypatch.context() as free:
                free.setattr(files, "last_link", lambda *_: None)
                put(context, 0, 4)
        return real(opened, sources, left_out)

    monkeypatch.setattr(events.arrivals, "relation", replaced_first)
    events.refresh(context, HOUR)
    assert facts(context) == counted(4)


def test_objects_that_vanish_at_every_look_are_told_as_transient(context, monkeypatch):
    put(context, 0, 2)
    monkeypatch.setattr(events.arrivals, "require_same", always_changed)
    with pytest.raises(TransientError, match="vanished or were replaced at each of 4 looks"):
        events.refresh(context, HOUR)


def always_changed(_lake, _entries):
    raise arrivals.Changed("replaced")


def test_late_records_of_an_archived_day_wait_and_are_added(context):
    put(context, 0, 2)
    refresh.days(context, [HOUR.date()])
    archive(context.lake)
    put(context, 2, 3, received_at=HOUR + timedelta(days=3))
    assert waits.compute(context).hours == {HOUR: "raw"}
    refresh.days(context, [HOUR.date()])
    assert facts(context) == counted(3)
    archive(context.lake, now=archive_helpers.LATER)
    expire(context.lake)
    assert not waits.compute(context)


def test_a_damaged_part_takes_no_rows_from_a_unit_and_stops_no_new_ones(context):
    """What was known of it stays known: a rebuild fails by name instead of making the unit from less."""
    put(context, 0, 2)
    put(context, 2, 3)
    refresh.hours(context, [HOUR])
    (part,) = archive(context.lake, context.index).parts
    expire(context.lake, context.index)
    context.index.sync()
    path = context.lake.path(part.name.key)
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    with pytest.raises(Exception, match="part-0"):
        refresh.hours(context, [HOUR], rebuild=True)
    assert facts(context) == counted(3)
    put(context, 3, 4)
    refresh.hours(context, [HOUR])
    assert facts(context) == counted(4)
    assert [finding.text.split(":")[0] for finding in audited.audited(context).findings] == [part.name.key]
    path.write_bytes(whole)
    refresh.hours(context, [HOUR], rebuild=True)
    assert facts(context) == counted(4)
    assert not waits.compute(context).hours
