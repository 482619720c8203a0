"""The tables as in-memory views for people: `query`, the page and `status` open them here and nowhere else."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engagement.errors import PermanentError
from engagement.lake import Lake, open_lake
from engagement.model import declared, schemas, units
from engagement.raw.index import RawIndex
from engagement.settings import Settings
from engagement.tables import engine

if TYPE_CHECKING:
    import duckdb

VIEWS = {name: (table, schemas.PATH_KEYS[table]) for table, name in schemas.NAMES.items()}
"""View -> folder of its table and the path keys, which are integers everywhere (design §5)."""


class NotOneSelect(PermanentError):
    """The text is not exactly one SELECT."""


class NotUnderstood(NotOneSelect):
    """The text is no SQL; ours is the parser's message."""


@contextlib.contextmanager
def open_views(settings: Settings, only: Collection[str] = tuple(VIEWS)) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees the tables, or `only` some, and no file outside the lake, its configuration locked.

    Opening a table lists its objects and reads their footers: of all tables that takes seconds after a few months.
    The engine lets a connection that may read a folder also write it: run what users send through `require_select`.
    """
    lake, _ = open_lake(settings)
    model = declared.load(settings)
    retired = declared.retired(lake, model)
    con = engine.connect(settings)
    try:
        for name in only:
            table, keys = VIEWS[name]
            paths = list(lake.local(entry for entry in lake.list(table) if units.is_key(entry.key)))
            rows = engine.relation(paths, table, model, keys=keys, retired=retired)
            con.execute(f"CREATE VIEW {name if name != 'sessions' else 'stored_sessions'} AS SELECT * FROM {rows}")
        if "sessions" in only:
            # is_open is of the moment, so it is computed: may the session still grow, as far as the log has been read?
            is_open = f"open_until >= TIMESTAMPTZ '{read_to(lake, settings).isoformat()}' AS is_open"
            con.execute(f"CREATE VIEW sessions AS SELECT *, {is_open} FROM stored_sessions")
        folders = engine.literal([lake.folder]), "['" + str(lake.folder).replace("'", "''") + "']"
        con.execute(f"SET allowed_directories = list_concat({folders[0]}, {folders[1]})")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        yield con
    finally:
        con.close()


def read_to(lake: Lake, settings: Settings) -> datetime:
    """Log-append time of the newest record in the lake; the end of time where all are imported: then no session is open."""
    index = RawIndex(lake, settings.state_dir)
    try:
        index.sync(recent=True)
        return index.newest_received_at() or datetime.max.replace(tzinfo=UTC)
    finally:
        index.close()


def tables_of(text: str) -> Collection[str]:
    """The tables that a query names; all of them where it names none, or one that is not there."""
    import duckdb

    try:
        with duckdb.connect() as con:
            named = con.get_table_names(text)
    except duckdb.Error:  # told when it is run
        named = set()
    return named if named and named <= VIEWS.keys() else tuple(VIEWS)


def require_select(con: duckdb.DuckDBPyConnection, text: str) -> str:
    """The text, if the engine's own parser finds exactly one SELECT in it; raises NotOneSelect, NotUnderstood."""
    import duckdb

    try:
        statements = con.extract_statements(text)
    except duckdb.Error as error:
        raise NotUnderstood(str(error).strip()) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        found = ", ".join(statement.type.name for statement in statements) or "nothing"
        msg = f"only one SELECT can be run here, found: {found}"
        raise NotOneSelect(msg)
    return text
