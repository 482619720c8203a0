"""Commands over a small lake, in process: query, refresh, backfill, import, status; what they print, and what they leave alone."""

# ruff: noqa: F811 - fixtures come by import
from __future__ import annotations

import csv
import gzip
import io
import json
import os
from datetime import timedelta

import lake_helpers
import pytest
from cli_world import (  # noqa: F401 - fixtures among them
    DAY,
    MOMENTS,
    TODAY,
    dagsters_own_log,
    engagement,
    event,
    files_of,
    filled,
    here,
    lake,
    refused,
    settle_in,
)

from engagement import priority
from engagement.model import units
from engagement.tables import views

# ------------------------------------------------------------------------------------------------ query


@pytest.mark.usefixtures("lake")
def test_query_prints_pure_json(engagement):
    sql = """SELECT count(*) AS n, min(event_time) AS first, NULL AS nothing, 1.5::DECIMAL(3, 1) AS half, sum(kafka_offset) AS total,
        [1, 2] AS list, 'ü"' AS text FROM events"""
    code, out, err = engagement("query", sql, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(out, parse_constant=pytest.fail) == [
        {
            "n": len(MOMENTS),
            "first": MOMENTS[0].isoformat(),
            "nothing": None,
            "half": 1.5,
            "total": 21,
            "list": [1, 2],
            "text": 'ü"',
        }
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.usefixtures("lake")
def test_query_prints_null_for_what_json_cannot_say(engagement, value):
    _, out, _ = engagement("query", f"SELECT '{value}'::DOUBLE AS value, ['{value}'::DOUBLE] AS list", "--format", "json")
    assert json.loads(out, parse_constant=pytest.fail) == [{"value": None, "list": [None]}]


@pytest.mark.usefixtures("lake")
def test_query_of_no_rows_is_an_empty_list_or_a_header(engagement):
    sql = "SELECT user_id, hour FROM events WHERE user_id = 'nobody'"
    assert engagement("query", sql, "--format", "json") == (0, "[]\n", "")
    code, out, _ = engagement("query", sql, "--format", "csv")
    assert (code, out.split()) == (0, ["user_id,hour"])


@pytest.mark.usefixtures("lake")
def test_query_prints_csv_that_a_reader_of_csv_reads_back(engagement):
    code, out, err = engagement(
        "query", "SELECT user_id, 'a,\"b\"' AS odd, count(*) AS n FROM events GROUP BY 1 ORDER BY 1", "--format", "csv"
    )
    assert (code, err) == (0, "")
    assert list(csv.reader(io.StringIO(out))) == [["user_id", "odd", "n"], ["u0", 'a,"b"', "4"], ["u1", 'a,"b"', "3"]]


@pytest.mark.usefixtures("lake")
def test_query_prints_a_table_for_people(engagement):
    code, out, err = engagement("query", "SELECT user_id, count(*) AS events_of_user, NULL AS empty FROM events GROUP BY 1 ORDER BY 1")
    assert (code, err) == (0, "")
    assert "events_of_user" in out
    assert [row.split()[1] for row in out.splitlines() if "u0" in row or "u1" in row] == ["u0", "u1"]
    assert "None" not in out


@pytest.mark.parametrize("view", views.VIEWS)
@pytest.mark.usefixtures("lake")
def test_query_sees_every_table(engagement, view):
    code, out, _ = engagement("query", f"SELECT count(*) AS n FROM {view} WHERE year = 2025", "--format", "json")
    assert code == 0
    assert (json.loads(out)[0]["n"] > 0) == (not view.startswith("quality_")), "nobody checked this lake"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT nonsense FROM events",
        "SELECT * FROM nonsense",
        "SELEC 1",
        "SELECT 1 +",
    ],
)
@pytest.mark.usefixtures("lake")
def test_bad_sql_is_told_with_the_list_of_tables(engagement, sql):
    code, out, err = engagement("query", sql)
    assert (code, out) == (1, "")
    assert err.startswith("engagement: ")
    assert "Traceback" not in err
    assert f"Tables: {', '.join(views.VIEWS)}" in err


