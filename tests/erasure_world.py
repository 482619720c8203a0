"""A small lake to erase people from: hours around midnight, two chains, copies, rejects, headers; and the broker beside it."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import lake_helpers

from engagement.contract import TimeWindow
from engagement.erasure.forget import forget
from engagement.raw import files, rows
from engagement.raw.names import topic_chain

KEY = "a key for tests of erasure"
START = datetime(2026, 3, 11, 22, tzinfo=UTC)
TOPIC_ID = "5e" * 16
TABLES = ("app_events", "session_fragments", "user_activity", "sessions")


@dataclass(frozen=True)
class Sent:
    """One record of the log."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


def settings_of(folder, **overrides):
    return replace(lake_helpers.settings_of(folder, hash_key=KEY), **overrides)


def event(user, at, number, **changes) -> Sent:
    document = {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}", "user_id": user, "event_type": "screen_view", "timestamp": at.isoformat(),
        "device_info": {"device_type": "iPhone"}, "geo_location": {"country": "DE"}, "app_version": "1.0",
        "properties": {"screen": f"s{number % 3}"},
    }  # fmt: skip
    return Sent(user.encode(), json.dumps(document | changes).encode())


def records(seed: int, users=("ann", "ben", "anna", "cid"), count=50) -> list[Sent]:
    """Events of these users in random order within four hours around midnight, some sent twice, some bad ones."""
    random_ = random.Random(seed)
    found = []
    for number in range(count):
        user = random_.choice(users)
        at = START + timedelta(minutes=random_.randrange(0, 4 * 60, 7))
        item = event(user, at, number)
        found.append(item)
        if random_.random() < 0.15:
            found.append(item)
        if random_.random() < 0.1:
            found.append(Sent(user.encode(), b'{"user_id": "%s", "event' % user.encode()))
        if random_.random() < 0.05:
            found.append(event(user, at, number, timestamp="never"))
    return found


def write(context, sent, partition=0, topic_id=TOPIC_ID, topic="session") -> None:
    """One flush: an object of these records behind the chain's end, received after all of them happened."""
    chain = topic_chain(topic, topic_id, partition)
    last = files.last_link(context.lake, chain)
    start = last.end if last else 0
    received = START + timedelta(days=3)
    window = TimeWindow.of(context.format.history_start, 10**9, None)
    made = [rows.Record(start + place, received, item.key, item.value, item.headers) for place, item in enumerate(sent)]
    batch = rows.build(rows.Coordinates(topic, topic_id, partition), made, window, context.format.slot_minutes)
    files.write(context.lake, chain, start, start + len(sent), batch)


def tables(settings) -> dict[str, list]:
    """All rows of all tables, without what tells where in the log a row was."""
    where = {"kafka_offset", "kafka_partition"}
    found = {}
    for name in ("events", "session_fragments", "user_activity", "sessions"):
        read = lake_helpers.table(settings, f"SELECT * FROM {name}")
        found[name] = sorted(repr({k: v for k, v in row.items() if k not in where}) for row in read)
    return found | {period: lake_helpers.big_table(settings, period) for period in ("hour", "day")}


class Broker:
    """A broker whose logs end where the lake's chains do, unless told otherwise."""

    def __init__(self, topics=("session",), ends=None, topic_id=TOPIC_ID):
        self.known, self.ends, self.topic_id = topics, ends or {}, topic_id

    def __call__(self, _settings):
        return self

    def ids(self, topics):
        return {topic: self.topic_id for topic in topics if topic in self.known}

    def partitions(self, _topic):
        return 2

    def end(self, topic, number):
        return self.ends.get((topic, number), 0)

    def kept(self, topics):
        return [f"topic {topic} keeps records for 7.0 days" for topic in topics]


def erase(settings, *users, broker=None, **options):
    return forget(settings, users, broker=broker or Broker(), **options)
