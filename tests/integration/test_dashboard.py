"""The page: its numbers are the big table's own, each state says what is wrong, and the script draws both."""

from __future__ import annotations

import os
import shutil
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import lake_helpers
import pytest
from oracle import RawEvent

from engagement.dashboard import data, freshness
from engagement.dashboard.freshness import Consumer, Facts
from engagement.waiting import refresh

NOW = datetime(2026, 3, 10, 14, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
LEVELS = ("ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES")
APP = Path(data.__file__).with_name("app.py")
HEALTHY = Consumer("http://127.0.0.1:9108/metrics", alive=True)
GONE = Consumer("http://127.0.0.1:9108/metrics", alive=False)


class Log:
    """Makes events in the order they are received, with offsets that have no holes."""

    def __init__(self, start=0):
        self.next = start

    def event(self, when, user, kind="screen_view", *, device="iPhone", version="1.0", country="DE"):
        offset, self.next = self.next, self.next + 1
        return RawEvent(
            event_id=f"00000000-0000-4000-8000-{offset:012d}", user_id=user, session_id=None, event_type=kind,
            event_time=when, received_at=when + timedelta(seconds=1), kafka_topic="session", kafka_topic_id="5e" * 16,
            kafka_partition=0, kafka_offset=offset,
            device_type=device, device_model=None, app_version=version, country=country, screen="Home",
        )  # fmt: skip


def day_of_events(log, now):
    """One user on two devices in the running hour, others before; yesterday too."""
    return [
        log.event(now - 26 * HOUR, "old", country="JP"),
        log.event(now - 20 * HOUR, "b", device="iPad", country="FR"),
        log.event(now - 2 * HOUR, "b", "view_notification", device="iPad"),
        log.event(now - HOUR - 2 * MINUTE, "c"),
        log.event(now - HOUR - MINUTE, "c", "view_notification"),
        log.event(now - HOUR, "c", "click_notification"),
        log.event(now - 3 * MINUTE, "a", device="iPhone"),
        log.event(now - 2 * MINUTE, "a", device="iPad", version="1.1"),
        log.event(now - MINUTE, "d", "install"),
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a lake whose tables are up to date at NOW, and the log it came from."""
    folder, log = tmp_path_factory.mktemp("made"), Log()
    with lake_helpers.tables_of(folder) as context:
        lake_helpers.write(context, day_of_events(log, NOW))
        refresh.until_nothing_waits(context)
    return folder, log


@pytest.fixture
def filled(made, tmp_path):
    """Settings of a copy of that lake. Of links: the version of an object is also its inode."""
    shutil.copytree(made[0] / "lake", tmp_path / "lake", copy_function=os.link)
    return lake_helpers.settings_of(tmp_path)


@pytest.fixture
def more(made, tmp_path):
    """Writes one more event into the copy's raw log."""
    log = Log(made[1].next)

    def write(when, user="e"):
        with lake_helpers.tables_of(tmp_path) as context:
            lake_helpers.write(context, [log.event(when, user)])

    return write


@pytest.fixture
def log():
    return Log()


def look(settings, now=NOW, levels=LEVELS, consumer=HEALTHY):
    return data.snapshot(settings, *levels, now, consumer=consumer)


def row(settings, moment, levels=LEVELS, hour=None):
    """The big table's row, asked for directly."""
    (found,) = lake_helpers.table(
        settings,
        f"""SELECT * FROM daily_aggregates_with_dimensions WHERE (year, month, day) = ({moment.year}, {moment.month}, {moment.day})
        AND hour IS NOT DISTINCT FROM {"NULL" if hour is None else hour} AND (device_type, app_version, country) = {levels}""",
    )
    return data.Numbers(**{name: found[column] for name, column in data.MEASURES.items()})


@pytest.mark.parametrize("levels", [LEVELS, ("iPad", *LEVELS[1:]), ("ALL_DEVICES", "1.0", "DE")])
def test_every_number_is_the_row_of_its_level(filled, levels):
    seen = look(filled, levels=levels)
    assert seen.this_hour == row(filled, NOW, levels, 14)
    assert seen.today == row(filled, NOW, levels)


def test_a_user_of_two_devices_is_one_user_of_all_devices(filled):
    assert look(filled).this_hour.active_users == 2
    assert [look(filled, levels=(device, *LEVELS[1:])).this_hour.active_users for device in ("iPhone", "iPad")] == [2, 1]


def test_the_previous_hour_is_the_one_before_and_ratios_without_a_base_are_none(filled):
    seen = look(filled)
    assert seen.previous_hour == row(filled, NOW, hour=13)
    assert seen.previous_hour.click_through == 1.0
    assert seen.this_hour.click_through is None


def test_the_series_holds_the_last_24_hours_with_silent_hours_as_zero(filled):
    series = look(filled).series
    assert list(series["start"]) == [NOW.replace(minute=0) - number * HOUR for number in reversed(range(24))]
    users = dict(zip(series["start"], series["active_users"], strict=True))
    assert {start: count for start, count in users.items() if count} == {
        datetime(2026, 3, 9, 18, tzinfo=UTC): 1, datetime(2026, 3, 10, 12, tzinfo=UTC): 1,
        datetime(2026, 3, 10, 13, tzinfo=UTC): 1, datetime(2026, 3, 10, 14, tzinfo=UTC): 2,
    }  # fmt: skip
    assert list(series["so_far"]) == [False] * 23 + [True]
    assert series["bounce_rate"].isna().sum() == 20


def test_a_filter_without_events_shows_zero_and_no_ratios(filled):
    assert look(filled, levels=("Vision Pro", *LEVELS[1:])).this_hour == data.Numbers()


def test_choices_are_all_first_then_by_events(filled):
    assert data.choices(filled, NOW) == {
        "device_type": ("ALL_DEVICES", "iPhone", "iPad"),
        "app_version": ("ALL_VERSIONS", "1.0", "1.1"),
        "country": ("ALL_COUNTRIES", "DE", "FR", "JP"),
    }
    assert look(filled).choices == data.choices(filled, NOW)


def test_live_says_how_old_the_newest_number_is(filled):
    status = look(filled, NOW + timedelta(seconds=30)).status
    assert (status.kind, status.headline) == ("live", "newest number 89 s old")


def test_the_age_is_that_of_the_hours_object_not_of_raw_that_still_waits(filled, more):
    later = NOW + 2 * MINUTE
    more(later)
    assert look(filled, later + MINUTE).status.age == timedelta(minutes=3, seconds=59)


def test_nothing_waits_and_no_lag_is_complete_however_long_ago(filled):
    status = look(filled, NOW + timedelta(minutes=29)).status
    assert (status.kind, status.headline, status.problem) == ("complete", "complete, no events for 29 min", "")


def test_waiting_raw_with_old_numbers_is_stale_and_says_what_to_do(filled, more):
    more(NOW)
    status = look(filled, NOW + 6 * MINUTE).status
    assert (status.kind, status.headline) == ("stale", "stale: newest number 6 min old")
    assert "1 hour wait" in status.problem
    assert "2026-03-10 14:00 UTC" in status.problem
    told = " ".join(status.remedies)
    assert "engagement status" in told
    assert "http://127.0.0.1:3000" in told


def test_events_after_a_long_quiet_time_are_catching_up_not_stale(filled, more):
    later = NOW + 50 * MINUTE
    more(later)
    assert look(filled, later + timedelta(seconds=9)).status.kind == "catching_up"
    assert look(filled, later + 6 * MINUTE).status.kind == "stale"


@pytest.mark.parametrize(
    ("consumer", "problem"),
    [
        (GONE, "No consumer answers at http://127.0.0.1:9108/metrics"),
        (Consumer("u", alive=True, heartbeat=NOW), "has not read for 29 min"),
        (Consumer("u", alive=True, hangs=True), "has not read for over a minute"),
        (Consumer("u", alive=True, stopped=2, heartbeat=NOW + 29 * MINUTE), "has stopped 2 partitions"),
        (Consumer("u", alive=True, lag=12000, heartbeat=NOW + 29 * MINUTE), "12,000 records behind"),
    ],
)
def test_nothing_waits_in_the_lake_but_the_log_is_not_read(consumer, problem):
    facts = Facts(NOW, NOW, {}, {}, None, consumer)
    status = freshness.judge(facts, lake_helpers.settings_of(Path("/nowhere")), NOW + 29 * MINUTE)
    assert status.kind == "stale"
    assert problem in status.problem
    assert status.remedies


def test_a_lake_of_imports_alone_needs_no_consumer():
    facts = Facts(NOW, None, {}, {}, None, GONE)
    assert freshness.judge(facts, lake_helpers.settings_of(Path("/nowhere")), NOW + 29 * MINUTE).kind == "complete"


def test_without_a_lake_the_page_explains_and_makes_none(tmp_path):
    settings = lake_helpers.settings_of(tmp_path)
    seen = look(settings)
    assert (seen.status.kind, seen.series) == ("empty", None)
    assert "make demo" in " ".join(seen.status.remedies)
    assert data.choices(settings, NOW) == {name: (value,) for name, value in data.ALL.items()}
    assert not settings.lake_path.exists()


def test_raw_without_tables_says_that_tables_wait(tmp_path, log):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [log.event(NOW, "a")])
    status = look(lake_helpers.settings_of(tmp_path)).status
    assert (status.kind, status.headline) == ("empty", "no numbers yet")
    assert "engagement refresh" in " ".join(status.remedies)


def test_a_lake_that_cannot_be_read_is_one_clear_line(filled):
    (filled.lake_path / "lake.json").unlink()
    (filled.lake_path / "lake.json").write_text("{}")
    status = look(filled).status
    assert status.kind == "error"
    assert "lake.json is not readable" in status.problem
    assert "\n" not in status.problem


def test_a_broken_object_is_an_error_and_mended_at_the_next_look(filled, tmp_path):
    path = next(filled.lake_path.glob("aggregated/**/day=10/hours.parquet"))
    aside = path.rename(tmp_path / "aside")
    path.write_bytes(b"PAR1 no more PAR1")
    assert look(filled).status.kind == "error"
    aside.rename(path)
    assert look(filled).status.kind == "live"


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (timedelta(seconds=42), "42 s"), (12 * MINUTE, "12 min"), (185 * MINUTE, "3 h 5 min"), (3 * HOUR, "3 h"), (72 * HOUR, "3 days"),
    ],
)  # fmt: skip
def test_spans_are_said_as_people_say_them(span, said):
    assert freshness.words(span) == said


