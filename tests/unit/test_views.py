"""The tables as people see them: integer path keys, typed even when empty, and nothing but reading."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import duckdb
import lake_helpers
import pytest

from engagement.model import schemas
from engagement.tables import views
from engagement.tables.views import VIEWS, NotOneSelect, open_views, require_select, tables_of
from engagement.waiting import refresh

FIRST = datetime(2026, 1, 9, 8, 30, tzinfo=UTC)
SECOND = datetime(2026, 10, 10, 10, 30, tzinfo=UTC)


def event(number, at, received_at=None):
    return lake_helpers.screen_view(number, at, received_at=received_at or at)


def fill(folder, *events, **overrides):
    with lake_helpers.tables_of(folder, **overrides) as context:
        lake_helpers.write(context, events)
        refresh.until_nothing_waits(context)
    return lake_helpers.settings_of(folder)


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """A lake with one event in January and one in October."""
    return fill(tmp_path_factory.mktemp("views"), event(0, FIRST), event(1, SECOND))


@pytest.fixture(scope="module")
def con(settings):
    with open_views(settings) as found:
        yield found


@pytest.mark.parametrize("name", [name for name, (_, keys) in views.VIEWS.items() if "hour" in keys])
def test_path_keys_are_integers_in_january_and_october(name, con):
    found = con.execute(f"SELECT DISTINCT year, month, day, hour FROM {name} ORDER BY month").fetchall()
    assert found == [(2026, 1, 9, 8), (2026, 10, 10, 10)]
    kinds = con.execute(f"SELECT DISTINCT typeof(year), typeof(month), typeof(day), typeof(hour) FROM {name}").fetchall()
    assert kinds == [("INTEGER",) * 4]


def test_path_keys_of_the_big_table_are_integers_and_the_hour_is_a_column(con):
    found = con.execute("SELECT DISTINCT year, month, day, hour FROM daily_aggregates_with_dimensions ORDER BY ALL").fetchall()
    assert found == [(2026, 1, 9, 8), (2026, 1, 9, None), (2026, 10, 10, 10), (2026, 10, 10, None)]
    kinds = "typeof(year), typeof(month), typeof(day), typeof(hour)"
    assert con.execute(f"SELECT DISTINCT {kinds} FROM daily_aggregates_with_dimensions").fetchall() == [("INTEGER",) * 4]


def test_a_month_can_be_compared_as_a_number(con):
    assert con.execute("SELECT count(*) FROM events WHERE month > 9").fetchall() == [(1,)]
    assert con.execute("SELECT count(*) FROM events WHERE month = 1").fetchall() == [(1,)]


def described(con, name):
    return {row[0]: row[1] for row in con.execute(f"DESCRIBE {name}").fetchall()}


def test_an_empty_lake_gives_the_same_typed_tables_without_rows(tmp_path, con):
    with open_views(lake_helpers.settings_of(tmp_path)) as empty:
        for name, (table, keys) in views.VIEWS.items():
            assert empty.execute(f"SELECT count(*) FROM {name}").fetchall() == [(0,)]
            assert described(empty, name) == described(con, name)
            assert set(schemas.columns(table)) | set(keys) <= set(described(empty, name))


def test_a_session_is_open_until_the_log_was_read_past_its_gap(tmp_path):
    at = SECOND
    settings = fill(tmp_path, event(0, at))
    is_open = "SELECT is_open FROM sessions ORDER BY started_at"
    assert lake_helpers.table(settings, is_open) == [{"is_open": True}]
    gap = timedelta(minutes=30)
    fill(tmp_path, event(1, at - timedelta(days=1), at + gap))
    assert lake_helpers.table(settings, is_open)[-1] == {"is_open": True}, "at the very end of its gap it may still go on"
    fill(tmp_path, event(2, at - timedelta(days=1), at + gap + timedelta(milliseconds=1)))
    assert lake_helpers.table(settings, is_open)[-1] == {"is_open": False}


def test_imports_close_no_session(tmp_path):
    from engagement.ingest import importer
    from engagement.lake import open_lake

    settings = fill(tmp_path, event(0, SECOND))
    path = tmp_path / "history.jsonl"
    path.write_bytes(lake_helpers.payload(event(1, FIRST)))
    importer.import_file(importer.inspect(path), *open_lake(settings), settings, SECOND + timedelta(days=9))
    assert lake_helpers.table(settings, "SELECT is_open FROM sessions") == [{"is_open": True}]


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW events",
        "",
        "-- nothing",
        "DELETE FROM events",
        "INSERT INTO events SELECT * FROM events",
        "CREATE TABLE t AS SELECT 1",
        "COPY (SELECT 1) TO 'x.parquet'",
        "ATTACH 'x.duckdb'",
        "SET threads = 1",
        "PRAGMA version",
        "EXPLAIN SELECT 1",
        "EXPLAIN ANALYZE DELETE FROM events",
        "CALL pragma_version()",
        "INSTALL httpfs",
        "EXPORT DATABASE 'x'",
        "WITH a AS (SELECT 1) DELETE FROM events",
    ],
)
def test_whatever_is_not_exactly_one_select_is_refused(text, con):
    with pytest.raises(NotOneSelect, match="only one SELECT can be run here, found: "):
        require_select(con, text)


@pytest.mark.parametrize(
    "text", ["SELECT 1", "select 1;", "WITH a AS (SELECT 1) SELECT * FROM a", "FROM events", "VALUES (1)", "-- hello\nSELECT ';'"]
)
def test_one_select_passes_unchanged(text, con):
    assert require_select(con, text) == text


def test_what_the_parser_does_not_understand_is_refused_in_our_own_words(con):
    with pytest.raises(NotOneSelect):
        require_select(con, "SELEC 1")


@pytest.fixture
def outside(tmp_path):
    path = tmp_path / "secret.csv"
    path.write_text("a\nhush\n")
    return path


def test_nothing_outside_the_lake_can_be_read(con, settings, outside):
    sideways = settings.lake_path / ".." / "secret.csv"
    sideways.resolve().write_text("a\nhush\n")
    for query in (
        f"SELECT * FROM read_csv('{outside}')",
        f"SELECT * FROM '{outside}'",
        f"SELECT * FROM read_text('{outside}')",
        f"SELECT * FROM read_blob('{sideways}')",
        f"SELECT * FROM glob('{outside.parent}/*')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_csv('https://example.org/a.csv')",
        f"SELECT * FROM read_text('{settings.lake_path}-other/x')",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(query).fetchall()


def test_a_table_named_like_a_variable_of_the_program_is_not_found(con):
    import pyarrow as pa

    secret = pa.table({"a": [1]})
    with pytest.raises(duckdb.CatalogException):
        con.execute("SELECT * FROM secret").fetchall()
    assert secret.num_rows == 1


def test_nothing_outside_the_lake_can_be_written(con, tmp_path):
    for query in (f"COPY (SELECT 1) TO '{tmp_path}/x.parquet'", f"ATTACH '{tmp_path}/x.duckdb'", f"EXPORT DATABASE '{tmp_path}/x'"):
        with pytest.raises(duckdb.Error):
            con.execute(query)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "query", ["SET threads = 1", "SET lock_configuration = false", "SET enable_external_access = true", "RESET allowed_directories"]
)
def test_the_configuration_is_locked(query, con):
    with pytest.raises(duckdb.Error):
        con.execute(query)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "with space",
        "ünïcode",
        "it's",
        "a[b]c",
    ],
)
def test_any_folder_name_of_the_lake_shows_its_rows(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    settings = fill(folder, event(0, FIRST))
    assert lake_helpers.table(settings, "SELECT count(*) AS n FROM events") == [{"n": 1}]


def test_the_views_change_with_the_lake(tmp_path):
    settings = fill(tmp_path, event(0, FIRST))
    fill(tmp_path, replace(event(1, FIRST), user_id="u2"))
    assert lake_helpers.table(settings, "SELECT DISTINCT user_id FROM events ORDER BY 1") == [{"user_id": "u1"}, {"user_id": "u2"}]


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT * FROM events", {"events"}),
        ("WITH e AS (SELECT user_id FROM events) SELECT count(*) FROM e, sessions", {"events", "sessions"}),
        ("SELECT 1", set(VIEWS)),
        ("SELECT * FROM event", set(VIEWS)),
        ("SELECT FROM (", set(VIEWS)),
    ],
)
def test_only_what_a_query_names_is_opened_and_all_where_it_names_none_or_errs(query, tables):
    assert set(tables_of(query)) == tables


def test_a_table_that_was_not_asked_for_is_not_there(tmp_path):
    with open_views(lake_helpers.settings_of(tmp_path), ["events"]) as con:
        assert con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall() == [("events",)]
