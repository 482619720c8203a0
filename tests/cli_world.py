"""The command line in process: a folder that is its whole world, and a small lake that tests share."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from oracle import RawEvent

from engagement import cli
from engagement.cli import status

DAY = datetime(2025, 1, 15, tzinfo=UTC)
MOMENTS = [DAY + timedelta(minutes=minute) for minute in (-20, 5, 30, 61, 600, 625, 1439)]
"""Two sessions over midnights, one inside; the last one's day has a neighbour with nothing."""

TODAY = datetime.now(UTC).date()


def event(number, when):
    return RawEvent(
        event_id=f"00000000-0000-4000-8000-{number:012d}", user_id=f"u{number % 2}", session_id=None, event_type="screen_view",
        event_time=when, received_at=when + timedelta(seconds=1), kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0,
        kafka_offset=number, device_type="iPhone", device_model=None, app_version="1.0", country="DE", screen="Home",
    )  # fmt: skip


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def settle_in(folder, patch):
    """Make a folder the whole world of the command line: working directory, lake, state, no broker."""
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        patch.delenv(name)
    patch.setenv("ENGAGEMENT_LAKE_URL", str(folder / "lake"))
    patch.setenv("ENGAGEMENT_STATE_DIR", str(folder / "state"))
    patch.setenv("ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port()}")
    patch.setenv("DAGSTER_HOME", str(folder / "state" / "dagster"))  # commands set it: this sets it back
    patch.setattr(status, "LAG_TIMEOUT_SECONDS", 0.3)
    patch.setenv("ENGAGEMENT_BACKGROUND_NICE", "0")  # this process has other tests to run
    patch.setenv("COLUMNS", "120")
    patch.chdir(folder)


@pytest.fixture(autouse=True)
def dagsters_own_log():
    """Commands silence it for their process; here that process goes on."""
    log = logging.getLogger("dagster")
    level = log.level
    yield
    log.setLevel(level)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with nothing in it, where the command line finds no lake and no broker."""
    settle_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def engagement(capsys):
    """Runs one command line: exit code, stdout, stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = cli.run([str(argument) for argument in arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


@pytest.fixture
def refused(engagement):
    """Runs a command that must fail with this code, no output and one line on stderr; that line."""

    def run(code, *arguments):
        found, out, err = engagement(*arguments)
        assert (found, out) == (code, ""), err
        assert err.startswith("engagement: ")
        assert err.count("\n") == 1, f"not one line:\n{err}"
        assert "Traceback" not in err
        return err

    return run


def files_of(folder):
    """Path -> hash of every file; what SQLite and locks keep for themselves is not data."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "state" not in path.relative_to(folder).parts and ".locks" not in path.parts
    }


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A small lake with raw records of two days, refreshed by the command line; its output is kept for the tests."""
    folder = tmp_path_factory.mktemp("filled")
    with pytest.MonkeyPatch.context() as patch:
        settle_in(folder, patch)
        with lake_helpers.tables_of(folder) as context:
            lake_helpers.write(context, [event(number, when) for number, when in enumerate(MOMENTS)])
        assert cli.run(["refresh"]) == 0
    return folder


@pytest.fixture
def lake(filled, monkeypatch):
    settle_in(filled, monkeypatch)
    before = files_of(filled)
    yield filled
    assert files_of(filled) == before, "these tests share a lake: none may change its data"
