"""`lake.duckdb`: the same rows, columns and comments as `query`, for any DuckDB, whatever happens to the lake meanwhile."""

from __future__ import annotations

import fcntl
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import duckdb
import lake_helpers
import pytest

from engagement import catalog
from engagement.errors import PermanentError
from engagement.lake import open_lake
from engagement.model import declared, schemas
from engagement.tables import views
from engagement.waiting import refresh

FIRST = datetime(2026, 1, 9, 8, 30, tzinfo=UTC)
SECOND = datetime(2026, 10, 10, 10, 30, tzinfo=UTC)
MODEL = """
[columns.cart]
from = "properties.cart"
type = "double"
comment = "value of the user's cart"

[dimensions.region]
column = "region"
all = "ALL_REGIONS"
comment = "where"

[metrics.taps]
kind = "additive"
of = "events"
sql = "count_if(event_type = 'tap')"
comment = "taps"
"""


def fill(folder, *events):
    with lake_helpers.tables_of(folder) as context:
        lake_helpers.write(context, events)
        refresh.until_nothing_waits(context)
        return catalog.refresh(context.settings, context.lake, opened=context)


def event(number, at, received_at=None):
    return lake_helpers.screen_view(number, at, received_at=received_at or at)


@pytest.fixture
def folder(tmp_path):
    """Of a name that needs quoting in SQL and in globs."""
    made = tmp_path / "it's [a] lake*"
    made.mkdir()
    return made


def opened(folder):
    return duckdb.connect(str(folder / "state" / "lake.duckdb"), read_only=True)


def rows_of(con, name):
    return con.execute(f"SELECT * FROM {name} ORDER BY ALL").fetchall(), con.execute(f"DESCRIBE {name}").fetchall()


def assert_as_queried(folder):
    with views.open_views(lake_helpers.settings_of(folder)) as queried, opened(folder) as con:
        for name in views.VIEWS:
            assert rows_of(con, name) == rows_of(queried, name), name


def test_every_table_is_as_queried_while_it_is_empty_and_when_it_is_filled(folder):
    fill(folder)
    assert_as_queried(folder)
    fill(folder, event(0, FIRST), event(1, SECOND))
    assert_as_queried(folder)
    with opened(folder) as con:
        assert con.execute("SELECT DISTINCT month FROM events ORDER BY month").fetchall() == [(1,), (10,)]


def test_every_table_is_as_queried_under_a_declared_model_over_objects_of_both_ages(folder):
    fill(folder, event(0, FIRST))
    (folder / "model.toml").write_text(MODEL)
    fill(folder, event(1, SECOND))
    assert_as_queried(folder)
    with opened(folder) as con:
        assert con.execute("SELECT region FROM daily_aggregates_with_dimensions WHERE month = 10").fetchall()
        assert con.execute("SELECT comment FROM duckdb_columns() WHERE column_name = 'cart'").fetchall() == [("value of the user's cart",)]
    (folder / "model.toml").unlink()
    fill(folder)
    assert_as_queried(folder)


def test_every_table_and_column_has_its_comment(folder):
    fill(folder, event(0, FIRST))
    with opened(folder) as con:
        tables = dict(con.execute("SELECT view_name, comment FROM duckdb_views() WHERE NOT internal").fetchall())
        found = con.execute("SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal").fetchall()
    assert tables == {schemas.NAMES[table]: text for table, text in schemas.DESCRIPTIONS.items()}
    expected = {(row["table"], row["column"], row["comment"]) for row in schemas.described()}
    assert {row for row in found if row[1] != "is_open"} == expected
    assert all(comment for _, _, comment in found)


def test_new_rows_show_without_writing_the_views_anew(folder):
    fill(folder, event(0, FIRST))
    version = (folder / "state" / "lake.duckdb").stat()
    report = fill(folder, event(1, SECOND))
    assert not report.changed
    assert (folder / "state" / "lake.duckdb").stat() == version
    assert_as_queried(folder)


