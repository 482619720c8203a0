"""The asset graph as Dagster sees it: a golden snapshot, so that a change of lineage is seen in review; and how it loads."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path

import pytest
from dagster import AssetKey, Definitions, JobDefinition, TimeWindowPartitionMapping
from dagster._core.code_pointer import CodePointer
from dagster._core.definitions.reconstruct import initialize_repository_def_from_pointer
from dagster._core.workspace.autodiscovery import loadable_targets_from_python_module

from engagement.model import units
from engagement.model.model import built_in
from engagement_assets import definitions, partitions
from engagement_assets.common import column_lineage
from engagement_assets.definitions import build_definitions
from resources.names import CATALOG, DAILY_ASSETS, HOURLY_ASSETS
from resources.tables import Tables

ROOT = Path(definitions.__file__).parents[1]
GOLDEN = Path(__file__).with_name("asset_graph.json")
REWRITE = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_asset_graph.py"
START = date(2020, 1, 1)


@pytest.fixture(scope="module")
def defs():
    return build_definitions(START, Tables(environment={"ENGAGEMENT_MODEL": ""}))


@pytest.fixture(scope="module")
def graph(defs):
    return defs.resolve_asset_graph()


def snapshot(defs: Definitions) -> dict:
    """Everything a reviewer wants to see change, as plain sorted JSON values."""
    repository, graph = defs.get_repository_def(), defs.resolve_asset_graph()
    return {
        "assets": {key.to_user_string(): asset(graph.get(key)) for key in graph.get_all_asset_keys()},
        "checks": {
            key.to_user_string(): {"blocking": graph.get(key).blocking, "partitions": cut(graph.get(key).partitions_def)}
            for key in graph.asset_check_keys
        },
        "jobs": {job.name: job_of(repository, job) for job in defs.jobs},
        "sensors": {
            sensor.name: {
                "default_status": sensor.default_status.value,
                "jobs": sorted(target.job_name for target in sensor.targets),
                "minimum_interval_seconds": sensor.minimum_interval_seconds,
            }
            for sensor in repository.sensor_defs
        },
        "schedules": {
            schedule.name: {"cron": schedule.cron_schedule, "default_status": schedule.default_status.value, "job": schedule.job_name}
            for schedule in repository.schedule_defs
        },
        "resources": {name: type(resource).__name__ for name, resource in (defs.resources or {}).items()},
        "executor": defs.executor.name,
    }


def asset(node) -> dict:
    return {
        "group": node.group_name,
        "description": node.description,
        "kinds": sorted(node.kinds),
        "external": node.is_external,
        "deps": {parent.to_user_string(): mapping(node.partition_mappings.get(parent)) for parent in node.parent_keys},
        "partitions": cut(node.partitions_def),
        "freshness": freshness(node.freshness_policy),
        "backfill": node.backfill_policy and str(node.backfill_policy),
        "columns": ", ".join(column.name for column in schema.columns) if (schema := node.metadata.get("dagster/column_schema")) else None,
    }


def mapping(found) -> str:
    """The mapping written into the dependency; without one Dagster's default overlaps time windows."""
    return repr(found) if found else "default"


def cut(found) -> dict | None:
    return found and {
        "kind": type(found).__name__,
        "start": found.start.isoformat(),
        "end_offset": found.end_offset,
        "timezone": found.timezone,
        "format": found.fmt,
    }


def freshness(policy) -> dict | None:
    return policy and {
        "kind": type(policy).__name__,
        "warn_seconds": policy.warn_window.to_timedelta().total_seconds(),
        "fail_seconds": policy.fail_window.to_timedelta().total_seconds(),
    }


def job_of(repository, job) -> dict:
    if isinstance(job, JobDefinition):
        return {"steps": sorted(node.name for node in job.graph.nodes), "executor": job.executor_def.name, "tags": dict(job.tags)}
    layer = repository.get_job(job.name).asset_layer
    return {
        "selection": str(job.selection),
        "assets": sorted(key.to_user_string() for key in layer.executable_asset_keys),
        "checks": sorted(key.to_user_string() for key in layer.asset_graph.asset_check_keys),
        "executor": job.executor_def and job.executor_def.name,
    }


def test_the_asset_graph_is_the_golden_one(defs):
    found = json.dumps(snapshot(defs), indent=2, sort_keys=True) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(found)
    golden = GOLDEN.read_text() if GOLDEN.exists() else "{}"
    change = "\n".join(difflib.unified_diff(golden.splitlines(), found.splitlines(), "committed", "found", lineterm="", n=4))
    assert not change, f"the asset graph changed; if that is meant, rewrite its snapshot and commit it: {REWRITE}\n{change}"


