"""A lake that is filled with rejects and replays, object by object, the way the consumer writes them."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from itertools import count

import lake_helpers

from engagement.contract import TimeWindow
from engagement.ingest.letters import Address
from engagement.ingest.replay import reading
from engagement.lake import open_lake
from engagement.raw import files, rows
from engagement.raw.names import REPLAY_HEADER, import_chain, topic_chain

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDS = {"session": "5e" * 16, "install": "1a" * 16, "old": "0d" * 16, "sesession": "55" * 16, "import": "ab" * 32}
_numbers = count()


def good() -> bytes:
    return json.dumps({
        "event_id": f"00000000-0000-4000-8000-{next(_numbers):012d}", "user_id": "u", "event_type": "tap", "timestamp": NOON.isoformat(),
    }).encode()  # fmt: skip


class World:
    """A lake that is filled object by object, a minute a record."""

    def __init__(self, folder, **wishes):
        self.settings = lake_helpers.settings_of(folder, **wishes)
        self.lake, _ = open_lake(self.settings)
        self.opened = Counter()

    def put(self, values, minute=0, topic="session", partition=0, headers=()):
        """One raw object; `values` are payloads, or (payload, key, headers). Returns its addresses."""
        where = rows.Coordinates(topic, IDS[topic], partition)
        chain = import_chain(IDS[topic]) if topic == "import" else topic_chain(topic, IDS[topic], partition)
        last = files.last_link(self.lake, chain)
        start = last.end if last else 0
        whole = [value if isinstance(value, tuple) else (None, value, headers) for value in values]
        records = [rows.Record(start + place, at(minute + place), *parts) for place, parts in enumerate(whole)]
        batch = rows.build(where, records, TimeWindow.of(date(2020, 1, 1), 10**9, 1), 60)
        files.write(self.lake, chain, start, start + len(records), batch)
        return [Address(IDS[topic], partition, record.offset) for record in records]

    def read(self):
        return reading(self.settings, self.lake)


def replay_of(address):
    return [("trace", b"1"), (REPLAY_HEADER, str(address).encode())]


def at(minute):
    return NOON + timedelta(minutes=minute)