@pytest.fixture
def metrics():
    """Serves the consumer's own metrics; its port, and the metrics to set."""
    from prometheus_client import generate_latest

    from engagement.ingest.metrics import Metrics

    series = Metrics()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(generate_latest(series.registry))

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server.server_address[1], series
    server.shutdown()
    server.server_close()


def test_the_probe_reads_what_the_consumer_serves(metrics, tmp_path):
    port, series = metrics
    series.lag.labels("session", 0).set(3)
    series.lag.labels("session", 1).set(4)
    series.stopped.labels("session", 1).set(1)
    series.heartbeat.beat()
    found = freshness.probe(lake_helpers.settings_of(tmp_path, metrics_port=port))
    beat = datetime.fromtimestamp(series.heartbeat.last, UTC)
    assert found == Consumer(f"http://127.0.0.1:{port}/metrics", alive=True, lag=7, stopped=1, heartbeat=beat)


def test_a_process_that_hangs_serves_no_heartbeat(metrics, tmp_path, monkeypatch):
    port, series = metrics
    series.heartbeat.beat()
    monkeypatch.setattr("engagement.ingest.metrics.HANGS_AFTER_SECONDS", -1.0)
    found = freshness.probe(lake_helpers.settings_of(tmp_path, metrics_port=port))
    assert (found.alive, found.heartbeat, found.hangs) == (True, None, True)