NO_SELECT = {
    "copy": "COPY (SELECT 1) TO '{folder}/out.csv'",
    "copy_into_the_lake": "COPY (SELECT 1) TO '{folder}/lake/out.parquet'",
    "explain_analyze": "EXPLAIN ANALYZE SELECT 1",
    "explain_analyze_copy": "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/lake/out.parquet'",
    "insert": "INSERT INTO events SELECT * FROM events",
    "insert_behind_with": "WITH found AS (SELECT 1) INSERT INTO events SELECT * FROM events",
    "delete": "DELETE FROM events",
    "create": "CREATE TABLE mine AS SELECT 1",
    "attach": "ATTACH '{folder}/lake/mine.duckdb' AS mine",
    "set": "SET threads = 1",
    "pragma": "PRAGMA database_list",
    "export": "EXPORT DATABASE '{folder}/lake/out'",
    "install": "INSTALL httpfs",
    "two_selects": "SELECT 1; SELECT 2",
    "select_then_copy": "SELECT 1; COPY (SELECT 1) TO '{folder}/out.csv'",
    "nothing": "",
    "comment": "/* nothing */",
}


@pytest.mark.parametrize("sql", NO_SELECT.values(), ids=NO_SELECT)
def test_what_is_not_one_select_is_refused_and_writes_nothing(refused, lake, sql):
    before = files_of(lake)
    assert "only one SELECT" in refused(1, "query", sql.format(folder=lake))
    assert files_of(lake) == before


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM read_text('{folder}/secret.txt')", "SELECT * FROM '{folder}/secret.csv'", "SELECT * FROM glob('{folder}/*')"]
)
@pytest.mark.usefixtures("lake")
def test_query_reads_nothing_outside_the_lake(engagement, tmp_path, sql):
    (tmp_path / "secret.txt").write_text("hunter2")
    (tmp_path / "secret.csv").write_text("a\nhunter2\n")
    code, out, err = engagement("query", sql.format(folder=tmp_path))
    assert "hunter2" not in out + err
    assert "secret" not in out
    assert code == 1


# ------------------------------------------------------------------------------------------------ refresh, backfill


def test_a_second_refresh_does_nothing(engagement, lake):
    with lake_helpers.tables_of(lake) as context:
        assert len(list(context.lake.list("processed"))) > 4
    assert engagement("refresh")[:2] == (0, "refreshed 0 hours and 0 days; nothing waits\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--from", "2025-01-16", "--to", "2025-01-15"), ["2025-01-16", "after", "2025-01-15"]),
        (("--from", "2025-01-15", "--to", str(TODAY + timedelta(days=2))), ["future", "last valid day is"]),
        (("--from", "2019-12-31", "--to", "2025-01-15"), ["history start", "first valid day is 2020-01-01"]),
        (("--from", "yesterday", "--to", "2025-01-15"), ["--from yesterday", "YYYY-MM-DD"]),
        (("--from", "2025-01-15", "--to", "2025-02-30"), ["--to 2025-02-30", "YYYY-MM-DD"]),
        (("--from", "2025-01-15", "--to", "2025-01-15T10:00"), ["--to 2025-01-15T10:00", "YYYY-MM-DD"]),
        (("--from", "2025-01-15", "--to", "2025-01-15", "--assets", "sesions"), ["sesions", "events", "sessions", "daily_engagement"]),
        (("--from", "2025-01-15", "--to", "2025-01-15", "--assets", "raw_events"), ["raw_events", "hourly_engagement"]),
        (("--from", "2025-01-15", "--to", "2025-01-15", "--assets", ","), ["events", "daily_engagement"]),
    ],
    ids=["from_after_to", "future", "before_history_start", "no_day", "no_such_day", "hour", "misspelt", "raw", "no_asset"],
)
@pytest.mark.usefixtures("lake")
def test_a_wrong_backfill_is_refused_with_the_valid_choices(refused, arguments, told):
    line = refused(2, "backfill", *arguments)
    assert [word for word in told if word not in line] == []


@pytest.mark.usefixtures("lake")
def test_a_backfills_dry_run_lists_its_runs_and_changes_nothing(engagement):
    code, out, _ = engagement("backfill", "--from", "2025-01-14", "--to", "2025-01-15", "--dry-run")
    assert code == 0
    *runs, cost = out.splitlines()
    assert [line.split()[:2] for line in runs] == [
        ["hours", "2025-01-14-00:00"],
        ["days", "2025-01-14"],
        ["hours", "2025-01-15-00:00"],
        ["days", "2025-01-15"],
    ]
    assert [line.split("  ")[-1] for line in runs] == ["1 raw rows", "day rows from tables", "6 raw rows", "day rows from tables"]
    assert cost.startswith("4 runs, 7 raw rows: about 0:00:0")
    code, out, _ = engagement("backfill", "--from", "2025-01-15", "--to", "2025-01-15", "--assets", "sessions, events", "--dry-run")
    assert code == 0
    assert out.splitlines()[0].startswith("hours 2025-01-15-00:00 … 2025-01-15-23:00  events, sessions  ")
    assert len(out.splitlines()) == 2


