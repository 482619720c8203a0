"""`engagement backfill` where a Dagster daemon lives: the daemon does the runs, whatever becomes of the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lake_helpers
import postgres
import pytest
from dagster import DagsterRunStatus
from helpers import eventually

from engagement.model import units
from engagement.stack import demo, processes
from engagement.tables.context import open_tables
from engagement_assets.local_runs import local_instance
from resources import tags
from sensors import backfills

ENGAGEMENT = [sys.executable, "-m", "engagement"]
DAY = datetime(2026, 3, 10, tzinfo=UTC)
DAYS = 2
SECONDS = 400
"""Deadline of a backfill: the sensor refreshes the same new history at the same time, and goes first."""


@pytest.fixture
def database(tmp_path):
    with postgres.server(tmp_path / "postgres") as url:
        yield url


@contextmanager
def daemon(settings, folder):
    """Code server and daemon, as the demo runs them, over the instance of the state folder."""
    home = settings.state_dir / "dagster"
    (port,) = processes.free_ports("127.0.0.1", 1)
    (home / "workspace.yaml").write_text(demo.WORKSPACE.format(host="127.0.0.1", port=port))
    environment = {
        **os.environ,
        **settings.environment(),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(demo.ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    tool = str(Path(sys.executable).parent / "dagster-daemon")
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dagster.log").open("wb"))
        for argv in (
            [sys.executable, "-m", "engagement_assets.code_server", "127.0.0.1", str(port)],
            [tool, "run", "-w", str(home / "workspace.yaml")],
        ):
            child = processes.start(argv, log, environment)
            stack.callback(processes.stop, child, 30)
            eventually(demo._listens("127.0.0.1", port), 60)
        yield environment


@pytest.fixture(params=["sqlite", "postgres"])
def served(request, tmp_path, monkeypatch):
    """A lake with two days of history, and a daemon over it that serves backfills; its instance is of either kind."""
    more = {}
    if request.param == "postgres":
        more["dagster_storage"] = request.getfixturevalue("database")
        monkeypatch.setenv("ENGAGEMENT_DAGSTER_STORAGE", more["dagster_storage"])
    settings = lake_helpers.settings_of(tmp_path, **more)
    with serving(settings, tmp_path) as (instance, environment):
        yield settings, instance, environment


@contextmanager
def serving(settings, folder):
    """Its instance and environment, with two days of history in the lake, and a daemon that serves backfills."""
    with open_tables(settings) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(number, DAY + number * timedelta(hours=6)) for number in range(4 * DAYS)])
    with local_instance(settings) as instance, daemon(settings, folder) as environment:
        eventually(lambda: backfills.is_served(instance, datetime.now(UTC)), 60)
        yield instance, environment


def command(*more):
    return [*ENGAGEMENT, "backfill", "--from", "2026-03-10", "--to", "2026-03-11", *more]


def run_to_its_end(argv, environment, folder):
    return subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


def of_backfills(instance):
    return [run for run in instance.get_runs() if tags.BACKFILL_OF in run.tags]


def test_the_daemon_does_it_though_the_command_is_killed(served, tmp_path):
    settings, instance, environment = served

    asking = subprocess.Popen(command(), env=environment, cwd=tmp_path, stderr=subprocess.DEVNULL)
    eventually(lambda: of_backfills(instance), 60)
    (told,) = json.loads(run_to_its_end([*ENGAGEMENT, "status", "--json"], environment, tmp_path).stdout)["backfills"]
    assert told["what"] == "2026-03-10/2026-03-11/all"
    assert told["done"] + told["left"] == 2 * DAYS
    asking.send_signal(signal.SIGKILL)
    asking.wait(10)
    eventually(lambda: not backfills.asked(instance), SECONDS)
    runs = of_backfills(instance)
    assert len(runs) == 2 * DAYS
    assert {run.status for run in runs} == {DagsterRunStatus.SUCCESS}
    assert {run.tags[tags.LANE] for run in runs} == {"backfill"}
    with open_tables(settings) as context:
        assert len(list(context.lake.list(units.EVENTS))) == 4 * DAYS


def test_chosen_assets_ctrl_c_and_resume(tmp_path):
    with serving(lake_helpers.settings_of(tmp_path), tmp_path) as (instance, environment), ExitStack() as stack:
        done = run_to_its_end(command("--assets", "daily_engagement"), environment, tmp_path)
        assert done.stdout == "rebuilt 2 units in Dagster's queue; what it changed elsewhere is refreshed there\n", done.stderr
        chosen = of_backfills(instance)
        assert [run.status for run in chosen] == [DagsterRunStatus.SUCCESS] * DAYS
        assert {key.to_user_string() for key in chosen[0].asset_selection} == {"daily_engagement", "catalog"}

        # a shell's background jobs ignore SIGINT, and their children would too
        stopped = processes.start(command(), stack.enter_context(Path(os.devnull).open("wb")), environment)
        eventually(lambda: len(of_backfills(instance)) > DAYS, 60)
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait(30) == 130
        assert backfills.asked(instance) == []
        eventually(lambda: all(run.is_finished for run in of_backfills(instance)), 60)
        assert len(of_backfills(instance)) < 3 * DAYS

        assert run_to_its_end(command("--detach", "--resume"), environment, tmp_path).returncode == 0
        eventually(lambda: not backfills.asked(instance), SECONDS)
        assert len([run for run in of_backfills(instance) if run.status is DagsterRunStatus.SUCCESS]) == 3 * DAYS
