"""Quarantine: a refused candidate is kept with its verdict, one incident as long as it fails alike, until it passes or is released."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement.contract import TimeWindow
from engagement.errors import PermanentError
from engagement.model import units
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.tables import big_table, events
from engagement.tables.objects import Candidate
from engagement.verdicts import quarantine
from engagement.verdicts.result import Period
from engagement.waiting import refresh, waits
from quality import gates

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
NEXT = HOUR + units.HOUR
UNIT = "events/2026-03-11-10:00"
KEY = f"quarantine/{units.slot_key(units.EVENTS, HOUR)}"
NOW = datetime(2026, 3, 12, tzinfo=UTC)
CHAIN = topic_chain("session", "5e" * 16, 0)


def event(number, minutes=0.0, **changes):
    return lake_helpers.screen_view(number, HOUR + timedelta(minutes=minutes), received_at=HOUR + timedelta(days=1), **changes)


def write(context, *found, lie=0):
    """A raw object of these events, whose footer claims `lie` more of them in the first hour."""
    window = TimeWindow.of(context.format.history_start, 300, 30)
    records = [rows.Record(item.kafka_offset, item.received_at, item.user_id.encode(), lake_helpers.payload(item)) for item in found]
    batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), records, window, context.format.slot_minutes)
    slots = {slot: count + (lie if slot == HOUR else 0) for slot, count in batch.event_slots.items()}
    start = found[0].kafka_offset
    files.write(context.lake, CHAIN, start, found[-1].kafka_offset + 1 + lie, replace(batch, event_slots=slots))


def judged(context):
    """The context with real gates in force, as runs have them."""
    judges = gates.Gates(context)
    context.judge, context.judge_all = judges.judge, judges.judge_all
    return context


@pytest.fixture
def context(tmp_path):
    """Two hours; the raw object of the first claims a row that it does not hold."""
    with lake_helpers.tables_of(tmp_path) as found:
        write(found, event(0), event(1, 65), lie=1)
        yield judged(found)


def test_a_refused_candidate_is_kept_with_its_verdict_and_the_others_are_published(context):
    refresh.hours(context, [HOUR, NEXT])
    (incident,) = quarantine.held(context.lake)
    assert (incident.key, incident.unit, incident.period) == (KEY, UNIT, Period(HOUR))
    assert (incident.failed, incident.times) == ({"events_accounted_for": 1}, 1)
    assert pq.ParquetFile(context.lake.path(KEY)).read()["event_id"].to_pylist() == [event(0).event_id]
    assert context.lake.stat(units.slot_key(units.EVENTS, HOUR)) is None
    assert context.lake.stat(units.slot_key(units.SESSIONS, NEXT)) is not None
    assert HOUR in waits.compute(context).hours


def test_judging_again_is_the_same_incident(context):
    events.refresh(context, HOUR)
    (first,) = quarantine.held(context.lake)
    assert events.refresh_all(context, [HOUR])[HOUR].held == "events_accounted_for (1 violations)"
    (again,) = quarantine.held(context.lake)
    assert (again.since, again.times) == (first.since, 2)


def test_another_failure_of_the_same_unit_is_another_incident(context):
    candidate = Candidate(context.typed(None, units.EVENTS), {"offsets": {"a": 1}}, HOUR, units.slot_key(units.EVENTS, HOUR))
    quarantine.hold(context.lake, units.EVENTS, candidate, {"one": 3}, NOW)
    same = quarantine.hold(context.lake, units.EVENTS, candidate, {"one": 4}, NOW + units.HOUR)
    assert (same.since, same.times, same.failed) == (NOW, 2, {"one": 4})
    other = quarantine.hold(context.lake, units.EVENTS, candidate, {"one": 4, "two": 1}, NOW + units.DAY)
    assert (other.since, other.times) == (NOW + units.DAY, 1)


def test_a_unit_that_passes_leaves_quarantine_by_itself(context):
    refresh.hours(context, [HOUR, NEXT])
    key = f"raw/{CHAIN.label}/{0:020d}.parquet"
    context.lake.delete(key)
    write(context, event(0), event(1, 65))
    refresh.until_nothing_waits(context)
    assert quarantine.held(context.lake) == []
    assert context.lake.stat(KEY) is None
    assert not waits.compute(context)


def test_what_was_released_is_published_and_by_a_rebuild_too(context):
    refresh.hours(context, [HOUR, NEXT])
    quarantine.release(context.lake, quarantine.of_unit(context.lake, UNIT))
    assert events.refresh(context, HOUR).published
    assert quarantine.held(context.lake) == []
    assert events.refresh(context, HOUR, rebuild=True).held is None
    assert events.refresh_all(context, [HOUR], rebuild=True)[HOUR].held is None


def test_newer_rows_of_a_released_unit_pass_while_no_more_are_wrong(context):
    events.refresh(context, HOUR)
    quarantine.release(context.lake, quarantine.of_unit(context.lake, UNIT))
    write(context, event(3, 2))
    assert events.refresh(context, HOUR).published


def test_a_release_covers_these_offsets_or_no_more_violations_of_the_same_checks():
    release = quarantine.Release({"one": 2}, "offsets")
    assert release.covers("offsets", {"one": 2})
    assert release.covers("offsets", {"one": 9})
    assert release.covers("others", {"one": 1})
    assert not release.covers("others", {"one": 3})
    assert not release.covers("offsets", {"one": 2, "two": 1})


def test_only_a_held_unit_can_be_released(context):
    events.refresh(context, HOUR)
    with pytest.raises(PermanentError, match=r"^sessions/2026-03-11-10:00 is not held; units that are: events/2026-03-11-10:00$"):
        quarantine.of_unit(context.lake, "sessions/2026-03-11-10:00")


def test_releases_that_cannot_be_read_release_nothing(context):
    context.lake.replace(quarantine.RELEASES, b"{", None)
    with pytest.raises(PermanentError, match=r"releases\.json is not readable"):
        quarantine.released(context.lake, KEY)


def test_each_hour_of_the_hour_rows_is_held_for_itself_and_the_day_for_itself(context):
    table = context.typed(None, units.BIG_TABLE)
    hours = [Candidate(table, {}, hour, units.hours_key(HOUR.date())) for hour in (HOUR, NEXT)]
    for candidate in (*hours, Candidate(table, {}, None, units.day_key(HOUR.date()))):
        quarantine.hold(context.lake, units.BIG_TABLE, candidate, {"all_rows_add_up": 1})
    found = {incident.unit for incident in quarantine.held(context.lake)}
    assert found == {"hourly_engagement/2026-03-11-10:00", "hourly_engagement/2026-03-11-11:00", "daily_engagement/2026-03-11"}


def test_a_broken_builder_holds_the_hour_rows_and_the_page_keeps_the_last_good_ones(tmp_path, monkeypatch):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [event(0)])
        refresh.until_nothing_waits(judged(context))
        before = context.lake.read(units.hours_key(HOUR.date()))
        lake_helpers.write(context, [event(1, 2, country="FR")])
        made = big_table._rows
        monkeypatch.setattr(big_table, "_rows", lambda *asked: pa.concat_tables([made(*asked), made(*asked).slice(0, 1)]))
        refresh.hours(context, [HOUR])
        assert context.lake.read(units.hours_key(HOUR.date())) == before
        (incident,) = quarantine.held(context.lake)
        assert incident.failed.keys() == {"no_repeated_rows"}
        monkeypatch.undo()
        refresh.until_nothing_waits(judged(context))
        assert quarantine.held(context.lake) == []


def test_a_failed_gate_tells_the_rows_without_the_person(context):
    write(context, event(5, 3, user_id="somebody"))
    table = pa.concat_tables([context.typed(None, units.EVENTS)])
    events.refresh(context, HOUR)
    refused = pq.ParquetFile(context.lake.path(KEY)).read().cast(table.schema)
    twice = Candidate(pa.concat_tables([refused, refused]), {"rows_in": 4, "duplicates": 0}, HOUR, units.slot_key(units.EVENTS, HOUR))
    (failed,) = [found for found in gates.judge(context, units.EVENTS, twice) if found.check == "no_repeated_events"]
    assert failed.violations == 4
    assert "somebody" not in str(failed.sample)
    assert {row["user_id"] for row in failed.sample} == {"user 1", "user 2"}
    quarantine.hold(context.lake, units.EVENTS, twice, {"no_repeated_events": 4})
    assert len(context.con.execute(failed.query).fetchall()) == 4


def test_tables_without_gates_are_made_in_one_pass_too(tmp_path, monkeypatch):
    from engagement.tables import activity, fragments

    with lake_helpers.tables_of(tmp_path) as context:
        write(context, event(0), event(1, 65))
        judged(context)
        events.refresh_all(context, [HOUR, NEXT])
        for table in (fragments, activity):
            monkeypatch.setattr(table, "refresh", lambda *_asked, **_options: pytest.fail("made alone"))
            assert all(result.published for result in table.refresh_all(context, [HOUR, NEXT]).values())


def test_whoever_listens_hears_every_result(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        write(context, event(0))
        told = []
        judges = gates.Gates(context, told.append)
        context.judge, context.judge_all = judges.judge, judges.judge_all
        refresh.until_nothing_waits(context)
        wanted = {(suite.asset, gate.name) for table in gates.JUDGED for by_hour in (True, False)
                  for suite in gates.gate_suites(context, table, by_hour=by_hour) for gate in suite.constraints}  # fmt: skip
        assert {(result.asset, result.check) for result in told} == wanted
