"""`engagement demo` as a person meets it: everything starts, the page shows what the lake holds, everything ends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
from helpers import DEMO_PORTS, demo_environment, eventually
from playwright.sync_api import expect, sync_playwright

from engagement.dashboard import app, data
from engagement.stack import jars
from engagement.stack.broker import Broker
from engagement.stack.supervisor import MARK

ROOT = Path(__file__).parents[2]
ENGAGEMENT = str(Path(sys.executable).with_name("engagement"))
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
SECONDS = 120
PATIENCE = 60
GROWING = ("active_users", "installs")
"""What never shrinks within an hour: a late event can join two sessions, but takes away no user and no install."""

RESULT = {
    "events_produced", "rows_raw", "rows_rejected", "duplicates_dropped", "first_number_seconds", "latency_p50_seconds",
    "latency_p95_seconds",
}  # fmt: skip


@pytest.fixture
def environment(tmp_path):
    """A world of its own for the command line: folders and free ports."""
    return demo_environment(tmp_path)


@pytest.fixture
def broker(tmp_path, environment):
    assert jars.main([]) == 0
    with Broker(tmp_path / "kafka") as running:
        environment["ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS"] = running.bootstrap
        yield running


@pytest.fixture
def page():
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium libatomic1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1440, "height": 1000})
        opened.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        yield opened
        browser.close()


@pytest.fixture
def hour():
    """The present hour, far enough from its end that the whole demo lies in it: the page shows the present hour."""
    while 3600 - time.time() % 3600 < SECONDS + PATIENCE:
        time.sleep(1)
    now = datetime.now(UTC)
    return f"(year, month, day, hour) = ({now.year}, {now.month}, {now.day}, {now.hour})"


@contextmanager
def running_demo(environment, folder):
    """The demo as a process; killed where the test fails before it has ended by itself."""
    with (folder / "demo.log").open("w") as log:
        demo = subprocess.Popen(
            [ENGAGEMENT, "demo", "--seconds", str(SECONDS)], cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            yield demo
        finally:
            if demo.poll() is None:
                demo.terminate()
                demo.wait(PATIENCE)


def finished(environment, folder, *arguments):
    command = [ENGAGEMENT, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE)


def run(environment, *arguments):
    done = finished(environment, ROOT, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def query(environment, sql):
    return json.loads(run(environment, "query", sql, "--format", "json"))


def numbers(environment, hour):
    """The hour's row over all dimensions by `engagement query`, as the page calls the numbers; nothing yet: zeros."""
    columns = ", ".join(f"{data.MEASURES[name]} AS {name}" for name in GROWING)
    levels = tuple(data.ALL.values())
    found = query(
        environment,
        f"SELECT {columns} FROM daily_aggregates_with_dimensions WHERE {hour} AND (device_type, app_version, country) = {levels}",
    )
    return found[0] if found else dict.fromkeys(GROWING, 0)


def shown(page):
    """The same numbers as the page shows them in one instant, None while it shows none."""
    texts = page.evaluate(
        "names => names.map(name => document.querySelector(`.st-key-hour-${name} [data-testid=stMetricValue]`)?.textContent.trim())",
        list(GROWING),
    )
    return {name: int(text.replace(",", "")) if text and text != app.NOTHING else None for name, text in zip(GROWING, texts, strict=True)}


