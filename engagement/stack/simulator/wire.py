"""What an event looks like on the wire: the contract's document, its bytes, its topic family."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from engagement.stack.simulator.population import User

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAMILIES = {"install": "install", "view_notification": "view_notification", "click_notification": "view_notification"}

Document = dict[str, Any]
encode = msgspec.json.Encoder().encode
_zones: dict[int, timezone] = {}


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka message. `fault` names what is wrong or unusual about it, None for a plain good event."""

    topic_family: str
    key: bytes | None
    value: bytes | None
    due_at: datetime
    fault: str | None = None


def instant(at_us: int) -> datetime:
    """Microseconds of the epoch as a time in UTC."""
    return EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    """An aware time as microseconds of the epoch."""
    return (at - EPOCH) // timedelta(microseconds=1)


def timestamp(at_us: int, offset_minutes: int) -> str:
    """RFC 3339 in the phone's own time zone."""
    zone = _zones.get(offset_minutes) or _zones.setdefault(offset_minutes, timezone(timedelta(minutes=offset_minutes)))
    return (EPOCH + timedelta(microseconds=at_us)).astimezone(zone).isoformat(timespec="microseconds")


def family(event_type: str) -> str:
    """Topic family of an event type."""
    return FAMILIES.get(event_type, "session")


def document(
    *, user: User, at_us: int, event_id: str, session_id: str | None, event_type: str, app_version: str, properties: Document
) -> Document:
    """One event as the contract wants it; nested objects are shared with the user and must not be changed in place."""
    return {
        "event_id": event_id,
        "user_id": user.user_id,
        "session_id": session_id,
        "event_type": event_type,
        "timestamp": timestamp(at_us, user.offset_minutes),
        "device_info": user.device_info,
        "geo_location": user.geo_location,
        "app_version": app_version,
        "properties": properties,
    }