def rows_of(folder):
    """Object of a table -> its rows in their order."""
    import pyarrow.parquet as pq

    found = sorted(path for table in ("processed", "aggregated") for path in (folder / "lake" / table).rglob("*.parquet"))
    return {str(path.relative_to(folder)): pq.ParquetFile(path).read().to_pylist() for path in found}


def lose_a_row(path):
    """Its footer still says that all is there: only a rebuild from raw mends that."""
    import pyarrow.parquet as pq

    rows = pq.ParquetFile(path).read()
    pq.write_table(rows.slice(1), path)
    assert pq.ParquetFile(path).metadata.metadata[b"engagement"] == rows.schema.metadata[b"engagement"]


def test_a_backfill_makes_the_same_objects_again_from_raw_alone(engagement, filled, monkeypatch):
    settle_in(filled, monkeypatch)
    bytes_before, rows_before = files_of(filled), rows_of(filled)
    of_the_day = [name for name in rows_before if "day=15" in name]
    assert len([name for name in of_the_day if name.endswith("/slot-00.parquet")]) >= 16
    assert len([name for name in of_the_day if name.endswith(("/hours.parquet", "/day.parquet"))]) == 2
    (damaged,) = [name for name in of_the_day if name.startswith(f"lake/{units.EVENTS}/") and "hour=10" in name]
    for name in of_the_day:
        if name == damaged:
            lose_a_row(filled / name)
        else:
            (filled / name).unlink()
    code, out, _ = engagement("backfill", "--from", "2025-01-15", "--to", "2025-01-15")
    assert code == 0
    assert out == "rebuilt 25 units in this process\n"
    bytes_after, rows_after = files_of(filled), rows_of(filled)
    assert {name: rows for name, rows in rows_after.items() if rows or name in rows_before} == rows_before
    # Footers of tables further down name the versions of what they were made from; those of events and raw name offsets alone.
    exact = [name for name in bytes_before if name.startswith(("lake/raw/", f"lake/{units.EVENTS}/"))]
    assert {name: bytes_after[name] for name in exact} == {name: bytes_before[name] for name in exact}


def test_a_backfill_of_what_is_right_already_replaces_no_object_and_runs_at_low_priority(engagement, lake, monkeypatch):
    asked = []
    monkeypatch.setattr(priority, "give_way", asked.append)
    monkeypatch.delenv("ENGAGEMENT_BACKGROUND_NICE")
    versions = {path: path.stat().st_mtime_ns for path in lake.glob("lake/*/**/*.parquet")}
    code, _, err = engagement("backfill", "--from", "2025-01-14", "--to", "2025-01-14", "--assets", "events,daily_engagement")
    assert code == 0, err
    assert {path: path.stat().st_mtime_ns for path in versions} == versions
    assert asked == [19]


def test_a_backfill_goes_on_behind_a_day_that_failed_and_resume_does_what_is_left(engagement, monkeypatch):
    from engagement_assets import local_runs

    command = ("backfill", "--from", "2025-01-14", "--to", "2025-01-15", "--assets", "daily_engagement")
    tried, real = [], local_runs.LocalRuns.run

    def run(self, chunk, **given):
        tried.append(str(chunk))
        if len(tried) == 1:
            raise local_runs.RunFailed("the disk is full")
        return real(self, chunk, **given)

    monkeypatch.setattr(local_runs.LocalRuns, "run", run)
    code, _, err = engagement(*command)
    assert code == 1
    assert "1 runs of the backfill failed, the others are done; --resume tries them again: the disk is full\n" in err
    assert tried == ["2025-01-14", "2025-01-15"]
    assert [line.split()[1] for line in engagement(*command, "--resume", "--dry-run")[1].splitlines()[:-1]] == ["2025-01-14"]
    assert [line.split()[1] for line in engagement(*command, "--dry-run")[1].splitlines()[:-1]] == ["2025-01-14", "2025-01-15"]
    assert engagement(*command, "--resume")[1] == "rebuilt 2 units in this process\n"
    assert tried[2:] == ["2025-01-14"]
    assert engagement(*command, "--resume", "--dry-run")[1].startswith("0 runs, ")