def test_a_session_closes_with_the_log_though_no_view_changes(folder):
    fill(folder, event(0, SECOND))
    is_open = "SELECT is_open FROM sessions ORDER BY started_at DESC LIMIT 1"
    with opened(folder) as con:
        assert con.execute(is_open).fetchall() == [(True,)]
        fill(folder, event(1, SECOND - timedelta(days=1), SECOND + timedelta(minutes=30)))
        assert con.execute(is_open).fetchall() == [(True,)], "at the very end of its gap it may still go on"
        fill(folder, event(2, SECOND - timedelta(days=1), SECOND + timedelta(minutes=30, milliseconds=1)))
        assert con.execute(is_open).fetchall() == [(False,)], "also for a reader that had it open before"


def test_another_process_reads_it_while_it_is_written_anew(folder):
    fill(folder, event(0, FIRST))
    code = (
        "import duckdb, sys\n"
        f"con = duckdb.connect({str(folder / 'state' / 'lake.duckdb')!r}, read_only=True)\n"
        "for line in sys.stdin: print(con.execute('SELECT count(*) FROM events').fetchall()[0][0], flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:

        def count():
            reader.stdin.write("\n")
            reader.stdin.flush()
            return int(reader.stdout.readline())

        assert count() == 1
        settings = lake_helpers.settings_of(folder)
        assert catalog.mend(settings, open_lake(settings)[0]).tables_written
        fill(folder, event(1, SECOND))
        assert count() == 2
        reader.stdin.close()


def test_a_file_that_is_gone_or_not_as_written_is_made_anew_and_a_foreign_one_is_told(folder):
    fill(folder, event(0, FIRST))
    settings = lake_helpers.settings_of(folder)
    lake, path = open_lake(settings)[0], folder / "state" / "lake.duckdb"
    path.unlink()
    assert catalog.refresh(settings, lake).changed
    with duckdb.connect(str(path)) as con:
        con.execute("DROP VIEW events")
    version = path.stat()
    report = catalog.mend(settings, lake, dry_run=True)
    assert report.changed
    assert path.stat() == version
    report = catalog.refresh(settings, lake)
    assert report.changed
    assert report.drift == [f"{path} is not as it was written"]
    assert_as_queried(folder)
    assert not catalog.refresh(settings, lake).changed


def test_how_far_the_log_was_read_is_asked_while_no_other_process_writes(folder, monkeypatch):
    fill(folder)
    settings = lake_helpers.settings_of(folder)

    def asked(_lake, _settings):
        with (folder / "state" / "lake.lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return FIRST

    monkeypatch.setattr(views, "read_to", asked)
    catalog.mend(settings, open_lake(settings)[0])
    import pyarrow.parquet as pq

    assert pq.read_table(folder / "state" / "lake.read_to.parquet")["read_to"].to_pylist() == [FIRST]


def test_what_a_killed_writer_left_stops_nobody(folder):
    fill(folder, event(0, FIRST))
    (folder / "state" / "lake.duckdb.new").write_bytes(b"half")
    (folder / "state" / "lake.duckdb.new.wal").write_bytes(b"half")
    settings = lake_helpers.settings_of(folder)
    catalog.mend(settings, open_lake(settings)[0])
    assert_as_queried(folder)
    assert sorted(path.name for path in (folder / "state").glob("lake.duckdb*")) == ["lake.duckdb"]


def test_an_object_that_is_no_parquet_is_named(folder):
    fill(folder, event(0, FIRST))
    settings = lake_helpers.settings_of(folder)
    lake = open_lake(settings)[0]
    lake.put_new("processed/sessions/year=2026/month=01/day=09/hour=09/slot-00.parquet", b"torn")
    with pytest.raises(PermanentError, match=r"lake\.duckdb could not be made.*hour=09/slot-00\.parquet"):
        catalog.mend(settings, lake)


def test_a_lake_of_imports_alone_has_no_open_session(folder):
    with lake_helpers.tables_of(folder) as context:
        lake_helpers.write(
            context, [event(0, FIRST).__class__(**{**vars(event(0, FIRST)), "kafka_topic": "import", "kafka_topic_id": "5e" * 32})]
        )
        refresh.until_nothing_waits(context)
        catalog.refresh(context.settings, context.lake, opened=context)
        assert declared.retired(context.lake, context.model) == {}
    with opened(folder) as con:
        assert con.execute("SELECT is_open FROM sessions").fetchall() == [(False,)]
