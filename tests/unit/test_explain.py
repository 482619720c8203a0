"""`engagement explain`: from a row of the page down to offsets of the log, and what it says where there is nothing to explain."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from lake_helpers import screen_view

from engagement import cli
from engagement.model import units
from engagement.tables import provenance
from engagement.waiting import refresh

HOUR = datetime(2025, 1, 15, 10, tzinfo=UTC)
BIG = "daily_aggregates_with_dimensions"


@pytest.fixture
def engagement(tmp_path, monkeypatch, capsys):
    """One session over two hours, refreshed, and the command line in its folder."""
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", str(tmp_path / "lake"))
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [screen_view(0, HOUR + timedelta(minutes=50)), screen_view(1, HOUR + timedelta(minutes=65))])
        refresh.until_nothing_waits(context)

    def run(*arguments):
        code = cli.run(["explain", *arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def test_a_number_is_explained_down_to_offsets_of_the_log(engagement):
    code, out, _ = engagement(BIG, "--hour", "2025-01-15T10:00", "--column", "bounce_rate", "--json")
    told = json.loads(out)
    assert code == 0
    assert told["columns"][0] == {"table": BIG, "column": "bounce_rate", "from": ["sessions.is_bounce"]}
    assert {"table": "events", "column": "event_time", "from": ["raw.event_time"]} in told["columns"]
    by_table = {}
    for unit in told["units"]:
        by_table.setdefault(unit["table"], []).append(unit)
    hours = [unit["key"].partition("/hour=")[2] for unit in by_table["events"]]
    assert hours == ["10/slot-00.parquet", "11/slot-00.parquet"], "the session that began in the hour goes on in the next"
    (raw,) = by_table["events"][0]["raw"]
    assert raw.endswith("[0, 2) 1 rows")
    assert told["units"][0]["offsets"] == {"session/5e5e5e5e-00000": 2}
    assert not any(unit["outdated"] for unit in told["units"])


def test_people_get_the_same_as_lines(engagement):
    code, out, _ = engagement("sessions", "--hour", "2025-01-15T10:00", "--column", "user_id")
    assert code == 0
    assert out.splitlines()[0] == "sessions.user_id  <-  session_fragments.user_id"
    assert "    session/5e5e5e5e-00000 up to offset 2" in out.splitlines()


def test_day_rows_are_explained_by_their_hours(engagement):
    code, out, _ = engagement(BIG, "--day", "2025-01-15")
    assert code == 0
    assert out.startswith("aggregated/daily_aggregates_with_dimensions/year=2025/month=01/day=15/day.parquet")
    assert "raw/session/" in out


def test_what_other_code_or_another_model_made_is_named(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [screen_view(0, HOUR)])
        refresh.until_nothing_waits(context)
        assert {unit.outdated for unit in provenance.of(context, units.SESSIONS, HOUR)} == {()}
        old = type(context).made_by
        try:
            type(context).made_by = property(lambda self: old.fget(self) | {"code": "another"})
            assert {unit.outdated for unit in provenance.of(context, units.SESSIONS, HOUR)} == {("code",)}
        finally:
            type(context).made_by = old


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["nonsense", "--hour", "2025-01-15T10:00"], 2, "sessions"),
        (["sessions"], 2, "--hour or --day"),
        (["sessions", "--hour", "soon"], 2, "YYYY-MM-DDTHH:00"),
        (["sessions", "--hour", "2025-01-15T10:30"], 2, "not the start"),
        (["sessions", "--day", "2025-01-15"], 2, "give --hour"),
        (["sessions", "--hour", "2025-01-15T10:00", "--column", "nope"], 2, "is_bounce"),
        (["sessions", "--hour", "2025-01-20T10:00"], 1, "nothing was made"),
    ],
)
def test_what_cannot_be_explained_is_told_in_one_line(engagement, arguments, code, named):
    found, out, err = engagement(*arguments)
    assert (found, out) == (code, "")
    assert named in err
    assert err.count("\n") == 1
