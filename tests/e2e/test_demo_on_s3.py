"""The whole product with its lake on a real S3 server, by settings alone."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers import demo_environment, eventually

from engagement.stack import jars, s3
from engagement.stack.broker import Broker

ENGAGEMENT = str(Path(sys.executable).with_name("engagement"))
SECONDS = 240
"""Of patience, on a machine that does much else."""


@pytest.fixture
def environment(tmp_path):
    """A lake in a bucket, a broker, free ports."""
    assert (jars.main([]), s3.main([])) == (0, 0)
    ours = demo_environment(tmp_path, ("ENGAGEMENT_", "AWS_"), ENGAGEMENT_LAKE_URL="s3://lake/demo", ENGAGEMENT_BACKGROUND_NICE="0")
    with s3.S3Server(tmp_path / "s3") as server, Broker(tmp_path / "kafka") as broker:
        server.bucket("lake")
        yield ours | server.environment | {"ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap}


def run(environment, folder, *arguments):
    done = subprocess.run([ENGAGEMENT, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def running_demo(environment, folder):
    """The demo as a process, and the file of what it says."""
    with (folder / "demo.log").open("w") as log:
        demo = subprocess.Popen([ENGAGEMENT, "demo", "--seconds", str(SECONDS)], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            yield folder / "demo.log"
        finally:
            demo.terminate()
            demo.wait(120)


def test_the_demo_runs_on_s3_by_settings_alone(environment, tmp_path):
    with running_demo(environment, tmp_path) as log:
        eventually(lambda: "first number of the current hour" in log.read_text(), SECONDS, 0.5)
        assert run(environment, tmp_path, "query", "SELECT count(*) AS events FROM events", "--format", "json")[0]["events"] > 0
    assert run(environment, tmp_path, "status", "--json")["lake"] == "s3://lake/demo"
    assert not (tmp_path / ".engagement").exists()
