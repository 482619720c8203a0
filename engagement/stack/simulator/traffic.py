"""The population's traffic: who visits when, and all visits under way merged into one stream.

Visits begin as a Poisson process of rate ÷ mean events of a visit, so the mean is the asked rate at every hour;
who is awake decides which countries make it up. The stream starts in full swing: visits that would have begun
before it are let in with what is left of them. Pure: no clock, no broker.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, NamedTuple

from engagement.stack.simulator import behaviour, population
from engagement.stack.simulator.behaviour import Happening, Kind, Plan, Rhythm
from engagement.stack.simulator.chance import stream, uuid
from engagement.stack.simulator.faults import Faults, Occurrence, disturb
from engagement.stack.simulator.population import HOUR_US, MINUTE_US, User
from engagement.stack.simulator.wire import Record, document, microseconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from random import Random

RUN_UP_US = HOUR_US
RUN_UP_VISITS = 6
"""Visits older than this many mean lengths are all over: lengths are about exponential."""

REST_US = 35 * MINUTE_US
"""Longer than a session gap: most visits stay sessions of their own."""

QUICK_RETURN = 0.15
TRIES = 24
SKEW = 1.4
"""Above 1, some users come much more often than others."""


def events(
    seed: int, start: datetime, end: datetime | None, *, users: int = 2000, rate: float = 50.0, faults: Faults | None = None
) -> Iterator[Record]:
    """The records due from `start` to `end` (excluded; None never ends), in the order in which they are due."""
    end_us = None if end is None else microseconds(end)
    good = _occurrences(seed, microseconds(start), end_us, users, rate)
    return disturb(good, stream(seed, "faults"), Faults() if faults is None else faults, end_us)


class _Crowd:
    """The users at hand; newcomers take the place of users who have left."""

    def __init__(self, seed: int, size: int) -> None:
        self._seed, self._size = seed, size
        self._users: dict[int, User] = {}
        self._free_at: dict[int, int] = {}
        self._born = size

    def visitor(self, rng: Random, at_us: int, planned: Plan) -> User:
        """Pick who makes the visit."""
        if planned.kind is Kind.NEWCOMER:
            slot = int(rng.random() * self._size)
            self._users[slot] = population.user(self._seed, self._born)
            self._born += 1
        else:
            slot = self._rested_and_awake(rng, at_us)
        self._free_at[slot] = at_us + planned.lasts_us
        return self._user(slot)

    def _rested_and_awake(self, rng: Random, at_us: int) -> int:
        rested_us = at_us - (MINUTE_US if rng.random() < QUICK_RETURN else REST_US)
        tried = []
        for _ in range(TRIES):
            slot = int(self._size * rng.random() ** SKEW)
            tried.append(slot)
            if self._free_at.get(slot, 0) <= rested_us and rng.random() < self._user(slot).awake(at_us):
                return slot
        return min(tried, key=lambda slot: self._free_at.get(slot, 0))

    def _user(self, slot: int) -> User:
        found = self._users.get(slot)
        if found is None:
            found = self._users[slot] = population.user(self._seed, slot)
        return found


class _Visit:
    """A visit under way: whose it is, and what comes next."""

    __slots__ = ("app_version", "happenings", "rng", "session_id", "user")

    def __init__(self, rng: Random, user: User, planned: Plan, at_us: int) -> None:
        self.rng, self.user = rng, user
        self.app_version = user.app_version(at_us)
        self.session_id = None if planned.kind is Kind.GLANCE else uuid(rng)
        self.happenings = behaviour.visit(rng, planned, at_us)

    def occurrence(self, happening: Happening) -> Occurrence:
        found = document(
            user=self.user, at_us=happening.at_us, event_id=uuid(self.rng), session_id=self.session_id,
            event_type=happening.event_type, app_version=self.app_version, properties=happening.properties,
        )  # fmt: skip
        return Occurrence(happening.at_us, found)


class _Next(NamedTuple):
    """Heap entry: the next happening of a visit; the number settles ties."""

    at_us: int
    number: int
    happening: Happening
    visit: _Visit


def _occurrences(seed: int, start_us: int, end_us: int | None, users: int, rate: float) -> Iterator[Occurrence]:
    rhythm, crowd, rng = Rhythm.of(rate, users), _Crowd(seed, users), stream(seed, "visits")
    visits_a_us = rate / rhythm.mean_events / 1_000_000
    under_way: list[_Next] = []
    at_us, number = start_us - max(RUN_UP_US, int(RUN_UP_VISITS * rhythm.lasts_us)), 0
    while True:
        at_us += int(rng.expovariate(visits_a_us)) + 1
        yield from _until(at_us if end_us is None else min(at_us, end_us), under_way)
        if end_us is not None and at_us >= end_us:
            return
        planned = _still_to_come(behaviour.plan(rng, rhythm), start_us - at_us)
        if planned is not None:
            begins_us = start_us + int(rng.expovariate(1 / planned.gap_us)) if planned.under_way else at_us
            user = crowd.visitor(rng, begins_us, planned)
            _open(_Visit(stream(seed, "visit", number), user, planned, begins_us), number, under_way)
        number += 1


def _still_to_come(planned: Plan, elapsed_us: int) -> Plan | None:
    return planned if elapsed_us <= 0 else planned.after(elapsed_us)


def _open(visit: _Visit, number: int, under_way: list[_Next]) -> None:
    first = next(visit.happenings)
    heapq.heappush(under_way, _Next(first.at_us, number, first, visit))


def _until(limit_us: int, under_way: list[_Next]) -> Iterator[Occurrence]:
    """All that happens before the limit in visits already under way."""
    while under_way and under_way[0].at_us < limit_us:
        _, number, happening, visit = under_way[0]
        yield visit.occurrence(happening)
        following = next(visit.happenings, None)
        if following is None:
            heapq.heappop(under_way)
        else:
            heapq.heapreplace(under_way, _Next(following.at_us, number, following, visit))