def fetched(url, body=None):
    """Text of a page, None while nothing answers."""
    request = urllib.request.Request(url, body and json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310 - ours
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - our own address
            return answer.read().decode()
    except OSError:
        return None


def dagster_says(address):
    """Status of the sensor `arrivals`, and ids of the runs of refresh_hours that succeeded."""
    where = '{repositoryName: "__repository__", repositoryLocationName: "engagement", sensorName: "arrivals"}'
    asked = f"""{{
        sensorOrError(sensorSelector: {where}) {{ ... on Sensor {{ sensorState {{ status }} }} }}
        runsOrError(filter: {{pipelineName: "refresh_hours", statuses: [SUCCESS]}}) {{ ... on Runs {{ results {{ runId }} }} }}
    }}"""
    text = fetched(f"{address}/graphql", {"query": asked})
    found = json.loads(text)["data"] if text else {}
    sensor = (found.get("sensorOrError") or {}).get("sensorState") or {}
    return sensor.get("status"), [row["runId"] for row in (found.get("runsOrError") or {}).get("results", [])]


def metrics(text):
    return {line.split()[0]: float(line.split()[1]) for line in (text or "").splitlines() if line and not line.startswith("#")}


def left_of(state):
    """Living processes that the demo of this state folder started, directly or not."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(state.resolve()) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.chromium
@pytest.mark.usefixtures("broker")
def test_the_demo_shows_live_numbers_that_the_lake_holds_and_ends_leaving_nothing(environment, page, hour, tmp_path):
    dagster, dashboard, consumer, _ = (f"http://127.0.0.1:{environment[name]}" for name in DEMO_PORTS)
    log = tmp_path / "demo.log"
    with running_demo(environment, tmp_path) as demo:
        eventually(lambda: fetched(f"{dashboard}/_stcore/health") or demo.poll() is not None, PATIENCE)
        assert demo.poll() is None, log.read_text()
        page.goto(dashboard)

        # The lake only grows: what it held before is on the page some time later, and the page shows no more than it holds after.
        before = eventually(lambda: (now := numbers(environment, hour))["active_users"] and now, SECONDS, pause=1)
        eventually(lambda: all((shown(page)[name] or 0) >= before[name] for name in GROWING), PATIENCE)
        seen = shown(page)
        after = numbers(environment, hour)
        assert all(before[name] <= seen[name] <= after[name] for name in GROWING), (before, seen, after)
        expect(page.get_by_test_id("freshness")).to_contain_text("newest number")
        expect(page.locator("[data-testid=stException]")).to_have_count(0)

        assert "<!DOCTYPE html>" in (fetched(dagster) or "")
        status, _ = eventually(lambda: (said := dagster_says(dagster))[1] and said, PATIENCE, pause=1)
        assert status == "RUNNING"
        beat = metrics(fetched(f"{consumer}/metrics"))["engagement_heartbeat_seconds"]
        assert abs(time.time() - beat) < 30

        eventually(lambda: all((shown(page)[name] or 0) > seen[name] for name in GROWING[:1]), PATIENCE)  # and it goes on by itself
        assert demo.poll() is None, f"it ended while it was looked at:\n{log.read_text()}"
        assert len(left_of(tmp_path / "state")) >= 5, "the parts of a running demo carry its mark"

        out, _ = demo.communicate(timeout=SECONDS + PATIENCE)
    assert demo.returncode == 0, log.read_text()
    assert left_of(tmp_path / "state") == []
    (line,) = out.splitlines()
    result = json.loads(line)
    assert set(result) == RESULT
    assert 0 < result["first_number_seconds"] < SECONDS
    assert 0 < result["latency_p50_seconds"] <= result["latency_p95_seconds"] < SECONDS
    assert result["rows_rejected"] > 0
    assert result["rows_raw"] == result["events_produced"] > 0

    # What the lake itself says, after the log has been read to its end: nothing is lost, nothing is twice.
    run(environment, "ingest", "--until-idle")
    found = json.loads(run(environment, "status", "--json"))
    assert found["raw"]["rows"] == result["events_produced"]
    assert {partition["lag"] for partition in found["partitions"]} == {0}


@pytest.mark.parametrize("name", DEMO_PORTS)
def test_a_port_in_use_is_refused_in_one_line_that_names_its_setting(environment, tmp_path, name):
    environment["ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment[name] = str(taken.getsockname()[1])
        done = finished(environment, tmp_path, "demo")
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"engagement: port {environment[name]} ")
    assert name in line
    assert left_of(tmp_path / "state") == []
