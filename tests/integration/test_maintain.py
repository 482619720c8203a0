"""The maintenance run as a whole: its order, its command, its job; a step that fails stops no other; two at once are safe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from dagster import DagsterInstance, DagsterRunStatus

from engagement import cli
from engagement.maintenance import run
from engagement.raw import archive, expiry
from engagement.waiting import refresh, waits
from engagement_assets import maintenance
from engagement_assets.definitions import build_definitions
from resources.tables import Tables

NOW = datetime.now(UTC)
OLD = NOW.replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=60)
STEPS = ["archive", "expire", "retention", "lifecycle", "sweep", "catalog"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake of two old days, tables made, once."""
    folder = tmp_path_factory.mktemp("made")
    with lake_helpers.tables_of(folder) as context:
        for day in range(2):
            events = [lake_helpers.screen_view(10 * day + number, OLD + timedelta(days=20 * day, minutes=number)) for number in range(3)]
            lake_helpers.write(context, events)
        refresh.until_nothing_waits(context)
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """That lake, a policy, and a temporary file of a dead writer; the working directory. Links keep the objects' versions."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"LAKE_URL": "lake", "STATE_DIR": "state", "THREADS": "1", "RAW_GRACE_MINUTES": "1"}.items():
        monkeypatch.setenv(f"ENGAGEMENT_{name}", value)
    shutil.copytree(made / "lake", tmp_path / "lake", copy_function=os.link, ignore=shutil.ignore_patterns(".*"))
    (tmp_path / "retention.toml").write_text("[events]\nexpire = 50\n")
    left = tmp_path / "lake" / ".tmp" / "1-1-left"
    left.parent.mkdir()
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    return tmp_path


@pytest.fixture
def engagement(capsys):
    def call(*arguments):
        capsys.readouterr()
        code = cli.run([*arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def objects(here):
    return {str(path.relative_to(here / "lake")): path.stat().st_mtime_ns for path in (here / "lake").rglob("*") if path.is_file()}


def by_step(found):
    return {step["step"]: step for step in found["steps"]}


def test_one_run_archives_lets_go_sweeps_and_shows_it(here, engagement):
    code, out, err = engagement("maintain", "--json")
    found = json.loads(out)
    assert (code, err, found["problems"]) == (0, "", [])
    assert [step["step"] for step in found["steps"]] == STEPS
    steps = by_step(found)
    assert steps["archive"]["objects"] == 2
    assert all(item.startswith("write archive/session/") for item in steps["archive"]["items"])
    assert steps["retention"]["items"] == [item for item in steps["retention"]["items"] if item.startswith("delete processed/app_events/")]
    assert steps["retention"]["objects"] == 1
    assert (steps["sweep"]["objects"], steps["sweep"]["bytes"]) == (1, 4)
    layers = {layer["layer"]: layer for layer in found["layers"]}
    assert (layers["raw"]["objects"], layers["archive"]["objects"], layers["events"]["objects"]) == (2, 2, 1)
    assert layers["archive"]["small"] == 2
    assert layers["archive"]["bytes"] == sum(path.stat().st_size for path in (here / "lake" / "archive").rglob("*.parquet"))
    again = by_step(json.loads(engagement("maintain", "--json")[1]))
    assert [again[name]["objects"] for name in ("archive", "retention", "sweep")] == [0, 0, 0]


def test_a_dry_run_lists_objects_and_bytes_and_does_nothing(here, engagement):
    before = objects(here)
    code, out, _ = engagement("maintain", "--dry-run", "--json")
    steps = by_step(json.loads(out))
    assert (code, steps["archive"]["objects"], steps["retention"]["objects"], steps["sweep"]["objects"]) == (0, 2, 1, 1)
    assert steps["archive"]["bytes"] > 0
    assert objects(here) == before
    code, out, _ = engagement("maintain", "--dry-run")
    assert "archive    would be 2 objects" in out
    assert objects(here) == before


@pytest.mark.usefixtures("here")
def test_a_step_that_fails_stops_no_other_and_is_told(engagement, monkeypatch):
    def broken(*_arguments, **_options):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(archive, "archive", broken)
    code, out, err = engagement("maintain")
    assert code == 1
    assert err == "engagement: archive: ZeroDivisionError: a defect\n"
    assert "sweep      1 object, 4 bytes" in out
    code, out, err = engagement("maintain", "--json")
    assert (code, json.loads(out)["problems"]) == (1, ["archive: ZeroDivisionError: a defect"])


def test_a_policy_that_cannot_be_used_is_told_in_one_line_and_nothing_goes(here, engagement):
    (here / "retention.toml").write_text("[events]\nexpire = 3\n")
    code, out, err = engagement("maintain", "--json")
    steps = by_step(json.loads(out))
    assert code == 1
    assert err.splitlines()[0].startswith("engagement: retention: retention.toml: [events] expire = 3: must be at least 33")
    assert (steps["retention"]["objects"], steps["archive"]["objects"]) == (0, 2)


def test_without_a_lake_none_is_made(tmp_path, monkeypatch, engagement):
    monkeypatch.chdir(tmp_path)
    code, _, err = engagement("maintain")
    assert code == 1
    assert err.startswith("engagement: there is no lake at ")
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_it_once(here):
    command = [sys.executable, "-m", "engagement", "maintain", "--json"]
    both = [subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    found = [json.loads(process.communicate()[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(by_step(one)["archive"]["objects"] for one in found) == 2
    with lake_helpers.tables_of(here) as context:
        assert not waits.compute(context)
        assert sum(item.rows for part in context.index.archive().parts for _, item, _ in part.in_order()) == 6


def test_what_was_archived_long_enough_ago_expires_and_tables_are_rebuilt_from_the_archive(here, engagement):
    engagement("maintain")
    with lake_helpers.tables_of(here) as context:
        late = context.lake.clock() + timedelta(hours=1)
        assert expiry.expire(context.lake, grace=timedelta(minutes=1), now=late).objects == 1
        result = run.maintain_opened(context, NOW)
        assert result.problems == []
        assert not waits.compute(context)
        assert len(lake_helpers.table(context.settings, "SELECT * FROM events")) == 3


@pytest.fixture
def job(here):
    """Runs the job on an instance of its own, as the schedule does."""
    settings = lake_helpers.settings_of(here)
    definitions = build_definitions(settings.history_start, Tables(folder=str(here)))

    def call():
        with DagsterInstance.ephemeral() as instance:
            return definitions.resolve_job_def(maintenance.MAINTAIN_JOB).execute_in_process(instance=instance, raise_on_error=False)

    return call


def test_the_job_does_the_same_and_says_so_in_its_metadata(job):
    result = job()
    assert result.dagster_run.status == DagsterRunStatus.SUCCESS
    (event,) = [event for event in result.all_events if event.event_type_value == "STEP_OUTPUT"]
    found = event.step_output_data.metadata
    assert (found["archive_objects"].value, found["retention_objects"].value, found["sweep_bytes"].value) == (2, 1, 4)
    assert "write archive/session/" in found["archive_what"].value
    assert {record.data["layer"] for record in found["layers"].records} >= {"raw", "archive", "events", "day_rows"}
    written = [event for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"]
    days = {event.partition: event.step_materialization_data.materialization.metadata for event in written}
    assert sum(found["parts_written"].value for found in days.values()) == 2
    assert all(found["raw_offsets"].value and found["bytes"].value > 0 for found in days.values())


def test_the_job_fails_at_its_end_and_names_what_failed(job, monkeypatch):
    monkeypatch.setattr(archive, "archive", lambda *_arguments, **_options: 1 / 0)
    result = job()
    assert result.dagster_run.status == DagsterRunStatus.FAILURE
    (event,) = [event for event in result.all_events if event.is_step_failure]
    assert "archive: ZeroDivisionError" in event.step_failure_data.user_failure_data.description
    assert event.step_failure_data.user_failure_data.metadata["sweep_objects"].value == 1