def test_column_schemas_follow_the_declared_model(tmp_path, defs):
    (tmp_path / "model.toml").write_text('[dimensions.region]\ncolumn = "region"\nall = "ALL_REGIONS"\ncomment = "where"\n')
    found = snapshot(build_definitions(START, Tables(environment={}, folder=str(tmp_path))))["assets"]
    plain = snapshot(defs)["assets"]
    changed = {name for name in found if found[name].get("columns") != plain[name].get("columns")}
    assert changed == {"session_fragments", "user_activity", "sessions", "hourly_engagement", "daily_engagement"}
    assert "country, region, total_events" in found["daily_engagement"]["columns"]


def test_every_asset_has_a_freshness_policy_a_description_and_a_group(graph):
    keys = graph.get_all_asset_keys()
    assert {key.to_user_string() for key in keys} == {"raw_events", "raw_archive", *HOURLY_ASSETS, *DAILY_ASSETS, CATALOG}
    for node in map(graph.get, keys):
        assert node.freshness_policy, node.key
        assert node.description, node.key
        assert node.group_name in ("raw", "processed", "aggregated", "catalog"), node.key


def test_every_asset_that_dagster_runs_is_in_exactly_one_refresh_job_and_the_catalog_ends_both(defs, graph):
    of_jobs = [key for job in defs.jobs for key in defs.get_repository_def().get_job(job.name).asset_layer.executable_asset_keys]
    catalog = AssetKey([CATALOG])
    assert of_jobs.count(catalog) == 2
    assert sorted(of_jobs) == sorted([*graph.executable_asset_keys, catalog])


def test_hours_reach_the_hours_that_rule_7_needs(graph):
    reach = TimeWindowPartitionMapping(-47, 47, allow_nonexistent_upstream_partitions=True)
    (sessions,) = [graph.get(key) for key in graph.get_all_asset_keys() if key.to_user_string() == "sessions"]
    assert list(sessions.partition_mappings.values()) == [reach]


def test_partitions_start_where_the_lakes_history_starts():
    for start in (date(2020, 1, 1), date(2026, 10, 31)):
        found = partitions.build(start)
        assert found.hours.get_first_partition_key() == f"{start}-00:00"
        assert found.days.get_first_partition_key() == str(start)


def loaded_as_dagster_does() -> Definitions:
    """The attribute that Dagster finds in the module of workspace.yaml, evaluated the way a code server does it."""
    module = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dagster"]["module_name"]
    assert f"module_name: {module}\n" in (ROOT / "workspace.yaml").read_text()
    (target,) = loadable_targets_from_python_module(module, str(ROOT))
    return initialize_repository_def_from_pointer(CodePointer.from_module(module, target.attribute, str(ROOT)))


def test_the_code_location_is_built_from_the_environments_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", str(tmp_path / "some" / "lake"))
    monkeypatch.setenv("ENGAGEMENT_HISTORY_START", "2026-03-01")
    graph = loaded_as_dagster_does().asset_graph
    cuts = [graph.get(key).partitions_def for key in graph.get_all_asset_keys()]
    starts = {found.start.date() for found in cuts if found}
    assert starts == {date(2026, 3, 1)}
    assert (tmp_path / "some" / "lake" / "lake.json").exists()


def test_importing_the_definitions_reads_no_setting_and_creates_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path), "ENGAGEMENT_NONSENSE": "1"}
    code = "import engagement_assets.definitions as d; assert callable(d.defs)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_column_shows_in_dagster_where_it_comes_from():
    lineage = column_lineage(units.BIG_TABLE, "hourly_engagement", built_in())
    (behind,) = lineage.deps_by_column["bounce_rate"]
    assert (behind.asset_key.to_user_string(), behind.column_name) == ("sessions", "is_bounce")
    lineage = column_lineage(units.EVENTS, "events", built_in())
    assert [(item.asset_key.to_user_string(), item.column_name) for item in lineage.deps_by_column["user_id"]] == [
        ("raw_events", "user_id")
    ]


def test_a_column_says_what_it_is_made_from_where_the_free_ui_shows_it(defs):
    schema = defs.resolve_asset_graph().get(AssetKey("hourly_engagement")).metadata["dagster/column_schema"]
    described = {column.name: column.description for column in schema.columns}
    assert described["total_events"] == "events ← user_activity.total_events"
