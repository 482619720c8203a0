"""Backfills that were asked for: how far they are, and what the sensor asks for next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from dagster import DagsterInstance, DagsterRunStatus, job, op
from hypothesis import given
from hypothesis import strategies as st

from engagement.exporter import dagster as exported
from engagement.model import units
from resources import tags
from resources.names import DAILY_ASSETS, HOURLY_ASSETS
from sensors import arrivals, backfills
from sensors.backfills import Backfill
from sensors.chunks import Chunk, of_tags

DAY = datetime(2026, 3, 10, tzinfo=UTC)
LATER = DAY + timedelta(days=30)
TWO_DAYS = Backfill(DAY, DAY + units.DAY, None, LATER, LATER)


@op
def nothing():
    """A step."""


@job
def work():
    nothing()


@pytest.fixture
def instance():
    with DagsterInstance.ephemeral() as found:
        yield found


def started(instance, requests, status=DagsterRunStatus.STARTED):
    """What the daemon does with requests: runs, of this status."""
    return [instance.create_run_for_job(work, tags=dict(request.tags), status=status) for request in requests]


def asked(requests):
    return [str(of_tags(request.tags)) for request in requests]


instants = st.integers(0, 10 * 365 * 86_400_000_000).map(lambda us: datetime(2020, 1, 1, tzinfo=UTC) + timedelta(microseconds=us))
days = instants.map(units.floor_day)
chosen = st.none() | st.lists(st.sampled_from([*HOURLY_ASSETS, *DAILY_ASSETS]), min_size=1, unique=True).map(tuple)


@given(st.builds(Backfill, days, days, chosen, instants, instants))
def test_a_request_reads_back_as_what_was_asked_for(backfill):
    assert backfills.parse(backfill.key) == backfill


@given(days, st.integers(0, 60), st.booleans())
def test_a_chunk_reads_back_from_its_tags(first, length, daily):
    chunk = Chunk(first, first + length * (units.DAY if daily else units.HOUR), daily)
    assert of_tags(chunk.tags("backfill")) == chunk
    assert len(list(chunk.hours())) == chunk.units * (24 if daily else 1)


def test_hours_before_their_days_two_runs_at_a_time_and_the_request_is_forgotten_at_its_end(instance):
    backfills.ask(instance, TWO_DAYS)
    told = []
    while requests := backfills.evaluate(instance):
        told += asked(requests)
        assert len(requests) == 2
        assert backfills.evaluate(replaced(instance, requests)) == [], "two are under way"
        for run in instance.get_runs():
            if run.status is DagsterRunStatus.STARTED:
                finish(instance, run, DagsterRunStatus.SUCCESS)
    assert told == ["2026-03-10-00:00 … 2026-03-10-23:00", "2026-03-10", "2026-03-11-00:00 … 2026-03-11-23:00", "2026-03-11"]
    assert backfills.asked(instance) == []


def replaced(instance, requests):
    started(instance, requests)
    return instance


def finish(instance, run, status):
    instance.run_storage.handle_run_event(run.run_id, ended(run, status))


def ended(run, status):
    from dagster._core.events import DagsterEvent, DagsterEventType, JobFailureData, RunFailureReason

    if status is DagsterRunStatus.SUCCESS:
        return DagsterEvent(DagsterEventType.RUN_SUCCESS.value, run.job_name)
    why = JobFailureData(None, RunFailureReason.STEP_FAILURE)
    return DagsterEvent(DagsterEventType.RUN_FAILURE.value, run.job_name, event_specific_data=why)


def test_a_run_that_failed_stops_no_other_and_is_done_again_by_the_next_attempt_alone(instance):
    backfills.ask(instance, TWO_DAYS)
    first, second = started(instance, backfills.evaluate(instance))
    finish(instance, first, DagsterRunStatus.FAILURE)
    finish(instance, second, DagsterRunStatus.SUCCESS)
    for run in started(instance, backfills.evaluate(instance)):
        finish(instance, run, DagsterRunStatus.SUCCESS)
    assert backfills.evaluate(instance) == []
    assert [str(chunk) for chunk in backfills.standing(instance, TWO_DAYS).failed] == ["2026-03-10-00:00 … 2026-03-10-23:00"]

    again = backfills.resumed(instance, replace(TWO_DAYS, since=LATER + units.HOUR, began=LATER + units.HOUR))
    assert (again.since, again.began) == (LATER, LATER + units.HOUR)
    backfills.ask(instance, again)
    (request,) = backfills.evaluate(instance)
    assert asked([request]) == ["2026-03-10-00:00 … 2026-03-10-23:00"]
    (run,) = started(instance, [request])
    finish(instance, run, DagsterRunStatus.SUCCESS)
    assert len(backfills.standing(instance, again).done) == 4


def test_the_same_days_asked_for_anew_are_all_done_again(instance):
    for run in started(instance, [backfills.run_request(TWO_DAYS, chunk) for chunk in TWO_DAYS.chunks()]):
        finish(instance, run, DagsterRunStatus.SUCCESS)
    assert backfills.standing(instance, TWO_DAYS).over
    anew = replace(TWO_DAYS, since=LATER + units.HOUR, began=LATER + units.HOUR)
    assert len(backfills.standing(instance, anew).left) == 4


def test_only_chosen_assets_and_the_catalog_and_none_of_dagsters_own_checks(instance):
    backfills.ask(instance, replace(TWO_DAYS, assets=("sessions", "daily_engagement")))
    hours, day = backfills.evaluate(instance)
    assert [key.to_user_string() for key in hours.asset_selection] == ["sessions", "catalog"]
    assert [key.to_user_string() for key in day.asset_selection] == ["daily_engagement", "catalog"]
    assert hours.asset_check_keys == day.asset_check_keys == []


def test_a_withdrawn_request_asks_for_nothing_more(instance):
    backfills.ask(instance, TWO_DAYS)
    backfills.withdraw(instance, TWO_DAYS)
    assert backfills.evaluate(instance) == []


def test_nobody_serves_where_no_daemon_has_ever_lived(instance):
    assert not backfills.is_served(instance, datetime.now(UTC))


def test_the_live_path_neither_waits_for_a_backfill_nor_learns_from_its_failures(instance):
    live = instance.create_run_for_job(work, tags=Chunk(DAY, DAY).tags("live"), status=DagsterRunStatus.STARTED)
    for chunk in (Chunk(DAY, DAY + 23 * units.HOUR), Chunk(DAY, DAY, days=True)):
        instance.create_run_for_job(work, tags=chunk.tags("backfill", rebuild=True), status=DagsterRunStatus.STARTED)
    assert [request.lane for request in arrivals.under_way(instance)] == ["live"]
    for run in instance.get_runs():
        finish(instance, run, DagsterRunStatus.FAILURE)
    assert [past.first for past in arrivals.past_runs(instance, "hours")] == [DAY]
    assert arrivals.past_runs(instance, "days") == []
    assert live.tags[tags.LANE] == "live"


def test_the_exporter_knows_requests_by_the_same_names():
    assert (exported.REQUESTS, exported.BACKFILL_OF) == (backfills.REQUESTS, tags.BACKFILL_OF)
