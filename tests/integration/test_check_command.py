"""`engagement check` on the command line: good data passes, each kind of broken data fails what it should, and bad input is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import lake_helpers
import pytest

from engagement.verdicts import quarantine
from engagement.waiting import refresh

HOUR = datetime(2026, 11, 20, 10, tzinfo=UTC)


def run(folder, *arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")}
    command = [sys.executable, "-m", "engagement", "check", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout, done.stderr


def events(count=200, **changes):
    def at(number):
        return HOUR + timedelta(seconds=20 * number)

    return [
        lake_helpers.payload(
            lake_helpers.screen_view(number, HOUR + timedelta(seconds=20 * number), user_id=f"u{number % 7}", session_id="s", **changes)
        )
        for number in range(count)
    ]


GOOD = events()
BROKEN = {
    "events that are no JSON": (GOOD + [b"{" for _ in range(40)], {"records_accepted"}),
    "countries by their names": (events(country="Germany"), {"countries_in_iso"}),
    "no app version": (events(app_version=None), {"versions_known"}),
    "screens without a name": (events(screen=None), {"screens_named"}),
    "everything twice": (GOOD + GOOD, {"copies_share"}),
}


def sample(folder, lines):
    file = folder / "events.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


def failing(out):
    return {found["check"] for found in json.loads(out)["results"] if found["status"] in ("failed", "broken")} - {"client_sessions_sent"}


def test_good_data_passes_with_deequ_and_as_junit(tmp_path):
    code, out, err = run(tmp_path, "--sample", sample(tmp_path, GOOD), "--strict", "--junit", "report.xml", "--json")
    assert (code, failing(out)) == (0, set()), err
    assert {found["engine"] for found in json.loads(out)["results"]} == {"deequ"}
    report = ET.parse(tmp_path / "report.xml").getroot()  # noqa: S314 - our own document
    assert int(report.get("tests")) == len(json.loads(out)["results"])
    assert report.get("failures") == "0"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["events.jsonl", "report.xml"], "no lake is left"


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_fails_exactly_what_it_breaks(name, tmp_path):
    lines, expected = BROKEN[name]
    code, out, _ = run(tmp_path, "--sample", sample(tmp_path, lines), "--suite", "duckdb", "--strict", "--json")
    assert (code, failing(out)) == (1, expected)
    code, _, _ = run(tmp_path, "--sample", sample(tmp_path, lines), "--suite", "duckdb")
    assert code == 0, "warnings alone never fail"


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    settings = {
        "ENGAGEMENT_LAKE_URL": str(folder / "lake"),
        "ENGAGEMENT_STATE_DIR": str(folder / "state"),
        "ENGAGEMENT_BACKGROUND_NICE": "0",
    }
    with lake_helpers.tables_of(folder) as context:
        found = [
            lake_helpers.screen_view(number, HOUR + timedelta(minutes=number), received_at=HOUR + timedelta(hours=2))
            for number in range(90)
        ]
        lake_helpers.write(context, found)
        refresh.until_nothing_waits(context)
    return folder, settings


def test_without_a_period_the_newest_hours_and_day_are_checked(lake):
    folder, settings = lake
    code, out, _ = run(folder, "--suite", "gates", **settings)
    assert code == 0
    assert "hourly_engagement/2026-11-20-11:00 hour_rows" in out
    assert "daily_engagement/2026-11-20 day_rows" in out
    assert out.splitlines()[-1].endswith(" passed, 0 failed, 0 warned, 0 broken, 4 without rows")


def test_an_hour_is_checked_alone_and_recorded_where_asked(lake):
    folder, settings = lake
    code, out, _ = run(folder, "--hour", "2026-11-20T10", "--suite", "duckdb", "--record", "--json", **settings)
    assert code == 0
    assert {found["period"] for found in json.loads(out)["results"]} == {"2026-11-20-10:00"}
    rows = lake_helpers.table(lake_helpers.settings_of(folder), "SELECT count(*) AS n FROM quality_results WHERE status = 'passed'")
    assert rows[0]["n"] == json.loads(out)["counts"]["passed"]


def test_nothing_is_recorded_of_an_hour_or_a_day_that_is_not_over(tmp_path):
    settings = {
        "ENGAGEMENT_LAKE_URL": str(tmp_path / "lake"),
        "ENGAGEMENT_STATE_DIR": str(tmp_path / "state"),
        "ENGAGEMENT_BACKGROUND_NICE": "0",
    }
    now = datetime.now(UTC)
    with lake_helpers.tables_of(tmp_path) as context:
        found = [lake_helpers.screen_view(number, at, received_at=at) for number, at in enumerate((now - timedelta(hours=2), now))]
        lake_helpers.write(context, found)
        refresh.until_nothing_waits(context)
    _, out, err = run(tmp_path, "--suite", "gates", "--record", "--json", **settings)
    assert f"{now:%Y-%m-%d-%H}:00 is not over: its results are not recorded" in err
    assert f"{now:%Y-%m-%d-%H}:00" in {found["period"] for found in json.loads(out)["results"]}
    rows = lake_helpers.table(lake_helpers.settings_of(tmp_path), "SELECT DISTINCT period_start AS start FROM quality_results")
    assert all(row["start"] < now - timedelta(hours=1) for row in rows)
    assert rows


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["--hour", "2026-01-01T05", "--suite", "duckdb"], 1, "check: nothing was checked: no rows in 2026-01-01-05:00"),
        (["--hour", "noon"], 2, "check --hour noon: not a UTC hour like 2026-11-24T13"),
        (["--hour", "2999-01-01T00"], 2, "that hour has not begun"),
        (["--day", "2026-13-01"], 2, "not a UTC day"),
        (["--from", "2026-11-20"], 2, "--from and --to go together"),
        (["--from", "2026-11-21", "--to", "2026-11-20"], 2, "is after --to"),
        (["--hour", "2026-11-20T10", "--day", "2026-11-20"], 2, "give one of"),
        (["--suite", "spark"], 2, "suite"),
        (["--sample", "nothing.jsonl"], 1, "nothing.jsonl"),
        (["--sample", "x.jsonl", "--record"], 2, "--sample"),
        (["--release", "events/2026-11-20-10:00"], 1, "is not held"),
        (["--suite", "gates", "--junit", "/nowhere/report.xml"], 1, "cannot be written"),
    ],
)
def test_bad_input_is_one_line(arguments, code, text, lake):
    folder, settings = lake
    found, _, err = run(folder, *arguments, **settings)
    assert found == code, err
    lines = [line for line in err.splitlines() if line.startswith(("engagement:", "check:"))]
    assert len(lines) == 1
    assert text in lines[0]
    assert "Traceback" not in err


def test_without_java_the_twin_judges_and_the_command_says_so(lake, tmp_path):
    folder, settings = lake
    code, out, _ = run(folder, "--hour", "2026-11-20T10", "--json", XDG_CACHE_HOME=str(tmp_path), **settings)
    found = json.loads(out)["results"]
    assert code == 1
    assert [(item["check"], item["status"]) for item in found if item["status"] == "broken"] == [("deequ_ran", "broken")]
    assert "make setup" in next(item["message"] for item in found if item["check"] == "deequ_ran")
    assert {item["engine"] for item in found if item["status"] == "passed"} == {"duckdb"}


def test_two_checks_at_once_do_not_disturb_each_other(lake):
    folder, settings = lake
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")} | settings
    command = [sys.executable, "-m", "engagement", "check", "--day", "2026-11-20", "--suite", "duckdb", "--json"]
    both = [subprocess.Popen(command, cwd=folder, env=clean, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outs = [json.loads(process.communicate(timeout=300)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert outs[0]["counts"] == outs[1]["counts"]


def test_a_held_unit_is_released_by_hand_and_published_by_a_rebuild_too(tmp_path):
    from dataclasses import replace

    from engagement.contract import TimeWindow
    from engagement.lake import open_lake
    from engagement.raw import files, rows
    from engagement.raw.names import topic_chain

    settings = lake_helpers.settings_of(tmp_path)
    environment = {
        "ENGAGEMENT_LAKE_URL": settings.lake_url,
        "ENGAGEMENT_STATE_DIR": str(settings.state_dir),
        "ENGAGEMENT_BACKGROUND_NICE": "0",
    }
    with lake_helpers.tables_of(tmp_path) as context:
        item = lake_helpers.screen_view(0, HOUR)
        record = rows.Record(0, HOUR, b"u1", lake_helpers.payload(item))
        batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), [record], TimeWindow.of(context.format.history_start, 300, 30), 60)
        files.write(context.lake, topic_chain("session", "5e" * 16, 0), 0, 2, replace(batch, event_slots={HOUR: 2}))
    command = [sys.executable, "-m", "engagement"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ENGAGEMENT_")} | environment
    refreshed = subprocess.run([*command, "refresh"], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert "events_accounted_for" in refreshed.stderr
    lake, _ = open_lake(settings)
    (incident,) = quarantine.held(lake)
    told = subprocess.run([*command, "status"], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert "events/2026-11-20-10:00" in told.stdout
    code, out, err = run(tmp_path, "--release", incident.unit, "--yes", **environment)
    assert (code, out) == (0, "events/2026-11-20-10:00 is published; rebuilds publish it too\n"), err
    assert quarantine.held(lake) == []
    again = subprocess.run(
        [*command, "backfill", "--from", "2026-11-20", "--to", "2026-11-20"],
        cwd=tmp_path,
        env=clean,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert lake_helpers.big_table(settings, "hour")[0]["total_events"] == 1
