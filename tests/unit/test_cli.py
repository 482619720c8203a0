"""The command line in process: exit codes, one-line errors, what goes to stdout, and what a refused command leaves alone."""

# ruff: noqa: F811 - fixtures come by import
from __future__ import annotations

import json
import subprocess
import sys

import lake_helpers
import pytest
from cli_world import (  # noqa: F401 - fixtures among them
    DAY,
    dagsters_own_log,
    engagement,
    event,
    here,
    refused,
)

from engagement import cli, contract

# ------------------------------------------------------------------------------------------------ exit codes and help


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_help_of_every_command_exits_0_and_does_nothing(engagement, here, name):
    code, out, err = engagement(name, "--help")
    assert (code, err) == (0, "")
    assert f"Usage: engagement {name}" in out
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    list(cli.COMMANDS),
)
def test_the_help_of_every_command_shows_examples(engagement, name):
    text = " ".join(engagement(name, "--help")[1].split())
    assert f"engagement {name}" in text.partition("For example:")[2]


@pytest.mark.parametrize("arguments", [("--help",), ()])
def test_the_help_names_every_command(engagement, arguments):
    code, out, _ = engagement(*arguments)
    assert code == 0
    assert all(f" {name} " in out for name in cli.COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("query",),
        ("query", "SELECT 1", "--nonsense"),
        ("query", "SELECT 1", "--format", "xml"),
        ("backfill", "--from", "2025-01-15"),
        ("import",),
        ("simulate", "--rate", "fast"),
        ("simulate", "--rate", "0"),
        ("simulate", "--history", "6 hours"),
        ("broker", "--nodes", "2"),
    ],
    ids=" ".join,
)
def test_wrong_use_is_told_in_one_line_with_exit_code_2_and_leaves_nothing(refused, here, arguments):
    refused(2, *arguments)
    assert list(here.iterdir()) == []


def test_the_program_itself_exits_with_the_commands_code(here):
    for arguments, code in ((["contract"], 0), (["contract", "--check", "missing"], 1), (["nonsense"], 2)):
        done = subprocess.run([sys.executable, "-m", "engagement", *arguments], cwd=here, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert bool(done.stdout) == (code == 0)


# ------------------------------------------------------------------------------------------------ settings, contract


@pytest.mark.parametrize("command", [("settings",), ("refresh",), ("query", "SELECT 1"), ("status",), ("simulate", "--history-only")])
def test_an_unknown_setting_is_named_with_the_nearest_valid_names(refused, here, monkeypatch, command):
    if command[0] == "simulate":
        command = (*command, "--history", "1h")
    monkeypatch.setenv("ENGAGEMENT_FLUSH_SECOND", "10")
    line = refused(1, *command)
    assert "ENGAGEMENT_FLUSH_SECOND " in line
    assert "ENGAGEMENT_FLUSH_SECONDS" in line
    assert list(here.iterdir()) == []


def test_an_unreadable_value_is_named(refused, here, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_FLUSH_SECONDS", "soon")
    line = refused(1, "settings")
    assert "ENGAGEMENT_FLUSH_SECONDS" in line
    assert "soon" in line
    assert "whole number" in line
    assert list(here.iterdir()) == []


def test_settings_tell_each_value_with_where_it_came_from_and_mask_secrets(engagement, here, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_FLUSH_SECONDS", "10")
    monkeypatch.setenv("ENGAGEMENT_KAFKA__sasl__password", "hunter2")
    (here / "engagement.toml").write_text("dashboard_port = 9999\n")
    code, out, err = engagement("settings", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["ENGAGEMENT_FLUSH_SECONDS"] == {"value": "10", "source": "environment"}
    assert found["ENGAGEMENT_DASHBOARD_PORT"] == {"value": "9999", "source": "engagement.toml"}
    assert found["ENGAGEMENT_TOPIC_PARTITIONS"] == {"value": "6", "source": "default"}
    code, table, _ = engagement("settings")
    assert code == 0
    assert len(table.splitlines()) == len(found)
    assert "hunter2" not in out + table


def test_contract_prints_the_json_schema(engagement):
    code, out, err = engagement("contract")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(json.dumps(contract.json_schema()))
    assert set(json.loads(out)["required"]) == {"event_id", "user_id", "event_type", "timestamp"}


def test_contract_check_names_the_line_and_reason_of_each_bad_sample(engagement, here):
    good = lake_helpers.payload(event(1, DAY))
    (here / "good.jsonl").write_bytes(good + b"\n" + good + b"\n")
    assert engagement("contract", "--check", "good.jsonl") == (0, "", "2 good, 0 bad\n")
    (here / "bad.jsonl").write_bytes(good + b"\n{\n" + good.replace(b'"user_id"', b'"who"') + b"\n")
    code, out, err = engagement("contract", "--check", "bad.jsonl")
    assert code == 1
    assert out.splitlines() == ["bad.jsonl:2: bad_json", "bad.jsonl:3: missing:user_id"]
    assert err == "1 good, 2 bad\n"


def test_contract_check_of_a_missing_file_is_one_line(refused):
    assert "missing.jsonl" in refused(1, "contract", "--check", "missing.jsonl")
