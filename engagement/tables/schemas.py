"""Columns of every table (interface §3). Path keys (year, month, day, hour) are not columns of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engagement.tables import units

if TYPE_CHECKING:
    import pyarrow as pa

_COORDINATES = {"kafka_topic": "text", "kafka_topic_id": "text", "kafka_partition": "int32", "kafka_offset": "int64"}
_DIMENSIONS = {"device_type": "text", "app_version": "text", "country": "text"}
_SESSION_FACTS = {
    "event_count": "int64", "screen_views": "int64", "notification_views": "int64", "notification_clicks": "int64", "installs": "int64",
    "screen_path": "texts", "entry_screen": "text", "exit_screen": "text", "client_session_ids": "texts", **_DIMENSIONS,
}  # fmt: skip

EVENTS = {
    "event_id": "text", "user_id": "text", "session_id": "text", "event_type": "text", "event_time": "instant", "received_at": "instant",
    "device_type": "text", "device_model": "text", "device_name": "text", "os_version": "text", "locale": "text", "app_version": "text",
    "country": "text", "region": "text", "city": "text", "screen": "text", "properties": "text", **_COORDINATES,
}  # fmt: skip

FRAGMENTS = {"user_id": "text", "client_id": "text", "started_at": "instant", "ended_at": "instant", **_SESSION_FACTS}
"""`client_id` is null in gap mode and for events without a client session id; it is half of the session owner."""

ACTIVITY = {
    "user_id": "text", **_DIMENSIONS, "total_events": "int64", "total_installs": "int64", "total_views": "int64",
    "notification_views": "int64", "notification_clicks": "int64",
}  # fmt: skip

SESSIONS = {
    "session_key": "text", "user_id": "text", "started_at": "instant", "ended_at": "instant", "duration_seconds": "double",
    **_SESSION_FACTS,
    "is_engaged": "bool", "is_bounce": "bool", "is_automated": "bool", "open_until": "instant",
}  # fmt: skip

BIG_TABLE = {
    "hour": "int32", **_DIMENSIONS, "total_events": "int64", "total_installs": "int64", "total_sessions": "int64", "total_views": "int64",
    "notification_views": "int64", "notification_clicks": "int64", "notification_ctr": "double",
    "active_users": "int64", "new_users": "int64",
    "avg_session_seconds": "double", "median_session_seconds": "double", "bounce_rate": "double", "avg_events_per_session": "double",
}  # fmt: skip

TABLES = {
    units.EVENTS: EVENTS,
    units.FRAGMENTS: FRAGMENTS,
    units.ACTIVITY: ACTIVITY,
    units.SESSIONS: SESSIONS,
    units.BIG_TABLE: BIG_TABLE,
}
"""Folder of a table -> column -> kind."""

DUCKDB_TYPES = {
    "text": "VARCHAR", "texts": "VARCHAR[]", "instant": "TIMESTAMP WITH TIME ZONE", "int32": "INTEGER", "int64": "BIGINT",
    "double": "DOUBLE", "bool": "BOOLEAN",
}  # fmt: skip


def arrow_schema(table: str) -> pa.Schema:
    """The table's columns as an Arrow schema, as they stand in the files."""
    import pyarrow as pa

    kinds = {
        "text": pa.string(), "texts": pa.list_(pa.string()), "instant": pa.timestamp("us", tz="UTC"), "int32": pa.int32(),
        "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_(),
    }  # fmt: skip
    return pa.schema([(name, kinds[kind]) for name, kind in TABLES[table].items()])
