"""Which hours have settled: no more records of them are to be expected but late ones (design §2).

An event hour is settled when every topic partition has been read past the hour's end and a margin, or to its log end, seen
after that. How far a partition was read is told by the newest record of it in the lake, and by the broker for those that are
idle. Where neither tells, an hour settles by the clock. Late records reopen it: what was judged was another version then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta

from engagement.errors import TransientError
from engagement.ingest import lag
from engagement.model import units
from engagement.raw.names import is_import
from engagement.tables.context import TableContext

MARGIN = timedelta(minutes=5)
BY_THE_CLOCK = timedelta(hours=1)
"""So long after its end an hour is settled whatever a silent partition or a broker that is away may still bring."""
BROKER_SECONDS = 3.0


def is_settled(end: datetime, read_to: Iterable[datetime | None], now: datetime) -> bool:
    """Whether a period that ended at `end` is settled; `read_to` says of each partition how far it was read, None where nobody knows.

    Without partitions, as in a lake of imports, a period settles a margin after its end.
    """
    if now < end + MARGIN:
        return False
    if now >= end + BY_THE_CLOCK:
        return True
    return all(instant is not None and instant >= end + MARGIN for instant in read_to)


def read_to(context: TableContext, now: datetime, *, ask_broker: bool) -> dict[str, datetime | None]:
    """Chain of each topic partition -> how far its records have been read. The index must be in step with the lake."""
    found: dict[str, datetime | None] = {}
    ends: dict[str, int] = {}
    for source in context.index.sources():
        label = source.chain.label
        if is_import(label):
            continue
        ends[label] = max(source.end, ends.get(label, 0))
        if source.last_received_at:
            found[label] = max(source.last_received_at, found.get(label) or source.last_received_at)
    return found | (_by_broker(context, ends, now) if ask_broker and found else {})


def settled_hours(days: Iterable[date], read: Mapping[str, datetime | None], now: datetime) -> list[datetime]:
    """The settled hours of these UTC days."""
    return [hour for day in days for hour in units.hours_of(day) if is_settled(hour + units.HOUR, read.values(), now)]


def _by_broker(context: TableContext, ends: Mapping[str, int], now: datetime) -> dict[str, datetime | None]:
    """Partitions that the lake has read to the end of the log, as of now; nothing where the broker does not answer."""
    try:
        measured = lag.measure(context.settings, ends, BROKER_SECONDS)
    except TransientError:
        return {}
    labels = {(topic_of(label), partition_of(label)): label for label in ends}
    return {
        labels[found.topic, found.partition]: now.astimezone(UTC)
        for found in measured
        if found.records <= 0 and (found.topic, found.partition) in labels
    }


def topic_of(label: str) -> str:
    """The topic of a chain's label `{topic}/{id}-{partition}`."""
    return label.rpartition("/")[0]


def partition_of(label: str) -> int:
    """The partition of a chain's label."""
    return int(label.rpartition("-")[2])
