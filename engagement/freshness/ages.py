"""The age of each asset's data: now less received_at of the oldest record that the log holds and the asset lacks; 0 without one.

So a night without events is fresh, and a backfill of old hours makes nothing fresher. An asset lacks whatever those before
it lack. Two lanes (R9): `live`, the present and the previous hour, and `late`, stragglers that are gathered on purpose.
Raw objects are dated by their first record, so an age is told too old by a flush at most. A unit that lacks no record but was
made from older inputs is dated by when this process saw that first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from engagement.freshness.sla import Sla, State
from engagement.ingest.lag import Lag
from engagement.model import units
from engagement.raw.sources import Source
from engagement.tables.context import TableContext
from engagement.waiting import backlog
from engagement.waiting.waits import Waiting

Lane = Literal["live", "late"]
RAW, HOURLY, DAILY = "raw_events", "hourly_engagement", "daily_engagement"
SLOTS: Mapping[str, str] = {
    "events": units.EVENTS, "session_fragments": units.FRAGMENTS, "user_activity": units.ACTIVITY, "sessions": units.SESSIONS,
}  # fmt: skip
"""Assets of slot objects -> folder."""
CHAIN: Mapping[str, tuple[str, ...]] = {
    RAW: (),
    "events": (RAW,),
    "session_fragments": ("events",),
    "user_activity": ("events",),
    "sessions": ("session_fragments",),
    HOURLY: ("sessions", "user_activity"),
    DAILY: (HOURLY,),
}
"""Asset -> those it is made from."""


@dataclass(frozen=True, slots=True)
class Log:
    """What the broker says: the oldest record that the lake lacks, None where it lacks none. `known`: whether that could be told."""

    known: bool
    oldest: datetime | None = None

    @classmethod
    def of(cls, partitions: Iterable[Lag] | None) -> Log:
        """From the lag of all partitions; None where the broker did not answer."""
        if partitions is None:
            return cls(known=False)
        behind = [lag for lag in partitions if lag.records > 0]
        dated = [lag.oldest_received_at for lag in behind if lag.oldest_received_at]
        return cls(known=len(dated) == len(behind), oldest=min(dated, default=None))


NO_LOG = Log(known=True)
"""Of a lake that holds imports alone: no log is behind it."""


@dataclass(frozen=True, slots=True)
class Age:
    """The age of an asset's data in a lane. `age` is None where nobody can tell."""

    asset: str
    lane: Lane
    age: timedelta | None
    state: State


@dataclass(slots=True)
class Seen:
    """When units were first seen to wait for something else than records, by the version they wait in. Kept between looks."""

    first: dict[tuple[str, str], datetime] = field(default_factory=dict)
    _now: set[tuple[str, str]] = field(default_factory=set)

    def since(self, unit: str, version: str, now: datetime) -> datetime:
        """The first look at which this unit waited in this version."""
        self._now.add((unit, version))
        return self.first.setdefault((unit, version), now)

    def forget_others(self) -> None:
        """Forget what was not asked for since the last time."""
        self.first = {key: since for key, since in self.first.items() if key in self._now}
        self._now = set()


Lacking = dict[tuple[str, Lane], datetime]
"""Asset and lane -> received_at of the oldest record that its own objects lack; absent where they lack none."""


def lacking(context: TableContext, waiting: Waiting, now: datetime, seen: Seen) -> Lacking:
    """What the tables themselves lack. The index has to be in step with the lake, `waiting` be of this moment."""
    found: Lacking = {}
    live = [hour for hour in waiting.hours if not units.is_late(hour, now)]
    late = [hour for hour in waiting.hours if units.is_late(hour, now)]
    for hour in live:
        for asset, since in _hour_lacks(context, hour, now, seen).items():
            _note(found, asset, "live", since)
    if late:
        oldest = backlog.measure(context, late).oldest_received_at
        inputs = [seen.since(hour.isoformat(), _version(context, units.hours_key(hour.date())), now) for hour in late]
        _note(found, HOURLY, "late", oldest or min(inputs))
    for day in waiting.days:
        since = seen.since(day.isoformat(), _version(context, units.day_key(day)), now)
        _note(found, DAILY, "late" if units.is_late(units.hours_of(day)[-1], now) else "live", since)
    seen.forget_others()
    return found


def judge(found: Mapping[tuple[str, Lane], datetime], log: Log, slas: Mapping[str, Sla], now: datetime) -> list[Age]:
    """The age and state of every asset, in the order of the chain, live before late."""
    own: dict[str, datetime | None] = {asset: found.get((asset, "live")) for asset in CHAIN}
    own[RAW] = log.oldest
    oldest: dict[str, datetime | None] = {}
    ages = []
    for asset, before in CHAIN.items():
        known = [instant for instant in (own[asset], *(oldest[name] for name in before)) if instant]
        oldest[asset] = min(known, default=None)
        ages.append(_age(asset, "live", oldest[asset], slas[asset], now, known=log.known))
    ages += [_age(asset, "late", found.get((asset, "late")), slas[asset], now, known=True) for asset in (HOURLY, DAILY)]
    return ages


def _age(asset: str, lane: Lane, oldest: datetime | None, sla: Sla, now: datetime, *, known: bool) -> Age:
    age = timedelta() if oldest is None else max(now.astimezone(UTC) - oldest, timedelta())
    state = sla.state(age, late=lane == "late")
    if not known and state is State.OK:  # what the broker hides may be older
        return Age(asset, lane, None, State.UNKNOWN)
    return Age(asset, lane, age, state)


def _hour_lacks(context: TableContext, hour: datetime, now: datetime, seen: Seen) -> dict[str, datetime]:
    """Asset -> since when it lacks something of this hour."""
    found: dict[str, datetime] = {}
    made = backlog.hour_facts(context, hour).get("offsets", {})
    sources = context.index.touching_each(units.slots_of(hour, context.format.slot_minutes))
    for slot, touching in sources.items():
        for asset, table in SLOTS.items():
            facts = context.footers.of(context.lake.stat(units.slot_key(table, slot)))
            _note_lacking(found, asset, backlog.beyond(touching, slot, facts.get("offsets", {})))
        _note_lacking(found, HOURLY, backlog.beyond(touching, slot, made.get(slot.isoformat(), {})))
    if not found:
        found[HOURLY] = seen.since(hour.isoformat(), _version(context, units.hours_key(hour.date())), now)
    return found


def _note_lacking(found: dict[str, datetime], asset: str, lacks: Iterable[Source]) -> None:
    received = [source.first_received_at for source in lacks if source.first_received_at]
    if received:
        found[asset] = min(*received, found.get(asset, received[0]))


def _note(found: dict[Any, datetime], asset: str, lane: Lane, since: datetime) -> None:
    found[asset, lane] = min(since, found.get((asset, lane), since))


def _version(context: TableContext, key: str) -> str:
    entry = context.lake.stat(key)
    return entry.version if entry else ""
