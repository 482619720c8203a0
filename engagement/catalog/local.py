"""`lake.duckdb`: one view a table, for any DuckDB on this machine, also while the pipeline runs.

Views are over globs, so new objects show by themselves: the file is written anew only where a view's text or comment
changes (a declared column, a table's first object), built aside and renamed, so that a reader keeps the one it opened.
What changes at each run is how far the log has been read, on which `sessions.is_open` hangs (interface §3): it stands
in a Parquet file of one row beside it, which the view reads, replaced in the same way.

Not here: who calls this when (`upkeep`), and the views of `engagement query`, which are made at each query.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from engagement.catalog.report import Report
from engagement.errors import PermanentError
from engagement.lake import Lake
from engagement.model import schemas
from engagement.model.model import Model
from engagement.settings import Settings
from engagement.tables import engine

FILE = "lake.duckdb"
READ_TO = "lake.read_to.parquet"
"""One row: `read_to`, received_at of the newest record in the lake that was not imported."""
IS_OPEN = "may still grow: open_until >= received_at of the newest record that was not imported, when the catalog was last refreshed"
STORAGE = "v1.0.0"
"""Oldest DuckDB that can open the file."""


def refresh(
    settings: Settings,
    lake: Lake,
    model: Model,
    retired: Mapping[str, str],
    read_to: Callable[[], datetime],
    *,
    always: bool = False,
    dry_run: bool = False,
) -> Report:
    """Bring the two files up to date; `always` writes the views also where they seem right, a dry run writes nothing.

    `read_to` is asked while no other process writes, so that the answer of a slower one never comes over a newer one.
    Raises PermanentError where a table's objects cannot be read, or the state folder not be written.
    """
    path = settings.state_dir / FILE
    report = Report("local", str(path))
    try:
        with _alone(path):
            if not dry_run:
                _put_read_to(settings.state_dir / READ_TO, read_to())
            statements = list(_statements(settings, lake, model, retired))
            mark = settings.state_dir / "cache" / "catalog-local.json"
            wanted, found = _mark(statements, path), _read_mark(mark)
            if found != wanted or always:
                if found and path.exists() and found["file"] != wanted["file"]:
                    report.drift.append(f"{path} is not as it was written")
                if not dry_run:
                    _write(settings, path, statements)
                    mark.parent.mkdir(parents=True, exist_ok=True)
                    mark.write_text(json.dumps(_mark(statements, path)))
                report.tables_written = list(schemas.NAMES.values())
    except OSError as error:
        raise PermanentError(f"{path} cannot be written: {error.strerror or error}") from error
    return report


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time: an older view of the lake never comes over a newer one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _put_read_to(path: Path, read_to: datetime) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    pq.write_table(pa.table({"read_to": pa.array([read_to], pa.timestamp("us", tz="UTC"))}), sink)
    if not path.exists() or path.read_bytes() != sink.getvalue():
        aside = path.with_name(f"{path.name}.new")
        aside.write_bytes(sink.getvalue())
        aside.rename(path)


def _statements(settings: Settings, lake: Lake, model: Model, retired: Mapping[str, str]) -> Iterator[str]:
    for table, name in schemas.NAMES.items():
        keys = schemas.PATH_KEYS[table]
        empty = next(iter(lake.list(table)), None) is None
        rows = engine.relation_of(None if empty else _glob(lake, table), table, model, keys=keys, retired=retired)
        comments = {column: found.comment for column, found in schemas.columns(table, model).items()}
        comments |= {key: schemas.KEY_COMMENTS[key] for key in keys}
        shown = "*"
        if name == "sessions":
            shown = f"*, open_until >= (SELECT read_to FROM read_parquet({engine.literal([settings.state_dir / READ_TO])})) AS is_open"
            comments["is_open"] = IS_OPEN
        yield f"CREATE VIEW {name} AS SELECT {shown} FROM {rows}"
        yield f"COMMENT ON VIEW {name} IS {_text(schemas.DESCRIPTIONS[table])}"
        for column, comment in comments.items():
            yield f"COMMENT ON COLUMN {name}.{column} IS {_text(comment)}"


def _glob(lake: Lake, table: str) -> str:
    """A SQL list with the one glob over a table's objects; what lies beside its partitions is not of the table."""
    levels = "/".join(f"{key}=*" for key in schemas.PATH_KEYS[table])
    return f"[{_text(f'{glob.escape(str(lake.folder))}/{table}/{levels}/*.parquet')}]"


def _text(value: str | Path) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _write(settings: Settings, path: Path, statements: list[str]) -> None:
    import duckdb

    for left in path.parent.glob(f"{FILE}.*"):  # of a process that died; the lock is ours
        left.unlink()
    aside = path.with_name(f"{FILE}.new")
    con = engine.connect(settings)
    try:
        con.execute(f"ATTACH {_text(aside)} AS made (STORAGE_VERSION '{STORAGE}')")
        con.execute("USE made")
        for statement in statements:
            con.execute(statement)
        con.execute("USE memory")
        con.execute("DETACH made")
    except duckdb.Error as error:
        raise PermanentError(f"{path.name} could not be made: {' '.join(str(error).split())}") from error
    finally:
        con.close()
    with aside.open("rb") as handle:
        os.fsync(handle.fileno())
    aside.rename(path)


def _mark(statements: list[str], path: Path) -> dict[str, str]:
    """Tells apart what the file should say, and whether it is the file that was written."""
    stat = path.stat() if path.exists() else None
    return {
        "statements": hashlib.sha256("\n".join(statements).encode()).hexdigest(),
        "file": f"{stat.st_mtime_ns}-{stat.st_ino}-{stat.st_size}" if stat else "",
    }


def _read_mark(path: Path) -> dict[str, str] | None:
    try:
        found: dict[str, str] = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found
