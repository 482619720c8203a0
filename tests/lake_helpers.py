"""Puts raw events into a lake the way the consumer does, and reads tables back as plain rows."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from oracle import RawEvent

from engagement import settings as settings_module
from engagement.contract import TimeWindow
from engagement.raw import files, rows
from engagement.raw.names import IMPORT_TOPIC, import_chain, topic_chain
from engagement.tables import views
from engagement.tables.context import open_tables


def settings_of(folder: Path, **overrides):
    return settings_module.load(
        {}, folder, lake_url=str(folder / "lake"), state_dir=folder / "state", **{"threads": 1, "background_nice": 0, **overrides}
    )


@contextmanager
def tables_of(folder: Path, **overrides):
    with open_tables(settings_of(folder, **overrides)) as context:
        yield context


def screen_view(number, at, **changes) -> RawEvent:
    """One event of u1 in one partition, with `number` as its offset and in its id; received when it happened."""
    made = {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": "u1", "session_id": None, "event_type": "screen_view",
        "event_time": at, "received_at": at, "kafka_topic": "session", "kafka_topic_id": "5e" * 16, "kafka_partition": 0,
        "kafka_offset": number, "device_type": "iPhone", "device_model": None, "app_version": "1.10", "country": "DE", "screen": "Home",
    }  # fmt: skip
    return RawEvent(**made | changes)


def payload(event: RawEvent) -> bytes:
    document = {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "session_id": event.session_id,
        "event_type": event.event_type,
        "timestamp": event.event_time.isoformat(),
        "device_info": {"device_type": event.device_type, "model": event.device_model},
        "geo_location": {"country": event.country},
        "app_version": event.app_version,
        "properties": {"screen": event.screen},
    }
    return json.dumps(document).encode()


def write(context, events: Iterable[RawEvent]) -> None:
    """One raw object a chain, from the expected next offset, as one flush would."""
    window = TimeWindow.of(context.format.history_start, 10**9, None)
    by_chain: dict[tuple, list[RawEvent]] = {}
    for event in events:
        by_chain.setdefault((event.kafka_topic, event.kafka_topic_id, event.kafka_partition), []).append(event)
    for where, found in by_chain.items():
        chain = import_chain(where[1]) if where[0] == IMPORT_TOPIC else topic_chain(*where)
        last = files.last_link(context.lake, chain)
        records = [rows.Record(event.kafka_offset, event.received_at, event.user_id.encode(), payload(event)) for event in found]
        batch = rows.build(rows.Coordinates(*where), records, window, context.format.slot_minutes)
        assert not batch.rejects
        files.write(context.lake, chain, last.end if last else 0, found[-1].kafka_offset + 1, batch)


def table(settings, query: str) -> list[dict]:
    with views.open_views(settings) as con:
        result = con.execute(query)
        names = [column[0] for column in result.description]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def sessions(settings) -> list[dict]:
    rows_ = table(settings, "SELECT * FROM sessions ORDER BY started_at, session_key")
    return [{name: value for name, value in row.items() if name not in ("year", "month", "day", "hour", "is_open")} for row in rows_]


def big_table(settings, period: str) -> list[dict]:
    which = "hour IS NOT NULL" if period == "hour" else "hour IS NULL"
    order = "year, month, day, hour, device_type, app_version, country"
    return table(settings, f"SELECT * FROM daily_aggregates_with_dimensions WHERE {which} ORDER BY {order}")


GAP = timedelta(minutes=30)
