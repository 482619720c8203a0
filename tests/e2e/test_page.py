"""The page as a person sees it: Streamlit in a process of its own, opened in Debian's Chromium."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import lake_helpers
import pytest
from oracle import RawEvent
from playwright.sync_api import expect, sync_playwright

from engagement.dashboard import app, data
from engagement.model import units
from engagement.waiting import refresh

pytestmark = pytest.mark.chromium

ROOT = Path(__file__).parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60
ALL_LEVELS = tuple(data.ALL.values())


def event(offset, when, user, kind="screen_view", device="iPhone"):
    return RawEvent(
        event_id=f"00000000-0000-4000-8000-{offset:012d}", user_id=user, session_id=None, event_type=kind, event_time=when,
        received_at=when + timedelta(seconds=1), kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=offset,
        device_type=device, device_model=None, app_version="1.0", country="DE", screen="Home",
    )  # fmt: skip


def write(folder, events):
    with lake_helpers.tables_of(folder) as context:
        lake_helpers.write(context, events)
        refresh.until_nothing_waits(context)


@pytest.fixture
def now():
    """A moment far enough from the end of the hour that the whole test lies in one: the page shows the present hour."""
    while 3600 - time.time() % 3600 < PATIENCE:
        time.sleep(1)
    return datetime.now(UTC)


@pytest.fixture
def lake(tmp_path, now):
    kinds = ("screen_view", "view_notification", "click_notification", "install", "tap", "view_notification")
    events = [
        event(n, max(now - timedelta(seconds=30), units.floor_hour(now)), f"u{n % 4}", kinds[n % 6], ("iPhone", "iPad")[n % 3 == 0])
        for n in range(12)
    ]
    write(tmp_path, events)
    return lake_helpers.settings_of(tmp_path)


@pytest.fixture
def serve(tmp_path):
    """Starts the page against a lake, the way the supervisor does; its address."""
    started = []

    def start(settings):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
        environment |= settings.environment() | {"PYTHONPATH": str(ROOT), "ENGAGEMENT_METRICS_PORT": "1"}
        command = [
            sys.executable, "-m", "streamlit", "run", "engagement/dashboard/app.py", "--server.headless", "true", "--server.address",
            "127.0.0.1", "--server.port", str(port), "--browser.gatherUsageStats", "false", "--server.fileWatcherType", "none",
        ]  # fmt: skip
        log = tmp_path / "streamlit.log"
        with log.open("wb") as out:
            server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True)
        started.append(server)
        address = f"http://127.0.0.1:{port}"
        wait_until_healthy(address, server, log)
        return address

    yield start
    for server in started:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(10)


def wait_until_healthy(address, server, log):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=1):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.1)  # between polls of a deadline
    pytest.fail(f"streamlit did not answer within {PATIENCE} s:\n{log.read_text()}")


@pytest.fixture
def page():
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium libatomic1"
    expect.set_options(timeout=PATIENCE * 1000)  # the usual 5 s are too few for a first page on a busy machine
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 1440, "height": 1000}, timezone_id="Asia/Tokyo")
        opened.set_default_timeout(PATIENCE * 1000)
        opened.outside = []
        opened.on(
            "request",
            lambda request: None if request.url.startswith(("http://127.0.0.1", "data:", "blob:")) else opened.outside.append(request.url),
        )
        yield opened
        browser.close()


def expected(settings, now, period, levels=ALL_LEVELS):
    """What the tiles must say: the big table's row by direct SQL, written as the page writes it."""
    hour = "IS NULL" if period == "today" else f"= {now.hour}"
    (row,) = lake_helpers.table(
        settings,
        f"""SELECT * FROM daily_aggregates_with_dimensions WHERE (year, month, day) = ({now.year}, {now.month}, {now.day})
        AND hour {hour} AND (device_type, app_version, country) = {levels}""",
    )
    return {name: app.TILES[name][1](row[column]) for name, column in data.MEASURES.items()}


def expect_tiles(page, period, numbers):
    for name, text in numbers.items():
        expect(page.locator(f".st-key-{period}-{name} [data-testid=stMetricValue]")).to_have_text(text)


def test_the_page_shows_the_big_tables_numbers_filters_them_and_follows_new_ones(page, serve, lake, tmp_path, now):
    page.goto(serve(lake))
    for period in ("hour", "today"):
        expect_tiles(page, period, expected(lake, now, period))
    expect(page.get_by_test_id("freshness")).to_contain_text("newest number")
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")).to_have_count(5)

    page.get_by_role("combobox", name="Device").click()
    page.get_by_role("option", name="iPad", exact=True).click()
    on_ipad = expected(lake, now, "hour", ("iPad", *ALL_LEVELS[1:]))
    assert on_ipad != expected(lake, now, "hour")
    expect_tiles(page, "hour", on_ipad)

    write(tmp_path, [event(12 + n, now, f"new{n}", device="iPad") for n in range(7)])
    grown = expected(lake, now, "hour", ("iPad", *ALL_LEVELS[1:]))
    assert grown["active_users"] != on_ipad["active_users"]
    expect_tiles(page, "hour", grown)
    assert not page.outside, "the page must work without a network"
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def test_the_page_of_an_empty_lake_says_what_to_do_and_fills_by_itself(page, serve, tmp_path, now):
    settings = lake_helpers.settings_of(tmp_path)
    page.goto(serve(settings))
    expect(page.get_by_test_id("freshness")).to_contain_text("no data yet")
    expect(page.get_by_test_id("trouble")).to_contain_text("make demo")
    write(tmp_path, [event(0, now, "first")])
    expect_tiles(page, "hour", expected(settings, now, "hour"))
    expect(page.get_by_test_id("trouble")).to_have_count(0)
