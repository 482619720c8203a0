"""Raw objects of whole days, made in columns: what an import leaves, at a speed that a bench can wait for.

Not the simulator, which builds one event after another. Visits of about 17 screen views, taps and notifications, a few
seconds apart, two a day and user; one record in a hundred is a copy. Same seed, same rows.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from engagement.lake import Lake
from engagement.raw import files, rows
from engagement.raw.names import IMPORT_TOPIC, import_chain

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS_PER_OBJECT = 500_000
"""As an import cuts a file."""
VISIT = 17
SECONDS_BETWEEN = 30.0
COPIES = 0.01
DAY_US = 86_400_000_000
SCREENS = ("Home", "Search", "Product", "Cart", "Checkout", "Profile", "Settings", "Feed")
TYPES = ("screen_view", "tap", "swipe", "view_notification", "click_notification", "install")
TYPE_SHARES = (0.45, 0.3, 0.15, 0.06, 0.03, 0.01)
MODELS = ("iPhone15,3", "iPhone14,2", "iPhone13,1", "iPad13,1", "iPhone17,1")
VERSIONS = ("4.1.0", "4.2.0", "4.2.1", "4.3.0")
PLACES = (("DE", "Berlin", "Berlin"), ("US", "California", "Los Angeles"), ("FR", "Bretagne", "Rennes"), ("JP", "Tokyo", "Tokyo"),
          ("BR", "Bahia", "Salvador"), ("GB", "England", "Leeds"), ("IN", "Goa", "Panaji"), ("MX", "Jalisco", "Zapopan"))  # fmt: skip


def write_day(lake: Lake, day: date, count: int, slot_minutes: int = 60, seed: int = 7) -> None:
    """The records of one UTC day as the chain of one imported file, by event time but for the copies."""
    import numpy as np

    chain = import_chain(hashlib.sha256(f"{seed} {day} {count}".encode()).hexdigest())
    generator = np.random.default_rng([seed, day.toordinal(), count])
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    table = records(generator, midnight, count, chain.topic_id)
    for start in range(0, count, ROWS_PER_OBJECT):
        part = table.slice(start, ROWS_PER_OBJECT)
        times = part["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
        slots = dict(zip(*(found.tolist() for found in np.unique(times // (slot_minutes * 60_000_000), return_counts=True)), strict=True))
        first, last = (datetime.fromtimestamp(int(micros) / 1e6, UTC) for micros in (times.min(), times.max()))
        received = part["received_at"][0].as_py()
        event_slots = {datetime.fromtimestamp(slot * slot_minutes * 60, UTC): rows_ for slot, rows_ in slots.items()}
        batch = rows.Batch(part, {}, event_slots, first, last, received, received, {})
        files.write(lake, chain, start, start + part.num_rows, batch, f"{day}.jsonl")


def events_of(count: int) -> int:
    """How many of so many records are events and not copies."""
    return count - int(count * COPIES)


def records(generator: np.random.Generator, midnight: datetime, count: int, topic_id: str) -> pa.Table:
    """So many records of one day as raw rows of an import."""
    import numpy as np
    import pyarrow as pa

    fresh = events_of(count)
    visit, times = _visits(generator, fresh)
    owners = generator.integers(0, max(1, fresh // VISIT // 2), size=int(visit.max()) + 1)
    user = owners[visit]
    ids = generator.integers(0, 256, size=(fresh, 16), dtype=np.uint8)
    picked = np.concatenate([np.arange(fresh), generator.integers(0, fresh, size=count - fresh)])
    # Copies come anywhere behind the record they copy, all others in the order of their times.
    turn = np.concatenate([times, times[picked[fresh:]] + generator.integers(0, DAY_US // 24, size=count - fresh)])
    picked = picked[np.argsort(turn, kind="stable")]
    screen = generator.integers(0, len(SCREENS), size=fresh)
    columns = {
        "kafka_topic": pa.repeat(IMPORT_TOPIC, count),
        "kafka_topic_id": pa.repeat(topic_id, count),
        "kafka_partition": pa.repeat(pa.scalar(0, pa.int32()), count),
        "kafka_offset": pa.array(np.arange(count)),
        "received_at": pa.repeat(pa.scalar(midnight + timedelta(days=2), pa.timestamp("us", tz="UTC")), count),
        "event_id": _uuids(ids[picked]),
        "user_id": _uuids(_spread(user[picked])),
        "event_type": _choice(generator.choice(len(TYPES), size=fresh, p=TYPE_SHARES)[picked], TYPES),
        "event_time": pa.array(times[picked] + int(midnight.timestamp()) * 1_000_000, pa.timestamp("us", tz="UTC")),
        "session_id": _uuids(_spread(visit[picked] + (1 << 40))),
        "device_model": _choice(user[picked] % len(MODELS), MODELS),
        "os_version": _choice(user[picked] % 3, ("17.6", "18.0", "18.1")),
        "locale": _choice(user[picked] % 4, ("de_DE", "en_US", "fr_FR", "ja_JP")),
        "app_version": _choice(visit[picked] % len(VERSIONS), VERSIONS),
        **{
            name: _choice(user[picked] % len(PLACES), [place[at] for place in PLACES])
            for at, name in enumerate(("country", "region", "city"))
        },
        "properties": _choice(screen[picked], [f'{{"screen":"{name}","position":{place}}}' for place, name in enumerate(SCREENS)]),
    }
    schema = rows.schema()
    return pa.table([columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in schema], schema=schema)


def _visits(generator: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The visit of each event and its microsecond of the day, by time."""
    import numpy as np

    visit = np.sort(generator.integers(0, max(1, count // VISIT), size=count))
    steps = (generator.exponential(SECONDS_BETWEEN, size=count) * 1_000_000).astype(np.int64)
    first = np.r_[True, visit[1:] != visit[:-1]]
    steps[first] = 0
    walked = np.cumsum(steps)
    begun = np.repeat(walked[first], np.diff(np.r_[np.flatnonzero(first), count]))
    starts = generator.integers(0, DAY_US, size=int(visit.max()) + 1)
    times = np.minimum(starts[visit] + walked - begun, DAY_US - 1)
    order = np.argsort(times, kind="stable")
    return visit[order], times[order]


def _spread(numbers: np.ndarray) -> np.ndarray:
    """Sixteen bytes that look like chance for each number, the same for the same number."""
    import numpy as np

    mixed = (numbers.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    return np.stack([mixed, mixed ^ (mixed >> np.uint64(29))], axis=1).view(np.uint8).reshape(len(numbers), 16)


def _uuids(sixteen: np.ndarray) -> pa.Array:
    """Their text, 36 characters each."""
    import numpy as np
    import pyarrow as pa

    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    texts = np.full((len(sixteen), 36), ord("-"), np.uint8)
    places = [place for place in range(36) if place not in (8, 13, 18, 23)]
    texts[:, places[0::2]] = digits[sixteen >> 4]
    texts[:, places[1::2]] = digits[sixteen & 15]
    offsets = np.arange(0, 36 * (len(sixteen) + 1), 36, dtype=np.int32)
    return pa.StringArray.from_buffers(len(sixteen), pa.py_buffer(offsets), pa.py_buffer(texts))


def _choice(places: np.ndarray, values: tuple[str, ...] | list[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array(values, pa.string()).take(pa.array(places))


def user_id(number: int) -> str:
    """The id of a user by number; each is active on every day."""
    import numpy as np

    found: str = _uuids(_spread(np.array([number])))[0].as_py()
    return found
