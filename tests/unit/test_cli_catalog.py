"""`engagement catalog` in process: what goes to stdout, and what is refused."""

from __future__ import annotations

import json
import os

import lake_helpers
import pytest
from fake_glue import FakeGlue

from engagement import cli
from engagement.catalog import calls
from engagement.lake import open_lake
from engagement.model import schemas, units


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", str(tmp_path / "lake"))
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    open_lake(lake_helpers.settings_of(tmp_path))
    return tmp_path


def test_show_lists_every_table_and_where_it_lies(folder, capsys):
    assert cli.run(["catalog", "show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"local: {folder / 'state' / 'lake.duckdb'}"
    assert [line.split()[0] for line in lines[1:]] == list(schemas.NAMES.values())
    assert lines[1].split()[1] == f"{(folder / 'lake').as_uri()}/{units.EVENTS}/"
    assert lines[1].endswith("by year, month, day, hour")


@pytest.mark.usefixtures("folder")
def test_show_prints_what_glue_takes_as_json_lines(capsys, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_CATALOG", "glue")
    assert cli.run(["catalog", "show", "--json"]) == 0
    tables = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [table["Name"] for table in tables] == list(schemas.NAMES.values())
    glue = FakeGlue()
    glue.create_database(DatabaseInput={"Name": "d"})
    for table in tables:
        glue.create_table(DatabaseName="d", TableInput=table)


def test_refresh_and_mend_say_what_they_did(folder, capsys):
    assert cli.run(["catalog", "refresh"]) == 0
    assert "lake.duckdb: wrote events, " in capsys.readouterr().out
    assert cli.run(["catalog", "refresh"]) == 0
    assert capsys.readouterr().out.endswith("lake.duckdb: nothing had to change\n")
    (folder / "state" / "lake.duckdb").write_bytes(b"mine")
    assert cli.run(["catalog", "mend"]) == 0
    assert capsys.readouterr().out.startswith("differed: ")


def test_mend_of_glue_tells_its_calls_as_json(folder, capsys, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_CATALOG", "glue")
    glue = FakeGlue()
    monkeypatch.setattr(calls, "client", lambda _settings: glue)
    lake, _ = open_lake(lake_helpers.settings_of(folder))
    lake.put_new("processed/sessions/year=2026/month=01/day=09/hour=08/slot-00.parquet", b"rows")
    assert cli.run(["catalog", "mend", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["catalog"], report["where"], report["partitions_added"]) == ("glue", "engagement", 1)
    assert report["calls"] == dict(glue.calls)


@pytest.mark.usefixtures("folder")
def test_without_a_lake_nothing_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", str(tmp_path / "none"))
    for command in ("show", "refresh", "mend"):
        assert cli.run(["catalog", command]) == 1
        assert "there is no lake" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("name", "value"), [("CATALOG", "hive"), ("GLUE_PARTITIONS", "none")])
def test_an_unknown_kind_of_catalog_is_refused(capsys, monkeypatch, name, value):
    monkeypatch.setenv(f"ENGAGEMENT_{name}", value)
    assert cli.run(["catalog", "show"]) == 1
    assert f"ENGAGEMENT_{name}='{value}': must be one of" in capsys.readouterr().err