def test_the_probe_finds_nobody_on_a_port_without_a_server(tmp_path):
    assert freshness.probe(lake_helpers.settings_of(tmp_path, metrics_port=1)).alive is False


def script(monkeypatch, folder):
    settings = lake_helpers.settings_of(folder, metrics_port=1)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return opened()


def opened():
    """The script's first run, without a server."""
    from streamlit.testing.v1 import AppTest  # a second of imports that only the process of these tests pays

    return AppTest.from_file(str(APP), default_timeout=30).run()


def html(page):
    return " ".join(element.proto.body for element in page.get("html"))


def test_the_script_draws_tiles_and_filters(monkeypatch, tmp_path, log):
    now = datetime.now(UTC)
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(
            context, [log.event(now - timedelta(seconds=20), f"u{number}", country="DE" if number else "FR") for number in range(3)]
        )
        refresh.until_nothing_waits(context)
    page = script(monkeypatch, tmp_path)
    assert not page.exception
    assert 'data-state="live"' in html(page)
    assert [metric.value for metric in page.metric if metric.label == "Active users"][1] in ("3", "0")  # 0: midnight just passed
    assert page.selectbox(key="country").options == ["All countries", "DE", "FR"]
    page.selectbox(key="country").select("FR").run()
    assert [metric.value for metric in page.metric if metric.label == "Active users"][1] in ("1", "0")


def test_the_script_explains_an_empty_lake(monkeypatch, tmp_path):
    page = script(monkeypatch, tmp_path)
    assert not page.exception
    assert 'data-state="empty"' in html(page)
    assert "make demo" in html(page)
    assert not page.metric


def test_the_script_says_which_setting_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGAGEMENT_LAKE_ULR", str(tmp_path))
    page = opened()
    assert not page.exception
    assert "ENGAGEMENT_LAKE_URL" in html(page)


def test_the_script_goes_on_when_the_lake_goes_and_comes_back(monkeypatch, tmp_path, log):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [log.event(datetime.now(UTC) - timedelta(seconds=20), "a")])
        refresh.until_nothing_waits(context)
    page = script(monkeypatch, tmp_path)
    shutil.move(tmp_path / "lake", tmp_path / "away")
    assert 'data-state="empty"' in html(page.run())
    shutil.move(tmp_path / "away", tmp_path / "lake")
    assert 'data-state="live"' in html(page.run())


def test_the_script_keeps_the_last_numbers_while_the_lake_cannot_be_read(monkeypatch, tmp_path, log):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [log.event(datetime.now(UTC) - timedelta(seconds=20), "a")])
        refresh.until_nothing_waits(context)
    page = script(monkeypatch, tmp_path)
    before = [metric.value for metric in page.metric]
    next(tmp_path.glob("lake/aggregated/**/hours.parquet")).write_bytes(b"PAR1 no more PAR1")
    page.run()
    assert 'data-state="error"' in html(page)
    assert [metric.value for metric in page.metric] == before
    assert any("were read at" in caption.value for caption in page.main.caption)
