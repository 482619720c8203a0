"""The rules of `docs/` once more, as one global computation over raw rows: simple and obviously right rather than fast.

Written from rules R6, R7, R8 and the column meanings of the interface alone. It shares no code with the product and must
never import it: what both say independently is what the property tests compare. It knows no slots, no fragments, no files.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, product

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
ONE_DAY = timedelta(days=1)
FIRST_FEW = 50
RESERVED = ("ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES", "OTHER")
IMPORTED = "import"
ALL_LEVELS = ("ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES")


@dataclass(frozen=True, kw_only=True)
class RawEvent:
    """One accepted record of the log, as the raw rows hold it."""

    event_id: str
    user_id: str
    session_id: str | None
    event_type: str
    event_time: datetime
    received_at: datetime
    kafka_topic: str
    kafka_topic_id: str
    kafka_partition: int
    kafka_offset: int
    device_type: str | None
    device_model: str | None
    app_version: str | None
    country: str | None
    screen: str | None


def dedupe(rows: list[RawEvent]) -> list[RawEvent]:
    """R6: of the rows with one (lower-case event_id, event_time) the earliest; ids in lower case, by (event_time, event_id)."""
    copies = defaultdict(list)
    for row in rows:
        copies[row.event_time, row.event_id.lower()].append(row)
    return [replace(min(copies[key], key=_arrival), event_id=key[1]) for key in sorted(copies)]


def dimensions(event: RawEvent) -> tuple[str, str, str]:
    """(device_type, app_version, country) as every processed table shows them."""
    device = event.device_type or _device_of_model(event.device_model or "")
    return _dimension(device), _dimension(event.app_version), _dimension(event.country)


def sessions(rows: list[RawEvent], gap_seconds: int = 1800, mode: str = "gap") -> list[dict]:
    """Every column of the `sessions` table except the path keys, by (started_at, user_id, session_key)."""
    found = [_session(part, gap_seconds, mode, is_automated=cut) for part, cut in _sessionize(dedupe(rows), gap_seconds, mode)]
    return sorted(found, key=lambda session: (session["started_at"], session["user_id"], session["session_key"]))


def is_open(session: dict, rows: list[RawEvent]) -> bool:
    """Whether a session may still grow, as far as the log has been read: open_until >= newest received_at of a non-imported record."""
    read_to = max((row.received_at for row in rows if row.kafka_topic != IMPORTED), default=None)
    return read_to is not None and session["open_until"] >= read_to


def aggregates(rows: list[RawEvent], period: str, limit: int = 1000, gap_seconds: int = 1800, mode: str = "gap") -> list[dict]:
    """The hour or day rows of `daily_aggregates_with_dimensions`, by period, then by the dimensions' bytes."""
    if period not in ("hour", "day"):
        msg = f"period is {period!r}, expected 'hour' or 'day'"
        raise ValueError(msg)
    events_of = defaultdict(list)
    for event in dedupe(rows):
        events_of[_period(event.event_time, period)].append(event)
    sessions_of = defaultdict(list)
    for session in sessions(rows, gap_seconds, mode):
        sessions_of[_period(session["started_at"], period)].append(session)
    table = []
    for key in sorted(events_of):
        table += _one_period(key, period, events_of[key], sessions_of[key], limit)
    return table


def _arrival(row: RawEvent) -> tuple:
    return row.received_at, row.kafka_topic, row.kafka_topic_id, row.kafka_partition, row.kafka_offset


def _device_of_model(model: str) -> str | None:
    for device in ("iPhone", "iPad", "iPod"):
        if model.startswith(device):
            return device
    return None


def _dimension(value: str | None) -> str:
    return "UNKNOWN" if not value or value in RESERVED else value


def _microseconds(duration: timedelta) -> int:
    return duration // MICROSECOND


def _bytes(text: str) -> bytes:
    return text.encode()


# Sessions


def _owner(event: RawEvent, mode: str) -> tuple[str, str]:
    if mode not in ("gap", "client"):
        msg = f"mode is {mode!r}, expected 'gap' or 'client'"
        raise ValueError(msg)
    return event.user_id, (event.session_id or "") if mode == "client" else ""


def _sessionize(events: list[RawEvent], gap_seconds: int, mode: str) -> list[tuple[list[RawEvent], bool]]:
    """Each session's events in order, and whether it is an automated day's own."""
    gap = timedelta(seconds=gap_seconds)
    events_of_owner = defaultdict(list)
    for event in events:
        events_of_owner[_owner(event, mode)].append(event)
    found = []
    for own in events_of_owner.values():
        automated = _automated_days([event.event_time for event in own], gap)
        parts = [[own[0]]]
        for before, after in pairwise(own):
            days = {before.event_time.date(), after.event_time.date()}
            cut_at_midnight = len(days) == 2 and not days.isdisjoint(automated)
            if after.event_time - before.event_time > gap or cut_at_midnight:
                parts.append([])
            parts[-1].append(after)
        found += [(part, part[0].event_time.date() in automated) for part in parts]
    return found


