"""Hypothesis strategies for logs that try to break the rules: what `oracle` computes at once, the product computes in pieces.

`histories()` draws a whole log in arrival order, `splits(history)` cuts it into successive arrivals. Nothing here knows the
product; the shapes come from the rules (a gap to the microsecond, midnights, copies, whole-day automated users, late bridges).
"""

from __future__ import annotations

import hashlib
import uuid
from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st
from oracle import MICROSECOND, ONE_DAY, RawEvent

# The midnights around which a history happens; all lie after the default history start.
MIDNIGHTS = (
    datetime(2026, 3, 11, tzinfo=UTC),
    datetime(2026, 2, 1, tzinfo=UTC),  # month end, and months 1 and 2 whose names need padding
    datetime(2026, 10, 1, tzinfo=UTC),  # from a one-digit month to a two-digit one
    datetime(2024, 2, 29, tzinfo=UTC),  # into the leap day
    datetime(2024, 3, 1, tzinfo=UTC),  # out of it
    datetime(2026, 1, 1, tzinfo=UTC),  # year end
)
USERS = ("u1", "u2", "ü3")
EVENT_TYPES = ("screen_view", "tap", "view_notification", "click_notification", "install", "session_start")
# Z sorts before a, and both before é, by bytes; a locale's order says otherwise.
COUNTRIES = ("DE", "FR", "at", "Zz", "é", None, "", "OTHER", "ALL_COUNTRIES")
DEVICE_TYPES = (None, "", "iPhone", "iPad", "ALL_DEVICES", "UNKNOWN")
DEVICE_MODELS = (None, "", "iPhone15,3", "iPad13,1", "iPod9,1", "RealityDevice14,1")
APP_VERSIONS = ("1.9", "1.10", None, "", "ALL_VERSIONS")
SCREENS = ("Home", "Cart", None)
CLIENT_SESSIONS = (None, "a", "b")
# (topic, topic id, partition): `session` was deleted and created again once, so its partition 0 has two lives.
LOGS = (
    ("session", "5e" * 16, 0),
    ("session", "5e" * 16, 1),
    ("session", "0a" * 16, 0),
    ("install", "17" * 16, 0),
    ("view_notification", "ab" * 16, 0),
    ("import", "1a" * 32, 0),  # a file of history: its id is the hash of its bytes
)
DELAYS = (timedelta(0), timedelta(milliseconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(hours=26))
LATEST = 9


@dataclass(frozen=True)
class _Sent:
    """An event on its way: where it goes, how late, and its turn (lower turns arrive first)."""

    event: RawEvent
    log: tuple[str, str, int]
    turn: int
    delay: timedelta


def histories(gap_seconds: int = 1800, max_events: int = 24, automated_days: int = 2) -> st.SearchStrategy[list[RawEvent]]:
    """A log in arrival order: in each (topic, topic id, partition) offsets count from 0 and received_at never falls.

    Every event is acceptable: received at or after its own time, and less than 30 days after it.

    Args:
        gap_seconds: the session gap that times are clustered around.
        max_events: how many events there may be besides copies, automated days and late bridges; bounds those too where it is small.
        automated_days: how many days in a row a user may be automated (48 events a day at the default gap).
    """
    return _history(timedelta(seconds=gap_seconds), max_events, automated_days)


@st.composite
def splits(draw: st.DrawFn, history: list[RawEvent], max_arrivals: int = 5, min_arrivals: int = 1) -> list[list[RawEvent]]:
    """The log as successive arrivals: each takes the next records of every partition, sometimes none of them; none is empty."""
    logs = defaultdict(list)
    for row in history:
        logs[log_of(row)].append(row)
    arrivals: list[list[RawEvent]] = [[] for _ in range(draw(st.integers(min_arrivals, max_arrivals)))]
    for log in sorted(logs):
        rows = logs[log]
        cuts = sorted(draw(st.lists(st.integers(0, len(rows)), min_size=len(arrivals) - 1, max_size=len(arrivals) - 1)))
        for arrival, start, end in zip(arrivals, [0, *cuts], [*cuts, len(rows)], strict=True):
            arrival.extend(rows[start:end])
    return [arrival for arrival in arrivals if arrival]


def log_of(row: RawEvent) -> tuple[str, str, int]:
    """The partition a row belongs to; one topic name can have had two lives."""
    return row.kafka_topic, row.kafka_topic_id, row.kafka_partition


@st.composite
def _history(draw: st.DrawFn, gap: timedelta, max_events: int, automated_days: int) -> list[RawEvent]:
    midnight = draw(st.sampled_from(MIDNIGHTS))
    logs = draw(st.lists(st.sampled_from(LOGS), min_size=1, max_size=3, unique=True))
    sent: list[_Sent] = []
    while len(sent) < max_events:
        sent += draw(_visit(midnight, gap, logs, first_number=len(sent), longest=max_events - len(sent)))
        if not draw(st.booleans()):
            break
    if draw(st.booleans()):
        sent += draw(_late_bridge(midnight, gap, logs, first_number=100, longest=max(3, min(10, max_events))))
    if automated_days and draw(st.booleans()):
        sent += draw(_automated(midnight, gap, logs, first_number=1000, most_days=automated_days))
    for original in draw(st.lists(st.sampled_from(sent), max_size=min(4, max_events // 2))):
        sent.append(draw(_copy(original, logs)))
    for original in draw(st.lists(st.sampled_from(sent), max_size=2)):
        moved = original.event.event_time + draw(st.sampled_from((MICROSECOND, timedelta(hours=1), -MICROSECOND)))
        sent.append(replace(original, event=replace(original.event, event_time=moved)))
    return _append(sorted(sent, key=lambda one: one.turn))


def _append(sent: list[_Sent]) -> list[RawEvent]:
    """What the broker does: the next offset, and a log-append time in whole milliseconds that never falls."""
    rows: list[RawEvent] = []
    next_offset: dict[tuple, int] = defaultdict(int)
    newest: dict[tuple, datetime] = {}
    for one in sent:
        topic, topic_id, partition = log = one.log
        earliest = _whole_millisecond(one.event.event_time) + one.delay
        newest[log] = max(earliest, newest.get(log, earliest))
        rows.append(
            replace(
                one.event,
                received_at=newest[log],
                kafka_topic=topic,
                kafka_topic_id=topic_id,
                kafka_partition=partition,
                kafka_offset=next_offset[log],
            )
        )
        next_offset[log] += 1
    return rows


def _whole_millisecond(moment: datetime) -> datetime:
    return moment + timedelta(microseconds=-moment.microsecond % 1000)


def _event(number: int, user_id: str, moment: datetime, **content: str | None) -> RawEvent:
    """Ids are fixed but in no order, so that equal times are told apart by an id that says nothing about arrival."""
    digest = hashlib.sha256(str(number).encode()).digest()
    plain = {"session_id": None, "event_type": "tap", "device_type": None, "device_model": "iPhone15,3"}
    plain |= {"app_version": "1.9", "country": "DE", "screen": None}
    return RawEvent(
        event_id=str(uuid.UUID(bytes=digest[:16], version=4)),
        user_id=user_id,
        event_time=moment,
        received_at=moment,
        kafka_topic="",
        kafka_topic_id="",
        kafka_partition=0,
        kafka_offset=0,
        **{**plain, **content},
    )


def _content() -> st.SearchStrategy[dict[str, str | None]]:
    return st.fixed_dictionaries(
        {
            "event_type": st.sampled_from(EVENT_TYPES),
            "session_id": st.sampled_from(CLIENT_SESSIONS),
            "device_type": st.sampled_from(DEVICE_TYPES),
            "device_model": st.sampled_from(DEVICE_MODELS),
            "app_version": st.sampled_from(APP_VERSIONS),
            "country": st.sampled_from(COUNTRIES),
            "screen": st.sampled_from(SCREENS),
        }
    )


@st.composite
def _visit(draw: st.DrawFn, midnight: datetime, gap: timedelta, logs: list[tuple], *, first_number: int, longest: int) -> list[_Sent]:
    """One user's chain of events, each a telling step after the one before."""
    user_id = draw(st.sampled_from(USERS))
    moment = midnight + draw(st.sampled_from(_starts(gap)))
    sent = []
    for number in range(first_number, first_number + draw(st.integers(1, min(8, longest)))):
        content = draw(_content())
        log, turn, delay = draw(st.sampled_from(logs)), draw(st.integers(0, LATEST)), draw(st.sampled_from(DELAYS))
        sent.append(_Sent(_event(number, user_id, moment, **content), log, turn, delay))
        moment = draw(st.sampled_from(_next_moments(moment, gap)))
    return sent


def _starts(gap: timedelta) -> list[timedelta]:
    """Seen from the history's midnight: on and beside borders of days and hours, one gap before them, and the day before."""
    hour = timedelta(hours=1)
    near = [timedelta(0), -MICROSECOND, MICROSECOND, -gap, -gap - MICROSECOND, gap, -10 * hour, 13 * hour - MICROSECOND]
    return [*near, -ONE_DAY, -ONE_DAY - MICROSECOND, -hour, hour, ONE_DAY - gap]


def _next_moments(moment: datetime, gap: timedelta) -> list[datetime]:
    steps = [timedelta(0), MICROSECOND, timedelta(seconds=10), timedelta(seconds=10) + MICROSECOND, timedelta(minutes=7)]
    steps += [gap - MICROSECOND, gap, gap + MICROSECOND, 2 * gap, timedelta(hours=3)]
    this_hour = moment.replace(minute=0, second=0, microsecond=0)
    next_midnight = this_hour.replace(hour=0) + ONE_DAY
    borders = [this_hour + timedelta(hours=1), next_midnight]
    return [moment + step for step in steps] + [border + beside for border in borders for beside in (-MICROSECOND, timedelta(0))]


@st.composite
def _late_bridge(draw: st.DrawFn, midnight: datetime, gap: timedelta, logs: list[tuple], *, first_number: int, longest: int) -> list[_Sent]:
    """Two sessions over several hours that the very last arrivals join, or extend backwards."""
    user_id = draw(st.sampled_from(USERS))
    end = midnight + draw(st.sampled_from((timedelta(hours=2), timedelta(hours=7), gap, timedelta(0))))
    count = draw(st.integers(3, longest))
    late = draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2))
    sent = []
    for number in range(count):
        event = _event(first_number + number, user_id, end - number * gap, country=COUNTRIES[number % 3], event_type="screen_view")
        turn = LATEST + 1 if number in late else 0
        sent.append(_Sent(event, draw(st.sampled_from(logs)), turn, timedelta(0)))
    return sent


@st.composite
def _automated(draw: st.DrawFn, midnight: datetime, gap: timedelta, logs: list[tuple], *, first_number: int, most_days: int) -> list[_Sent]:
    """A user without a gap on one or more whole days, or with just one; sometimes going on into the neighbours.

    Drawn as a pattern, not event by event: a day has at least 24 h / gap events.
    """
    user_id = draw(st.sampled_from(("bot", USERS[0])))
    days = draw(st.integers(1, most_days))
    first_day = midnight + draw(st.sampled_from((-ONE_DAY, timedelta(0))))
    per_day = -(-ONE_DAY // gap)
    first = first_day + draw(st.sampled_from((timedelta(0), gap / 2, gap)))
    moments = [first + number * gap for number in range(days * per_day)]
    moments = [moment for moment in moments if moment < first_day + days * ONE_DAY]
    missing = draw(st.none() | st.integers(0, len(moments) - 1))
    if missing is not None:
        del moments[missing]
    if draw(st.booleans()):
        moments.insert(0, first_day - draw(st.sampled_from((MICROSECOND, gap / 2, gap, gap + MICROSECOND))))
    if draw(st.booleans()):
        moments.append(first_day + days * ONE_DAY + draw(st.sampled_from((timedelta(0), MICROSECOND, gap / 2, gap))))
    client_ids = draw(st.sampled_from(((None,), ("a",), ("a", None), ("a",) * 10 + ("b",))))
    turns = draw(st.sampled_from(_turns_of_many(len(moments))))
    sent = []
    for number, moment in enumerate(moments):
        content = {"session_id": client_ids[number % len(client_ids)], "event_type": EVENT_TYPES[number % 3], "screen": f"S{number}"}
        event = _event(first_number + number, user_id, moment, **content, country=COUNTRIES[number // 20])
        sent.append(_Sent(event, logs[number % len(logs)], turns[number], timedelta(0)))
    return sent


def _turns_of_many(count: int) -> list[list[int]]:
    """In order; every second one late; one in the middle, the first or the last after all others; backwards."""

    def only_late(late: int) -> list[int]:
        return [LATEST + 1 if number == late else 0 for number in range(count)]

    alternating = [(number % 2) * LATEST for number in range(count)]
    return [[0] * count, alternating, only_late(count // 2), only_late(0), only_late(count - 1), [-number for number in range(count)]]


@st.composite
def _copy(draw: st.DrawFn, original: _Sent, logs: list[tuple]) -> _Sent:
    """The same id, in either case, at the same time; all else may differ, the user and the arrival too."""
    change = str.upper if draw(st.booleans()) else str.lower
    content = draw(st.just({}) | st.fixed_dictionaries({"country": st.sampled_from(COUNTRIES)}) | _content())
    user_id = draw(st.sampled_from((original.event.user_id, *USERS)))
    event = replace(original.event, event_id=change(original.event.event_id), user_id=user_id, **content)
    log, turn, delay = draw(st.sampled_from(logs)), draw(st.integers(0, LATEST)), draw(st.sampled_from(DELAYS))
    return _Sent(event, log, turn, delay)