def test_a_backfill_is_left_to_a_daemon_only_where_one_lives(refused):
    days = ("--from", "2025-01-14", "--to", "2025-01-14")
    assert "no Dagster daemon" in refused(1, "backfill", *days, "--detach")
    assert "--here" in refused(2, "backfill", *days, "--detach", "--here")


# ------------------------------------------------------------------------------------------------ import


def history(count):
    return b"".join(lake_helpers.payload(event(number, DAY + timedelta(minutes=number))) + b"\n" for number in range(count))


WRONG_FILES = {
    "missing": None,
    "empty": b"",
    "empty.gz": gzip.compress(b""),
    "truncated.jsonl.gz": gzip.compress(history(2000))[:-400],
    "not_gzip.jsonl.gz": history(3),
    "picture.jsonl": bytes(range(256)) * 20,
    "table.csv": b"event_id,user_id\n1,2\n",
    "folder": "folder",
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_a_wrong_file_is_refused_in_one_line_and_nothing_of_it_is_in_the_lake(refused, here, name):
    path = here / name
    if WRONG_FILES[name] == "folder":
        path.mkdir()
    elif WRONG_FILES[name] is not None:
        path.write_bytes(WRONG_FILES[name])
    good = here / "good.jsonl"
    good.write_bytes(history(2))
    assert name in refused(1, "import", "good.jsonl", name)
    assert list(here.glob("lake/raw/**/*.parquet")) == []


def test_an_imported_file_is_seen_by_query_after_refresh_and_goes_in_once(engagement, here):
    (here / "history.jsonl.gz").write_bytes(gzip.compress(history(5) + b"{\n"))
    code, out, _ = engagement("import", "history.jsonl.gz")
    assert (code, out) == (0, "history.jsonl.gz: 6 rows, 1 rejected (bad_json 1)\n")
    (here / "renamed.jsonl").write_bytes(history(5) + b"{\n")
    code, out, _ = engagement("import", "renamed.jsonl")
    assert (code, out) == (0, "renamed.jsonl: 6 rows, 1 rejected (bad_json 1), already complete: nothing changed\n")
    sql = "SELECT (SELECT count(*) FROM events) AS events, (SELECT max(total_events) FROM daily_aggregates_with_dimensions) AS counted"
    assert json.loads(engagement("query", sql, "--format", "json")[1]) == [{"events": 0, "counted": None}]
    code, out, _ = engagement("refresh")
    assert (code, out) == (0, "refreshed 1 hours and 1 days; nothing waits\n")
    assert json.loads(engagement("query", sql, "--format", "json")[1]) == [{"events": 5, "counted": 5}]


def test_refresh_names_a_raw_object_that_it_could_not_read(engagement, here):
    with lake_helpers.tables_of(here) as context:
        lake_helpers.write(context, [event(0, DAY)])
        (entry,) = context.lake.list("raw")
        context.lake.path(entry.key).write_bytes(b"torn")
    code, out, err = engagement("refresh")
    assert (code, out) == (0, "refreshed 0 hours and 0 days; nothing waits\n")
    assert err.startswith(f"engagement: {entry.key} is no Parquet file")
    assert err.endswith("its records are in no table\n")


# ------------------------------------------------------------------------------------------------ status


@pytest.mark.usefixtures("lake")
def test_status_without_a_broker_names_the_problem_and_tells_the_rest(engagement):
    code, out, err = engagement("status", "--json")
    found = json.loads(out)
    assert (code, err) == (0, "")
    assert found["partitions"] is None
    assert [text for text in found["problems"] if os.environ["ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS"] in text]
    rows = {row["asset"]: row for row in found["assets"]}
    assert rows["raw_events"]["rows"] == rows["events"]["rows"] == len(MOMENTS)
    assert rows["daily_engagement"]["last_run"]
    assert rows["events"]["newest_received_at"] == (MOMENTS[-1] + timedelta(seconds=1)).isoformat()
    assert found["waits"] == {"hours": {}, "days": {}}
    code, table, _ = engagement("status")
    assert code == 0
    assert "daily_engagement" in table
    assert "nothing" in table


def test_status_of_records_that_wait_names_their_hours(engagement, here):
    with lake_helpers.tables_of(here) as context:
        lake_helpers.write(context, [event(0, DAY)])
    code, out, _ = engagement("status", "--json")
    assert code == 0
    assert list(json.loads(out)["waits"]["hours"]) == [DAY.isoformat()]
    assert len(json.loads(out)["problems"]) == 2, "no broker, no Dagster instance yet"
