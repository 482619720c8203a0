"""Columns of every table with type and meaning (interface §3), as the declared model makes them.

Path keys (year, month, day, hour) are not columns of the files. `raw` is the one place that says what raw rows may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from engagement.model import units
from engagement.model.model import Model, built_in

if TYPE_CHECKING:
    import pyarrow as pa


class Column(NamedTuple):
    """Kind (a key of DUCKDB_TYPES) and meaning."""

    kind: str
    comment: str
    built_in: bool = True


DUCKDB_TYPES = {
    "text": "VARCHAR", "texts": "VARCHAR[]", "instant": "TIMESTAMP WITH TIME ZONE", "int32": "INTEGER", "int64": "BIGINT",
    "double": "DOUBLE", "bool": "BOOLEAN",
}  # fmt: skip

NAMES = {
    units.EVENTS: "events", units.FRAGMENTS: "session_fragments", units.ACTIVITY: "user_activity", units.SESSIONS: "sessions",
    units.BIG_TABLE: "daily_aggregates_with_dimensions", units.QUALITY_RESULTS: "quality_results",
    units.QUALITY_METRICS: "quality_metrics",
}  # fmt: skip
"""Folder of a table -> its name."""

DESCRIPTIONS = {
    units.EVENTS: "One row an event: typed, enriched, copies dropped; by the hour in which it happened",
    units.FRAGMENTS: "One row a session owner and fragment: what one slot alone says about the owner's session",
    units.ACTIVITY: "One row a user, dimensions and slot, with counts: what distinct counts are made from",
    units.SESSIONS: "One row a session: fragments of one owner joined wherever the gap is small enough; by the hour of its start",
    units.BIG_TABLE: "One row a UTC hour, or UTC day (hour is null), and subset of the dimensions; distinct counts never add up over rows",
    units.QUALITY_RESULTS: "One row a check, period and judgement: what was measured, what was wanted, what became of it",
    units.QUALITY_METRICS: "One row a number that was measured of a period: Deequ's metrics and the profile of each column",
}
"""Folder of a table -> its grain and meaning, for catalogs."""

BY_DAY = (units.BIG_TABLE, units.QUALITY_RESULTS, units.QUALITY_METRICS)
"""Tables of which an object holds a whole day."""

PATH_KEYS = {table: ("year", "month", "day") if table in BY_DAY else ("year", "month", "day", "hour") for table in NAMES}
"""Integers in the path of each object, UTC."""

KEY_COMMENTS = {name: f"UTC {name}, of the path" for name in ("year", "month", "day", "hour")}

_COORDINATES = {
    "kafka_topic": Column("text", "topic of the copy that won; import for imports"),
    "kafka_topic_id": Column("text", "the broker's id of the topic; the file's SHA-256 for imports"),
    "kafka_partition": Column("int32", "partition"),
    "kafka_offset": Column("int64", "offset; for imports the row number in the file, from 0"),
}
_EVENT_START = {
    "event_id": Column("text", "UUID in lower case; identity together with event_time"),
    "user_id": Column("text", "user"),
    "session_id": Column("text", "the client's own session id"),
    "event_type": Column("text", "kind of interaction"),
    "event_time": Column("instant", "when it happened"),
    "received_at": Column("instant", "log-append time of the broker; for imports the time of the import"),
    "device_type": Column("text", "as sent, else from the model (iPhone, iPad, iPod), else UNKNOWN"),
    "device_model": Column("text", "as sent"),
    "device_name": Column("text", "marketing name of the model; null for an unknown one"),
    "os_version": Column("text", "as sent"),
    "locale": Column("text", "as sent"),
    "app_version": Column("text", "as sent, else UNKNOWN"),
    "country": Column("text", "as sent, else UNKNOWN"),
    "region": Column("text", "as sent, else UNKNOWN"),
    "city": Column("text", "as sent"),
}
_PROPERTIES = {"properties": Column("text", "JSON; unknown fields under _extra")}
_PATHS = {
    "screen_path": Column("texts", "screens of screen_view events by (event_time, event_id), nulls skipped, first 50"),
    "entry_screen": Column("text", "first such screen"),
    "exit_screen": Column("text", "last such screen, even beyond 50"),
    "client_session_ids": Column("texts", "distinct, by first appearance, first 50"),
}


def columns(table: str, model: Model | None = None) -> dict[str, Column]:
    """Columns of a table's files, by its folder, in order; of the built-in model unless another is given."""
    return _TABLES[table](model or built_in())


def event_columns(model: Model) -> dict[str, Column]:
    """`events`, one row an event."""
    promoted = {name: Column(item.type, item.comment, item.built_in) for name, item in model.columns.items()}
    return {**_EVENT_START, **promoted, **_PROPERTIES, **_COORDINATES}


def fragment_columns(model: Model) -> dict[str, Column]:
    """`session_fragments`, one row a session owner and fragment."""
    return {
        "user_id": Column("text", "user"),
        "client_id": Column("text", "client session id in client mode, the owner's second half; null in gap mode and without one"),
        "started_at": Column("instant", "first event"),
        "ended_at": Column("instant", "last event"),
        **_facts(model), **_PATHS, **_dimensions(model),
    }  # fmt: skip


def activity_columns(model: Model) -> dict[str, Column]:
    """`user_activity`, one row a user, dimensions and slot."""
    counts = {item.name: Column("int64", item.comment or "step of a ratio", item.built_in) for item in model.chosen("additive", "events")}
    flagged = [item for item in model.chosen("distinct") if item.where]
    flags = {item.name: Column("bool", f"counts among: {item.comment}", item.built_in) for item in flagged}
    return {"user_id": Column("text", "user"), **_dimensions(model), **counts, **flags}


