"""Dagster's records stay bounded and tell no less of any partition: on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lake_helpers
import postgres
import pytest
from dagster import (
    AssetCheckResult,
    AssetKey,
    AssetMaterialization,
    DagsterRunStatus,
    Definitions,
    StaticPartitionsDefinition,
    asset,
    asset_check,
    define_asset_job,
)
from dagster._core.events import DagsterEventType

from engagement import cli
from engagement.lake import open_lake
from engagement_assets import run_records
from engagement_assets.local_runs import local_instance

HOURS = StaticPartitionsDefinition(["one", "two", "three"])


@asset(partitions_def=HOURS)
def rows(context):
    context.log.info("so many rows")
    sys.stdout.write("and that is printed\n")
    context.add_output_metadata({"run": context.run_id})


@asset_check(asset=rows)
def whole():
    return AssetCheckResult(passed=True)


@asset
def unpartitioned():
    """Made by every run."""


DEFINITIONS = Definitions([rows, unpartitioned], asset_checks=[whole], jobs=[define_asset_job("refresh", [rows, unpartitioned])])
JOB = DEFINITIONS.resolve_job_def("refresh")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    with postgres.server(tmp_path_factory.mktemp("postgres") / "server") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def settings(request, tmp_path, monkeypatch):
    """Settings whose instance is of this kind."""
    if request.param == "postgres":
        monkeypatch.setenv("ENGAGEMENT_DAGSTER_STORAGE", request.getfixturevalue("database"))
        return lake_helpers.settings_of(tmp_path, dagster_storage=request.getfixturevalue("database"))
    return lake_helpers.settings_of(tmp_path)


@pytest.fixture
def instance(settings):
    with local_instance(settings) as found:
        yield found
        found.wipe()


def ran(instance, key):
    """One run over a partition."""
    result = JOB.execute_in_process(instance=instance, partition_key=key, tags={"lane": "live"})
    return result.run_id


def told(instance):
    """What Dagster knows of assets and checks: by partition the run that made it last, and the last evaluation."""
    found = {}
    for key in ("one", "two", "three"):
        records = instance.fetch_materializations(_of("rows", key), limit=1).records
        found[key] = records[0].run_id if records else None
    last = instance.get_latest_materialization_event(AssetKey("unpartitioned"))
    (check,) = instance.event_log_storage.get_asset_check_execution_history(whole.check_key, limit=1)
    return found, last.run_id, check.run_id, set(instance.get_materialized_partitions(AssetKey("rows")))


def _of(name, key):
    from dagster import AssetRecordsFilter

    return AssetRecordsFilter(AssetKey(name), asset_partitions=[key])


def left(instance):
    """How many of each: runs, tags, events of the index, evaluations, event files and folders of logs."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
    from dagster._core.storage.runs.schema import RunTagsTable
    from sqlalchemy import func, select

    def count(connection, table):
        return connection.execute(select(func.count()).select_from(table)).scalar()

    storage = instance.event_log_storage
    with storage.index_connection() as connection:
        numbers = [count(connection, table) for table in (SqlEventLogStorageTable, AssetCheckExecutionsTable)]
    with instance.run_storage.connect() as connection:
        numbers.append(count(connection, RunTagsTable))
    files = list(Path(storage.path_for_shard("x")).parent.glob("*-*.db")) if hasattr(storage, "path_for_shard") else []
    logs = Path(instance.compute_log_manager._base_dir)
    return [instance.get_runs_count(), *numbers, len(files), len(list(logs.glob("*-*"))) if logs.exists() else 0]


def test_superseded_runs_go_with_all_that_hangs_on_them_and_every_partition_keeps_its_newest(instance):
    for key in ("one", "two", "one", "two", "one"):
        ran(instance, key)
    for number in range(3):
        instance.report_runless_asset_event(AssetMaterialization("raw_events", partition=f"hour {number % 2}"))
    before, known = left(instance), told(instance)
    now = datetime.now(UTC)
    assert run_records.tidy(instance, now, dry_run=True) == run_records.Tidied(3, 3, 1, 2)
    assert left(instance) == before
    assert run_records.tidy(instance, now) == run_records.Tidied(3, 3, 1, 2)
    assert told(instance) == known
    after = left(instance)
    assert after[0] == 2
    assert after[2] == 2, "evaluations of the two runs that stay"
    assert after[3] * 5 == before[3] * 2, "tags"
    if before[4]:
        assert (before[4], after[4]) == (5, 2)
    assert (before[5], after[5]) == (5, 2)
    assert run_records.tidy(instance, datetime.now(UTC)) == run_records.Tidied(0, 0, 0, 2)
    runless = instance.event_log_storage.get_latest_storage_id_by_partition(AssetKey("raw_events"), DagsterEventType.ASSET_MATERIALIZATION)
    assert set(runless) == {"hour 0", "hour 1"}


def test_what_is_young_and_what_runs_stays(instance):
    ran(instance, "one")
    ran(instance, "one")
    instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    assert run_records.tidy(instance, datetime.now(UTC) - timedelta(days=1)) == run_records.Tidied(0, 0, 0, 0)
    assert instance.get_runs_count() == 3
    assert run_records.tidy(instance, datetime.now(UTC)).runs == 1
    assert instance.get_runs_count() == 2


def test_a_failed_run_goes_in_its_time_though_nothing_superseded_it(instance):
    run = instance.create_run_for_job(JOB, status=DagsterRunStatus.STARTED)
    instance.report_run_failed(run, "planted")
    assert run_records.tidy(instance, datetime.now(UTC)).runs == 1


def test_killed_in_between_it_goes_on(instance, monkeypatch):
    for _ in range(4):
        ran(instance, "one")
    known, real, calls = told(instance), run_records._remove_files, []

    def dying(found, run):
        calls.append(run)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(found, run)

    with monkeypatch.context() as patch:
        patch.setattr(run_records, "_remove_files", dying)
        with pytest.raises(KeyboardInterrupt):
            run_records.tidy(instance, datetime.now(UTC))
    assert told(instance) == known
    assert run_records.tidy(instance, datetime.now(UTC)).runs == 3
    assert told(instance) == known
    assert instance.get_runs_count() == 1


def test_so_many_at_once_the_oldest_first(instance):
    runs = [ran(instance, "one") for _ in range(4)]
    assert run_records.tidy(instance, datetime.now(UTC), at_once=2).runs == 2
    assert {run.run_id for run in instance.get_runs()} == set(runs[2:])


def test_maintain_says_how_many_go(settings, instance, monkeypatch, capsys):
    open_lake(settings)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    ran(instance, "one")
    assert cli.run(["maintain", "--dry-run"]) == 0
    assert "0 runs, 0 check evaluations and 0 events outside of runs are older than 2 days" in capsys.readouterr().out
