"""What the lake holds about one user: records of the log, rejects, and the rows of every table with a user_id.

The log is read whole, raw and archive, because a reject stands in no table and a record that was read a moment ago in
none yet. A reject is a person's where its key, a whole header or the user_id of its payload is the id: never where the
id's bytes lie somewhere in it, for then a short id would hand out what others did. Rows that were erased hold nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engagement.errors import PermanentError
from engagement.lake import Changed, Entry, Lake, LakeUnavailable, open_lake
from engagement.model import declared, schemas
from engagement.progress import Progress
from engagement.raw import log
from engagement.raw.erasures import user_id_in
from engagement.raw.privacy import Policy
from engagement.settings import Settings
from engagement.tables import engine

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LOOKS = 5
AT_ONCE = 256 << 20
"""Bytes of objects that are opened by one query: what a lake elsewhere brings to this machine at once."""
RECORDS, REJECTS = "records", "rejects"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Held:
    """Rows about the person, with where they lie: `records`, `rejects` or the name of a table."""

    where: str
    rows: Sequence[Row]


def held(settings: Settings, user_id: str, progress: Progress = lambda *_: None) -> Iterator[Held]:
    """All that is held about the user whose id the app sends as `user_id`, in portions; nothing where nothing is.

    Times are aware UTC, payloads bytes. Raises KeyMissing where the lake holds pseudonyms and the key is not at hand,
    UnreadablePart and PermanentError where an object cannot be read, LakeUnavailable: what was handed out is then not all.
    """
    lake, lake_format = open_lake(settings)
    stored = Policy.of(settings, lake_format).stored(user_id)
    con = engine.connect(settings)
    try:
        yield from _of_log(lake, con, user_id, stored, progress)
        yield from _of_tables(settings, lake, con, stored, progress)
    finally:
        con.close()


def _of_log(lake: Lake, con: duckdb.DuckDBPyConnection, user_id: str, stored: str, progress: Progress) -> Iterator[Held]:
    """Rows are handed out once all of the log was read as it was listed: archiving moves them about meanwhile."""
    for _ in range(LOOKS):
        found = log.look(lake)
        error: PermanentError | None = None
        rows = []
        try:
            rows = [_rows_of(lake, con, portion, user_id, stored) for portion in _portions(found.objects, "log", progress)]
        except PermanentError as trouble:  # damaged, or gone since it was listed
            error = trouble
        try:
            log.require_same(lake, found)
        except Changed:
            continue
        if error is not None:
            raise error
        yield Held(RECORDS, [row for good, _ in rows for row in good])
        yield Held(REJECTS, [row for _, bad in rows for row in bad])
        return
    raise LakeUnavailable(f"{lake.url}: the log was archived, expired or erased at each of {LOOKS} looks; run it again")


def _rows_of(
    lake: Lake, con: duckdb.DuckDBPyConnection, portion: Sequence[Entry], user_id: str, stored: str
) -> tuple[list[Row], list[Row]]:
    """Good rows and rejects of the person in these objects."""
    rows = engine.raw_relation(list(_files(lake, portion)))
    good = _query(con, f"SELECT * EXCLUDE (reject_reason, payload, key) FROM {rows} WHERE user_id = $user", {"user": stored})
    few = "kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, received_at, reject_reason, headers, payload, key"
    bad = _query(con, f"SELECT {few} FROM {rows} WHERE reject_reason IS NOT NULL AND reject_reason <> 'erased'", {})
    return good.to_pylist(), [row for batch in bad.to_batches() for row in batch.to_pylist() if _is_of(row, user_id)]


def _is_of(reject: Row, user_id: str) -> bool:
    name = user_id.encode("utf-8", "surrogatepass")
    return (
        reject["key"] == name or any(item["value"] == name for item in reject["headers"] or ()) or user_id_in(reject["payload"]) == user_id
    )


def _of_tables(settings: Settings, lake: Lake, con: duckdb.DuckDBPyConnection, stored: str, progress: Progress) -> Iterator[Held]:
    model = declared.load(settings)
    for folder, name in schemas.NAMES.items():
        if "user_id" not in schemas.columns(folder, model):
            continue
        objects = [entry for entry in lake.list(folder) if entry.key.endswith(".parquet")]
        for portion in _portions(objects, name, progress):
            rows = engine.relation(list(_files(lake, portion)), folder, model)
            yield Held(name, _query(con, f"SELECT * FROM {rows} WHERE user_id = $user", {"user": stored}).to_pylist())


def _query(con: duckdb.DuckDBPyConnection, text: str, parameters: dict[str, Any]) -> pa.Table:
    import duckdb

    try:
        return con.sql(text, params=parameters).to_arrow_table()
    except duckdb.Error as error:
        raise PermanentError(f"an object of the lake cannot be read: {' '.join(str(error).split())}") from error


def _files(lake: Lake, portion: Sequence[Entry]) -> Sequence[Any]:
    return [path for path in lake.local(portion) if path.exists()]


def _portions(objects: Sequence[Entry], what: str, progress: Progress) -> Iterator[list[Entry]]:
    total, done = sum(entry.size for entry in objects), 0
    portion: list[Entry] = []
    size = 0
    for entry in objects:
        portion.append(entry)
        size += entry.size
        if size >= AT_ONCE:
            yield portion
            done, portion, size = done + size, [], 0
            progress(what, done, total)
    if portion:
        yield portion
        progress(what, total, total)
