"""Archive rows expire, what parts cover does not: chains stay whole, writers resume where they did, nothing waits or is made into less."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest

from engagement.lake import Changed
from engagement.maintenance import retention
from engagement.maintenance.policy import Policy, Rule
from engagement.model import units
from engagement.raw import archive, coverage, expiry, files, footers
from engagement.raw.audit import audit
from engagement.raw.names import topic_chain
from engagement.waiting import refresh, waits

FIRST = datetime(2026, 3, 10, tzinfo=UTC)
DAYS = [FIRST + number * units.DAY for number in range(4)]
NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
CHAIN = topic_chain("session", "5e" * 16, 0)
ARCHIVE_39 = Policy({"archive": Rule(expire=39)}, declared=True)
"""Ingest days before 12 March go."""
OPEN = date(2026, 3, 13)


def flush(context, day, first, count=3):
    events = [lake_helpers.screen_view(first + number, day + timedelta(hours=10, minutes=number)) for number in range(count)]
    lake_helpers.write(context, events)


def archived(context):
    archive.archive(context.lake, now=NOW, after=timedelta(0), index=context.index)
    expiry.expire(context.lake, grace=timedelta(0), index=context.index)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of four ingest days, tables made, archived, and all raw objects but the last of the chain expired."""
    folder = tmp_path_factory.mktemp("made")
    with lake_helpers.tables_of(folder) as opened:
        for number, day in enumerate(DAYS):
            flush(opened, day, 10 * number)
        refresh.until_nothing_waits(opened)
        archived(opened)
    return folder


@pytest.fixture
def context(made, tmp_path):
    shutil.copytree(made / "lake", tmp_path / "lake", copy_function=os.link)
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


def parts(context):
    return {entry.key: coverage.read_part(context.lake, entry.key) for entry in context.lake.list("archive")}


def rows_by_day(context):
    return {key.split("day=")[1][:2]: sum(item.rows for _, item, _ in part.in_order()) for key, part in parts(context).items()}


def tables(context):
    return {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}


def events(context):
    return lake_helpers.table(context.settings, "SELECT * FROM events ORDER BY ALL")


def test_rows_of_old_ingest_days_go_and_what_they_cover_stays(context):
    before = coverage.coverage(context.lake)
    assert rows_by_day(context) == {"10": 3, "11": 3, "12": 3, "13": 3}
    step = retention.apply(context, ARCHIVE_39, NOW)
    assert [item for item in step.items if "archive/" in item] == step.items
    assert step.objects == 2
    assert rows_by_day(context) == {"10": 0, "11": 0, "12": 3, "13": 3}
    assert coverage.coverage(context.lake) == before
    assert files.last_link(context.lake, CHAIN).end == 33
    (chain,) = audit(context.index).chains
    assert (chain.whole, chain.rows, chain.expired, chain.without_rows) == (True, 6, 6, 21)


def test_nothing_waits_and_tables_of_final_days_are_made_no_more(context):
    retention.apply(context, ARCHIVE_39, NOW)
    assert not waits.compute(context)
    before, rows = tables(context), events(context)
    for day in DAYS:
        refresh.days(context, [day.date()], rebuild=True)
    assert tables(context) == before
    assert events(context) == rows
    assert len(rows) == 12


def test_an_open_day_is_rebuilt_from_what_the_archive_still_holds(context):
    rows = events(context)
    retention.apply(context, ARCHIVE_39, NOW)
    context.lake.delete(units.slot_key(units.EVENTS, DAYS[3] + timedelta(hours=10)))
    assert len(events(context)) == 9
    refresh.days(context, [DAYS[3].date()], rebuild=True)
    assert events(context) == rows


def test_a_second_run_finds_nothing_to_empty(context):
    retention.apply(context, ARCHIVE_39, NOW)
    versions = {entry.key: entry.version for entry in context.lake.list("archive")}
    assert retention.apply(context, ARCHIVE_39, NOW).objects == 0
    assert {entry.key: entry.version for entry in context.lake.list("archive")} == versions


def test_a_dry_run_says_the_same_and_does_nothing(context):
    versions = {entry.key: entry.version for entry in context.lake.list("")}
    said = retention.apply(context, ARCHIVE_39, NOW, dry_run=True)
    assert {entry.key: entry.version for entry in context.lake.list("")} == versions
    assert said.items == retention.apply(context, ARCHIVE_39, NOW).items


def test_the_raw_object_that_a_chain_resumes_behind_stays_without_its_rows(context):
    """It has to stay for ever; kept as it was it would hold its rows for ever too."""
    everything = Policy({"archive": Rule(expire=33)}, declared=True)
    (last,) = [entry.key for entry in context.lake.list("raw")]
    assert footers.read(context.lake, last).rows == 3
    step = retention.apply(context, everything, NOW)
    assert f"empty {last}" in step.items
    found = footers.read(context.lake, last)
    assert (found.rows, found.expired, found.start, found.end, found.event_slots) == (0, 3, 23, 33, {})
    assert files.last_link(context.lake, CHAIN).end == 33
    assert not waits.compute(context)
    assert audit(context.index).findings == ()
    assert retention.apply(context, everything, NOW).objects == 0
    flush(context, datetime(2026, 4, 20, tzinfo=UTC), 40)
    refresh.until_nothing_waits(context)
    assert len(events(context)) == 15


def test_raw_objects_whose_part_was_emptied_first_expire_all_the_same(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        for number, day in enumerate(DAYS[:2]):
            flush(context, day, 10 * number)
        refresh.until_nothing_waits(context)
        archive.archive(context.lake, now=NOW, after=timedelta(0), index=context.index)
        assert retention.apply(context, ARCHIVE_39, NOW).objects == 4
        report = expiry.expire(context.lake, grace=timedelta(0), index=context.index)
        assert (report.objects, report.problems) == (1, ())
        assert audit(context.index).findings == ()
        assert files.last_link(context.lake, CHAIN).end == 13


def test_a_part_with_rows_of_an_open_day_stays_whole(context):
    """Its sender's clock was days ahead; the day it meant may still be made again."""
    lake_helpers.write(context, [lake_helpers.screen_view(40, datetime(2026, 4, 1, tzinfo=UTC), received_at=DAYS[1])])
    refresh.until_nothing_waits(context)
    archived(context)
    step = retention.apply(context, ARCHIVE_39, NOW)
    (held,) = [note for note in step.notes if "days that are still open" in note]
    assert "day=11/part-1" in held
    assert len(events(context)) == 13


def test_erased_or_emptied_by_another_run_meanwhile_it_is_left_to_the_next(context, monkeypatch):
    def changed(*_arguments):
        raise Changed("another writer")

    with monkeypatch.context() as patch:
        patch.setattr(context.lake, "replace", changed)
        with pytest.raises(Changed):
            retention.apply(context, ARCHIVE_39, NOW)
    retention.record(context.lake, retention.Due({}, OPEN))
    with monkeypatch.context() as patch:
        real = context.lake.replace
        patch.setattr(context.lake, "replace", lambda key, *rest: changed() if key.startswith("archive") else real(key, *rest))
        assert retention.apply(context, ARCHIVE_39, NOW).objects == 0
    assert retention.apply(context, ARCHIVE_39, NOW).objects == 2


def test_a_part_that_cannot_be_read_is_named_and_left(context):
    key = next(iter(parts(context)))
    path = context.lake.path(key)
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[:-1])
    step = retention.apply(context, ARCHIVE_39, NOW)
    assert [problem for problem in step.problems if key in problem]
    assert step.objects == 1
