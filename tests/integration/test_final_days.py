"""What people see of final days: status, backfill and import say so, each in one line."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest

from engagement import cli
from engagement.cli import status, status_table
from engagement.ingest import lag
from engagement.maintenance import retention
from engagement.waiting import refresh, waits

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
FINAL = datetime(2026, 3, 10, 10, tzinfo=UTC)
FIRST_OPEN = date(2026, 3, 14)
EVENT = {"user_id": "u1", "event_type": "screen_view"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A lake with one old hour, whose days before FIRST_OPEN are final; the working directory."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"LAKE_URL": "lake", "STATE_DIR": "state", "THREADS": "1"}.items():
        monkeypatch.setenv(f"ENGAGEMENT_{name}", value)
    monkeypatch.setattr(lag, "measure", lambda *_: [])
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(0, FINAL)])
        refresh.until_nothing_waits(context)
        retention.record(context.lake, retention.Due({"events": FIRST_OPEN - timedelta(days=1)}, FIRST_OPEN))
    return tmp_path


def seen(here, capsys):
    found = status.collect(lake_helpers.settings_of(here), NOW)
    assert json.loads(json.dumps(found)) == found
    status_table.show(found)
    return found, capsys.readouterr().out


def test_status_says_since_when_data_is_kept_and_how_big_each_layer_is(here, capsys):
    found, out = seen(here, capsys)
    assert found["retention"] == {"first_open_day": "2026-03-14", "kept_since": {"events": "2026-03-13"}, "hours_with_rows_too_late": []}
    assert "kept   events since 2026-03-13, days before 2026-03-14 are final" in out
    assert "came when those were final" not in out
    layers = {layer["layer"]: layer["objects"] for layer in found["layers"]}
    assert layers | {"raw": 1, "user_facts": 2, "day_rows": 1, "archive": 0} == layers
    (line,) = [line for line in out.splitlines() if " raw " in line and "below" in line]
    assert line.split()[:4] == ["layers", "raw", "1", "object"]
    assert line.endswith("100% below 1 MiB")


def test_rows_that_came_too_late_are_counted_and_no_longer_once_the_hour_rows_are_gone(here, capsys):
    with lake_helpers.tables_of(here) as context:
        late = [FINAL + timedelta(minutes=1), FINAL.replace(hour=3)]
        lake_helpers.write(context, [lake_helpers.screen_view(1 + number, at) for number, at in enumerate(late)])
        assert waits.compute(context).final == (FINAL.replace(hour=3), FINAL)
    _, out = seen(here, capsys)
    assert "rows of 2 hours came when those were final: they are in raw and in no table" in out
    with lake_helpers.tables_of(here) as context:
        retention.record(context.lake, retention.Due({"hour_rows": FIRST_OPEN - timedelta(days=1)}, FIRST_OPEN))
        assert waits.compute(context).final == ()


@pytest.mark.usefixtures("here")
def test_a_backfill_of_final_days_is_refused_with_the_first_valid_day(capsys):
    assert cli.run(["backfill", "--from", "2026-03-13", "--to", "2026-03-15", "--dry-run"]) == 2
    assert "the first valid day is 2026-03-14" in capsys.readouterr().err
    assert cli.run(["backfill", "--from", "2026-03-14", "--to", "2026-03-15", "--dry-run"]) == 0


def test_imported_events_of_final_days_are_rejects(here, capsys):
    lines = [
        json.dumps(EVENT | {"event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "timestamp": f"2026-03-{day}T23:59:59.9Z"})
        for number, day in enumerate((10, 13, 14))
    ]
    (here / "history.jsonl").write_text("\n".join(lines) + "\n")
    assert cli.run(["import", "history.jsonl", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rejects"] == {"before_history_start": 2}
    assert (
        err.splitlines()[0] == "engagement: days before 2026-03-14 are final (retention): their events are rejected, before_history_start"
    )


def test_a_lake_without_retention_says_nothing_of_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lag, "measure", lambda *_: [])
    with lake_helpers.tables_of(tmp_path):
        pass
    found, out = seen(tmp_path, capsys)
    assert found["retention"] == {"first_open_day": None, "kept_since": {}, "hours_with_rows_too_late": []}
    assert "kept" not in out
