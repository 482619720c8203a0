"""A crowd of users as columns, made in bulk: events as an app would send them, in the order in which the log gets them.

The simulator makes one event after the other and would need hours for what a bench reads; this draws millions in a
second or two with the same shapes: a few eager users and many quiet ones, evenings busier than nights, sessions of a
dozen events with pauses, late stragglers, copies, a few bots that never pause. Same arguments, same events.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

EVENTS_A_SESSION = 12
SESSIONS_A_USER_AND_DAY = 2.0
PAUSE_SECONDS = 20.0
BOTS = 5
BOT_PAUSE_SECONDS = 300
SCREENS = [f"Screen{number:02d}" for number in range(30)]
TYPES = ["screen_view", "tap", "swipe", "view_notification", "click_notification", "install"]
TYPE_SHARES = [0.46, 0.33, 0.14, 0.045, 0.02, 0.005]
MODELS = ["iPhone15,3", "iPhone14,2", "iPhone16,1", "iPhone12,1", "iPad13,1", "iPad14,5", "iPhone17,2", "iPod9,1"]
VERSIONS = ["4.12.0", "4.12.1", "4.11.3", "4.10.0", "4.9.2", "3.8.0"]
COUNTRIES = ["DE", "US", "FR", "GB", "JP", "BR", "IN", "ES", "IT", "PL", "NL", "SE", "MX", "CA", "AU"]
DAY_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Crowd:
    """Events as parallel arrays in the order of arrival, copies included; times in microseconds since 1970 UTC."""

    user: np.ndarray
    visit: np.ndarray
    kind: np.ndarray
    screen: np.ndarray
    at_us: np.ndarray
    received_us: np.ndarray
    identity: np.ndarray
    """16 random bytes an event; a copy has those of its original."""

    def __len__(self) -> int:
        return len(self.user)


def draw(events: int, start: datetime, seconds: int, *, copies: float = 0.05, late: float = 0.02, bots: int = BOTS, seed: int = 1) -> Crowd:
    """So many events (copies counted) that happen in [start, start + seconds)."""
    import numpy as np

    rng = np.random.default_rng(seed)
    fresh = events - round(events * copies)
    user, visit, at_us = _happen(rng, fresh, seconds, bots)
    fresh = len(user)
    delay = rng.exponential(2e6, fresh).astype(np.int64)
    stragglers = rng.random(fresh) < late
    delay[stragglers] += rng.integers(0, 6 * 3600 * 10**6, int(stragglers.sum()))
    copied = rng.choice(fresh, events - fresh, replace=False)
    every = np.concatenate([np.arange(fresh), copied])
    received = np.concatenate([at_us + delay, (at_us + delay)[copied] + rng.integers(0, 60 * 10**6, len(copied))])
    order = np.argsort(received, kind="stable")
    every, received = every[order], received[order]
    kind = rng.choice(len(TYPES), fresh, p=TYPE_SHARES).astype(np.int8)
    screen = (len(SCREENS) * rng.random(fresh) ** 2).astype(np.int8)
    identity = rng.integers(0, 256, (fresh, 16), np.uint8)
    since = int(start.replace(tzinfo=start.tzinfo or UTC).timestamp()) * 10**6
    # Log-append times are whole milliseconds.
    received = (since + received + 999) // 1000 * 1000
    return Crowd(user[every], visit[every], kind[every], screen[every], since + at_us[every], received, identity[every])


def _happen(rng: np.random.Generator, events: int, seconds: int, bots: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User, visit and time of each event; times count from the start."""
    import numpy as np

    wanted_bots = bots * (seconds // BOT_PAUSE_SECONDS)
    people = events - wanted_bots
    visits = max(1, round((1.05 + 1800 / seconds) * people / EVENTS_A_SESSION) + 200)  # some are cut off by the end
    users = max(1, round(visits / (SESSIONS_A_USER_AND_DAY * max(1.0, seconds / DAY_SECONDS))))
    eagerness = np.cumsum(rng.lognormal(0.0, 1.0, users))
    who = np.searchsorted(eagerness, rng.random(visits) * eagerness[-1])
    begins = _daily_curve(rng, visits, seconds)
    lengths = rng.geometric(1 / EVENTS_A_SESSION, visits)
    visit = np.repeat(np.arange(visits), lengths)
    pauses = rng.exponential(PAUSE_SECONDS * 10**6, len(visit))
    long = rng.random(len(visit)) < 0.01
    pauses[long] = rng.random(int(long.sum())) * 3000 * 10**6
    first = np.cumsum(lengths) - lengths
    run = np.cumsum(pauses)
    at = (begins[visit] + (run - run[first][visit])).astype(np.int64)
    kept = rng.choice(np.flatnonzero(at < seconds * 10**6), people, replace=False)
    bot = np.repeat(np.arange(bots), seconds // BOT_PAUSE_SECONDS)
    bot_at = np.tile(np.arange(seconds // BOT_PAUSE_SECONDS) * BOT_PAUSE_SECONDS * 10**6, bots) + rng.integers(0, 10**6, len(bot))
    return (
        np.concatenate([who[visit[kept]], users + bot]),
        np.concatenate([visit[kept], visits + bot]),
        np.concatenate([at[kept], bot_at]),
    )


def _daily_curve(rng: np.random.Generator, count: int, seconds: int) -> np.ndarray:
    """Times within [0, seconds), in microseconds; an evening hour has some three times as many as a night hour."""
    import numpy as np

    if seconds < DAY_SECONDS:
        return rng.random(count) * seconds * 10**6
    at = rng.random(3 * count) * seconds
    kept = at[rng.random(len(at)) < 0.6 - 0.3 * np.cos(2 * np.pi * (at / DAY_SECONDS - 0.1))]
    return kept[:count] * 10**6


def columns(crowd: Crowd) -> dict[str, pa.Array]:
    """The event's own columns, as the app sends them, by name; `screen` stands apart from `properties`."""
    import numpy as np
    import pyarrow as pa

    visited = np.where(crowd.kind == 0, crowd.screen, -1)
    return {
        "event_id": uuids(crowd.identity),
        "user_id": numbered("user-", crowd.user),
        "session_id": uuids(np.random.default_rng(0).integers(0, 256, (int(crowd.visit.max()) + 1, 16), np.uint8)).take(
            pa.array(crowd.visit)
        ),
        "event_type": chosen(TYPES, crowd.kind),
        "event_time": pa.array(crowd.at_us, pa.timestamp("us", "UTC")),
        "received_at": pa.array(crowd.received_us, pa.timestamp("us", "UTC")),
        "device_type": chosen(
            ["iPad" if model.startswith("iPad") else model[: model.index("1")] for model in MODELS], _of_user(crowd, MODELS)
        ),
        "device_model": chosen(MODELS, _of_user(crowd, MODELS)),
        "os_version": chosen(["19.1", "18.7"], crowd.user % 2),
        "locale": chosen(["de_DE", "en_US", "fr_FR"], crowd.user % 3),
        "app_version": chosen(VERSIONS, _of_user(crowd, VERSIONS)),
        "country": chosen(COUNTRIES, _of_user(crowd, COUNTRIES)),
        "region": chosen(["UNKNOWN"], crowd.user * 0),
        "city": chosen(["Springfield", "Neustadt"], crowd.user % 2),
        "screen": chosen([*SCREENS, None], visited),
    }


def _of_user(crowd: Crowd, values: list[str]) -> np.ndarray:
    """A place in the values that a user keeps; the first values are the most frequent."""
    import numpy as np

    spread = (crowd.user * 2654435761 % 2**32) / 2**32
    place: np.ndarray = (len(values) * (spread * (1 + len(values)) % 1) ** 2).astype(np.int64)
    return place


def chosen(values: list[str | None] | list[str], places: np.ndarray) -> pa.Array:
    """Texts by their place in a short list."""
    import pyarrow as pa

    return pa.array(values, pa.string()).take(pa.array(places % len(values)))


def numbered(prefix: str, numbers: np.ndarray) -> pa.Array:
    """`prefix` and the number with leading zeros."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0"), "")


def uuids(identity: np.ndarray) -> pa.Array:
    """Sixteen bytes each as the text of a UUID."""
    import numpy as np
    import pyarrow as pa

    count = len(identity)
    digits = np.frombuffer(identity.tobytes().hex().encode(), np.uint8).reshape(count, 32)
    text = np.full((count, 36), ord("-"), np.uint8)
    for place, (start, end) in zip((0, 9, 14, 19, 24), ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32)), strict=True):
        text[:, place : place + end - start] = digits[:, start:end]
    offsets = np.arange(count + 1, dtype=np.int32) * 36
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


def raw_rows(crowd: Crowd, topic_id: str, first_offset: int) -> pa.Table:
    """The crowd's events as good raw rows of one partition, from this offset on."""
    import numpy as np
    import pyarrow as pa

    from engagement.raw import rows

    count = len(crowd)
    sent = columns(crowd)
    seen = np.where(crowd.kind == 0, crowd.screen, -1)
    found = sent | {
        "kafka_topic": pa.repeat("session", count),
        "kafka_topic_id": pa.repeat(topic_id, count),
        "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_offset": pa.array(np.arange(first_offset, first_offset + count)),
        "properties": chosen([*(f'{{"screen": "{name}", "position": 3}}' for name in SCREENS), '{"position": 3}'], seen),
    }
    schema = rows.schema()
    return pa.table(
        [found[field.name].cast(field.type) if field.name in found else pa.nulls(count, field.type) for field in schema], schema=schema
    )


def part(crowd: Crowd, since_us: int, until_us: int) -> Crowd:
    """What arrives in [since, until)."""
    import numpy as np

    low, high = np.searchsorted(crowd.received_us, [since_us, until_us])
    return Crowd(*(getattr(crowd, name)[low:high] for name in Crowd.__slots__))