def _automated_days(times: list[datetime], gap: timedelta) -> set[date]:
    """The UTC days without a gap from midnight to midnight."""
    times_of_day = defaultdict(list)
    for moment in times:
        times_of_day[moment.date()].append(moment)
    automated = set()
    for day, moments in times_of_day.items():
        midnight = datetime.combine(day, time(), UTC)
        edges = [midnight, *moments, midnight + ONE_DAY]
        if all(after - before <= gap for before, after in pairwise(edges)):
            automated.add(day)
    return automated


def _session(events: list[RawEvent], gap_seconds: int, mode: str, *, is_automated: bool) -> dict:
    first, last = events[0], events[-1]
    types = Counter(event.event_type for event in events)
    screens = [event.screen for event in events if event.event_type == "screen_view" and event.screen is not None]
    client_ids = list(dict.fromkeys(event.session_id for event in events if event.session_id))
    duration = last.event_time - first.event_time
    engaged = duration > timedelta(seconds=10) or types["screen_view"] >= 2
    device_type, app_version, country = dimensions(first)
    return {
        "session_key": _session_key(first, mode),
        "user_id": first.user_id,
        "started_at": first.event_time,
        "ended_at": last.event_time,
        "duration_seconds": _microseconds(duration) / 1_000_000,
        "event_count": len(events),
        "screen_views": types["screen_view"],
        "notification_views": types["view_notification"],
        "notification_clicks": types["click_notification"],
        "installs": types["install"],
        "screen_path": screens[:FIRST_FEW],
        "entry_screen": screens[0] if screens else None,
        "exit_screen": screens[-1] if screens else None,
        "client_session_ids": client_ids[:FIRST_FEW],
        "device_type": device_type,
        "app_version": app_version,
        "country": country,
        "is_engaged": engaged,
        "is_bounce": not engaged,
        "is_automated": is_automated,
        "open_until": last.event_time + timedelta(seconds=gap_seconds),
    }


def _session_key(first: RawEvent, mode: str) -> str:
    owner = [first.user_id, first.session_id or ""] if mode == "client" else [first.user_id]
    text = "\x1f".join([*owner, str(_microseconds(first.event_time - EPOCH))])
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


# The one big table


def _period(moment: datetime, period: str) -> tuple[int, ...]:
    day = (moment.year, moment.month, moment.day)
    return (*day, moment.hour) if period == "hour" else day


def _kept(values: list[str], limit: int) -> set[str]:
    """The `limit` values with most events, ties by the bytes of their UTF-8."""
    counts = Counter(values)
    return set(sorted(counts, key=lambda value: (-counts[value], _bytes(value)))[:limit])


def _one_period(key: tuple[int, ...], period: str, events: list[RawEvent], started: list[dict], limit: int) -> list[dict]:
    kept = [_kept(list(values), limit) for values in zip(*map(dimensions, events), strict=True)]

    def levels(values: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The eight rows that a thing with these dimension values belongs to."""
        named = [value if value in keep else "OTHER" for value, keep in zip(values, kept, strict=True)]
        return list(product(*zip(named, ALL_LEVELS, strict=True)))

    events_of, sessions_of = defaultdict(list), defaultdict(list)
    for event in events:
        for level in levels(dimensions(event)):
            events_of[level].append(event)
    for session in started:
        for level in levels((session["device_type"], session["app_version"], session["country"])):
            sessions_of[level].append(session)
    year, month, day = key[:3]
    hour = key[3] if period == "hour" else None
    return [
        {
            "year": year,
            "month": month,
            "day": day,
            "hour": hour,
            "device_type": level[0],
            "app_version": level[1],
            "country": level[2],
            **_event_metrics(events_of[level]),
            **_session_metrics(sessions_of[level]),
        }
        for level in sorted(events_of, key=lambda level: [_bytes(value) for value in level])
    ]


def _event_metrics(events: list[RawEvent]) -> dict:
    types = Counter(event.event_type for event in events)
    views, clicks = types["view_notification"], types["click_notification"]
    return {
        "total_events": len(events),
        "total_installs": types["install"],
        "total_views": types["screen_view"],
        "notification_views": views,
        "notification_clicks": clicks,
        "notification_ctr": clicks / views if views else None,
        "active_users": len({event.user_id for event in events}),
        "new_users": len({event.user_id for event in events if event.event_type == "install"}),
    }


def _session_metrics(started: list[dict]) -> dict:
    """Averages are one division of integers; Python rounds the quotient of two integers correctly, whatever their size."""
    count = len(started)
    durations = sorted(_microseconds(session["ended_at"] - session["started_at"]) for session in started)
    middle_two = durations[(count - 1) // 2 : count // 2 + 1]
    bounced = sum(session["is_bounce"] for session in started)
    return {
        "total_sessions": count,
        "avg_session_seconds": sum(durations) / (count * 1_000_000) if count else None,
        "median_session_seconds": sum(middle_two) / (len(middle_two) * 1_000_000) if count else None,
        "bounce_rate": bounced / count if count else None,
        "avg_events_per_session": sum(session["event_count"] for session in started) / count if count else None,
    }