def session_columns(model: Model) -> dict[str, Column]:
    """`sessions`, one row a session."""
    return {
        "session_key": Column("text", "hex MD5 of user_id, in client mode the client session id, and started_at in epoch microseconds"),
        "user_id": Column("text", "user"),
        "started_at": Column("instant", "first event"),
        "ended_at": Column("instant", "last event"),
        "duration_seconds": Column("double", "ended_at - started_at"),
        **_facts(model), **_PATHS, **_dimensions(model),
        "is_engaged": Column("bool", "lasted more than 10 s, or has at least 2 screen views"),
        "is_bounce": Column("bool", "not engaged"),
        "is_automated": Column("bool", "an automated day's own session"),
        "open_until": Column("instant", "ended_at + gap"),
    }  # fmt: skip


def big_table_columns(model: Model) -> dict[str, Column]:
    """`daily_aggregates_with_dimensions`, one row a period and subset of the dimensions."""
    kinds = {"additive": "int64", "distinct": "int64", "median": "double", "ratio": "double"}
    levels = {name: Column("text", f"a value, OTHER, or {item.all}", item.built_in) for name, item in model.dimensions.items()}
    metrics = {item.name: Column(kinds[item.kind], item.comment, item.built_in) for item in model.shown}
    return {"hour": Column("int32", "UTC hour 0 to 23; null on day rows"), **levels, **metrics}


def result_columns(_model: Model) -> dict[str, Column]:
    """`quality_results`, one row a check, period and judgement."""
    return {
        **_measured_of(),
        "check_name": Column("text", "the constraint, the metric that is out of line, or what drifted"),
        "severity": Column("text", "error or warning"),
        "status": Column("text", "passed, failed, empty (no row to look at) or broken (could not be judged)"),
        "value": Column("double", "what was measured; null where nothing was"),
        "threshold": Column("text", "what was wanted of the value"),
        "message": Column("text", "what was found, in one line"),
        "hint": Column("text", "what to do about a failure"),
        "rows_seen": Column("int64", "rows that were looked at"),
        "violations": Column("int64", "rows that broke the constraint; null where rows cannot be told apart"),
        "sample": Column("text", "JSON: a few offending rows, persons pseudonymized"),
        "query": Column("text", "a SELECT that shows the offending rows; empty where none can"),
    }


def metric_columns(_model: Model) -> dict[str, Column]:
    """`quality_metrics`, one row a measured number."""
    return {
        **_measured_of(),
        "entity": Column("text", "Dataset, Column or Multicolumn"),
        "instance": Column("text", "column or columns; * for all rows"),
        "metric": Column("text", "what was measured, such as Completeness, Size or ApproxCountDistinct"),
        "value": Column("double", "the number; null for a text"),
        "text": Column("text", "what is no number, such as top values as JSON"),
    }


def _measured_of() -> dict[str, Column]:
    return {
        "suite": Column("text", "suite that was judged"),
        "asset": Column("text", "Dagster asset whose partition it is of"),
        "period_kind": Column("text", "hour or day"),
        "period_start": Column("instant", "start of that UTC hour or day"),
        "engine": Column("text", "deequ, duckdb, anomaly, drift or profile"),
        "inputs": Column("text", "digest of the versions of the objects that were judged"),
        "measured_at": Column("instant", "when"),
    }


def _facts(model: Model) -> dict[str, Column]:
    return {name: Column("int64", item.comment, item.built_in) for name, item in model.facts.items()}


def _dimensions(model: Model) -> dict[str, Column]:
    return {name: Column("text", item.comment, item.built_in) for name, item in model.dimensions.items()}


_TABLES = {
    units.EVENTS: event_columns,
    units.FRAGMENTS: fragment_columns,
    units.ACTIVITY: activity_columns,
    units.SESSIONS: session_columns,
    units.BIG_TABLE: big_table_columns,
    units.QUALITY_RESULTS: result_columns,
    units.QUALITY_METRICS: metric_columns,
}


def raw() -> dict[str, str]:
    """Columns that raw objects of any age are read as -> DuckDB type, from the raw writer's own schema.

    An optional column that is new there is null in older objects.
    """
    from engagement.raw import rows

    types = {"string": "VARCHAR", "timestamp[us, tz=UTC]": DUCKDB_TYPES["instant"], "int32": "INTEGER", "int64": "BIGINT"}
    return {name: types[str(kind)] for name, kind in zip(rows.schema().names, rows.schema().types, strict=True) if str(kind) in types}


def duckdb_types(table: str, model: Model | None = None) -> dict[str, str]:
    """Column -> DuckDB type of a table's files."""
    return {name: DUCKDB_TYPES[column.kind] for name, column in columns(table, model).items()}


def arrow_schema(table: str, model: Model | None = None) -> pa.Schema:
    """The table's columns as an Arrow schema, as they stand in the files."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(), "texts": pa.list_(pa.string()), "instant": pa.timestamp("us", tz="UTC"), "int32": pa.int32(),
        "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(),
    }  # fmt: skip
    return pa.schema([(name, kinds[column.kind]) for name, column in columns(table, model).items()])


def described(model: Model | None = None) -> list[Mapping[str, str]]:
    """Every column of every table with type and comment, path keys last; for `engagement tables` and catalogs."""
    return [
        {"table": name, "column": column, "type": kind, "comment": comment}
        for table, name in NAMES.items()
        for column, kind, comment in (
            *((column, DUCKDB_TYPES[found.kind], found.comment) for column, found in columns(table, model).items()),
            *((key, "INTEGER", KEY_COMMENTS[key]) for key in PATH_KEYS[table]),
        )
    ]
