"""The instance file for AWS: Dagster takes it, and it runs the same lanes as the one for a machine."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.config import dagster_instance_config_schema

ROOT = Path(__file__).parents[2]
HERE, AWS = (yaml.safe_load((ROOT / name).read_text()) for name in ("dagster.yaml", "deploy/dagster-aws.yaml"))


def test_it_has_all_that_the_file_for_one_machine_has():
    assert {name: AWS.get(name) for name in HERE} == HERE


def test_dagster_knows_every_section():
    known = set(dagster_instance_config_schema())
    assert set(AWS) <= known


@pytest.mark.parametrize("section", ["compute_logs", "run_launcher", "run_coordinator"])
def test_the_classes_take_their_configuration(section, monkeypatch):
    monkeypatch.setenv("DAGSTER_LOGS_BUCKET", "logs")
    made = AWS[section]
    found = getattr(importlib.import_module(made["module"].replace("dagster.core", "dagster._core")), made["class"])
    checked = process_config(resolve_to_config_type(found.config_type()), made["config"])
    assert checked.success, checked.errors
