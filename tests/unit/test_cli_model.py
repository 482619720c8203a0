"""`engagement sql` and `engagement tables` follow the model file beside engagement.toml; a mistake in it is one line, exit 1."""

from __future__ import annotations

import json

import pytest

from engagement.cli import run
from engagement.model import schemas
from engagement.tables import engine

TAPS = """[metrics.taps]
kind = "additive"
of = "events"
sql = "count(*) FILTER (event_type = 'tap')"
comment = "events of type tap"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_sql_prints_each_table_as_it_runs(folder, capsys):
    (folder / "model.toml").write_text(TAPS)
    for name in (schemas.NAMES[table] for table in engine.FILES):
        assert run(["sql", name]) == 0
        printed = capsys.readouterr().out
        assert "{{" not in printed
        assert ("AS taps" in printed) == (name in ("user_activity", "daily_aggregates_with_dimensions"))
    assert list(folder.iterdir()) == [folder / "model.toml"], "nothing is made of a lake"


def test_sql_of_no_table_is_wrong_use(folder, capsys):
    assert run(["sql", "event"]) == 2
    assert "no such table; they are events, session_fragments" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_tables_lists_what_is_declared_too(folder, capsys):
    assert run(["tables", "--json"]) == 0
    plain = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (folder / "model.toml").write_text(TAPS)
    assert run(["tables", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    new = [row for row in found if row not in plain]
    assert [(row["table"], row["column"], row["type"], row["comment"]) for row in new] == [
        ("user_activity", "taps", "BIGINT", "events of type tap"),
        ("daily_aggregates_with_dimensions", "taps", "BIGINT", "events of type tap"),
    ]
    assert run(["tables"]) == 0
    assert "events of type tap" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TAPS.replace("event_type", "event_typ"), "engagement: model.toml: [metrics.taps] sql"),
        ("[metrics", "engagement: model.toml: not readable as TOML"),
        (b"\xff", "not readable"),
    ],
)
def test_a_model_that_cannot_be_used_is_one_line_and_exit_1(text, message, folder, capsys):
    (folder / "model.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run(["tables"]) == 1
    told = capsys.readouterr()
    assert not told.out
    assert message in told.err
    assert told.err.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_file_that_was_asked_for_must_be_there(monkeypatch, capsys):
    monkeypatch.setenv("ENGAGEMENT_MODEL", "mine.toml")
    assert run(["tables"]) == 1
    assert "mine.toml: there is no such file" in capsys.readouterr().err
