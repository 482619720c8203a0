"""Schema drift: fields, types, event types and app versions that come, change or vanish, noticed once.

What the app sends is inventoried hour by hour in `metrics/inventory.json` of the lake: names and kinds, never a value. An hour
newer than all that is inventoried is compared with it; an older one, as of a backfill, only adds to it. A field has vanished
when it came on several of the last days and on none of a day on which its event type did. Nothing blocks on drift.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, Lake
from engagement.tables.context import TableContext
from engagement.verdicts.result import Period, Result, Severity, Status
from quality import looking

KEY = "metrics/inventory.json"
ASSET, SUITE, CHECK = "events", "drift", "schema_drift"
HINT = "tell the app's team, or promote the field in model.toml; a field that is gone leaves nulls behind"
ROWS = 200_000
"""Events of an hour that are looked at; of more a sample by the hash of their ids."""
MOST = 5_000
"""Things in the inventory: an app that makes up names must not fill the lake."""
LONGEST = 80
REGULAR_DAYS, OF_DAYS = 3, 7
ENOUGH = 100
"""Events of a type on a day, fewer of which prove no absence."""
ATTEMPTS = 10
HOURS = 14 * 24
FULL = f"more than {MOST:,} names: further ones are not inventoried"
_ID = re.compile(r"[0-9a-fA-F]{8,}|[0-9]{3,}|[^\s@]+@[^\s@]+")
"""What in a name may tell a person: an app may key its properties by them."""
_KINDS = {"VARCHAR": "text", "UBIGINT": "number", "BIGINT": "number", "HUGEINT": "number", "DOUBLE": "number", "BOOLEAN": "bool"}


@dataclass
class Thing:
    """A field of an event type, an event type, or an app version: its kinds, first and last hour, events a day."""

    kinds: set[str] = field(default_factory=set)
    first: str = ""
    last: str = ""
    days: dict[str, int] = field(default_factory=dict)


@dataclass
class Inventory:
    """Everything that was ever seen, and of the last days' hours what was noticed in each: an hour is counted once."""

    things: dict[str, Thing] = field(default_factory=dict)
    hours: dict[str, list[str]] = field(default_factory=dict)


def look(context: TableContext, periods: Sequence[Period], _now: datetime | None = None) -> list[Result]:
    """One result an hour and day that has events, oldest first; what they hold is in the inventory then.

    Raises PermanentError where the inventory is not readable, TransientError where others write it again and again.
    """
    found = {period: seen(context, period) for period in sorted(periods) if period.kind == "hour"}
    days = [period for period in sorted(periods) if period.kind == "day"]
    for _ in range(ATTEMPTS):
        with context.lake.replacing(KEY):
            old = context.lake.stat(KEY)
            inventory = read(context.lake)
            results = [judged(inventory, period, held) for period, held in found.items() if held]
            results += [result for period in days if (result := vanished(inventory, period))]
            try:
                context.lake.replace(KEY, _text(inventory), old)
            except Changed:
                continue
            return results
    raise TransientError(f"{context.lake.name(KEY)}: replaced by other writers {ATTEMPTS} times in a row")


def seen(context: TableContext, period: Period) -> Mapping[str, tuple[str, int]]:
    """What the events of an hour hold: name of the thing -> kind and number of events, of a sample where there are many."""
    looking.open_views(context, period, ["events"])
    con = context.con
    total = int(con.execute("SELECT count(*) FROM events").fetchall()[0][0])
    sample = "" if total <= ROWS else f"WHERE hash(event_id) % {-(-total // ROWS)} = 0"
    found: dict[str, tuple[str, int]] = {}
    rows = con.execute(f"SELECT event_type, json_structure(properties), count(*) FROM events {sample} GROUP BY ALL").fetchall()
    for event_type, structure, count in rows:
        _add(found, f"event type {_cut(event_type)}", "", count)
        for name, kind in _fields(json.loads(structure or "{}")):
            _add(found, f"properties.{_cut(name)} of {_cut(event_type)}", kind, count)
    for version, count in con.execute("SELECT app_version, count(*) FROM events GROUP BY ALL").fetchall():
        _add(found, f"app version {_cut(version)}", "", count)
    return found


def judged(inventory: Inventory, period: Period, found: Mapping[str, tuple[str, int]]) -> Result:
    """What of an hour is new; the inventory holds it then. Judged again, as after late events, it says again what it said."""
    newest = max((thing.last for thing in inventory.things.values()), default="")
    hour = period.start.astimezone(UTC).isoformat()
    before = inventory.hours.get(hour)
    noticed = list(before or [])
    for name, (kind, count) in sorted(found.items()):
        known = inventory.things.get(name)
        if known is None and len(inventory.things) >= MOST:
            noticed += [FULL] if FULL not in noticed else []
            continue
        if known is None:
            known = inventory.things[name] = Thing(first=hour)
            noticed.append(f"new: {name}{f' ({kind})' if kind else ''}")
        elif kind and known.kinds and kind not in known.kinds:
            noticed.append(f"changed: {name} is {kind}, was {' or '.join(sorted(known.kinds))}")
        known.kinds |= {kind} if kind else set()
        known.first, known.last = min(known.first, hour), max(known.last, hour)
        if before is None:
            known.days[hour[:10]] = known.days.get(hour[:10], 0) + count
            known.days = dict(sorted(known.days.items())[-2 * OF_DAYS :])
    calm = "nothing new"
    if before is None and (newest == "" or hour < newest):
        taken = f"{len(found):,} names taken into the inventory"
        noticed, calm = [], taken if newest == "" else "older than what is known: taken into the inventory"
    inventory.hours[hour] = noticed
    inventory.hours = dict(sorted(inventory.hours.items())[-HOURS:])
    return _result(period, noticed, len(found), calm)


def vanished(inventory: Inventory, period: Period) -> Result | None:
    """What came regularly and on this day did not, though events of its type did; None where nothing is known of the day."""
    day = period.start.date()
    before = {(day - timedelta(days=number)).isoformat() for number in range(1, OF_DAYS + 1)}
    today = day.isoformat()
    types = {name.removeprefix("event type "): thing for name, thing in inventory.things.items() if name.startswith("event type ")}
    if not any(today in thing.days for thing in types.values()):
        return None
    noticed = []
    for name, thing in sorted(inventory.things.items()):
        if not name.startswith("properties.") or today in thing.days or len(before & thing.days.keys()) < REGULAR_DAYS:
            continue
        event_type = name.rpartition(" of ")[2]
        if types.get(event_type, Thing()).days.get(today, 0) >= ENOUGH and _yesterday(thing, day):
            noticed.append(f"vanished: {name}")
    return _result(period, noticed, len(inventory.things), "nothing vanished")


def read(lake: Lake) -> Inventory:
    """The lake's inventory; raises PermanentError where it is not readable."""
    text = lake.read(KEY)
    try:
        raw = json.loads(text) if text else {"things": {}, "hours": {}}
        things = {name: Thing(set(item["kinds"]), item["first"], item["last"], dict(item["days"])) for name, item in raw["things"].items()}
        return Inventory(things, {hour: list(noticed) for hour, noticed in raw["hours"].items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PermanentError(f"{lake.name(KEY)} is not readable ({error}): remove it, it is made again") from error


def _yesterday(thing: Thing, day: date) -> bool:
    """Whether its last day is that before: on later days its absence is no news."""
    return max(thing.days) == (day - timedelta(days=1)).isoformat()


def _text(inventory: Inventory) -> bytes:
    things = {
        name: {"kinds": sorted(thing.kinds), "first": thing.first, "last": thing.last, "days": thing.days}
        for name, thing in inventory.things.items()
    }
    return (json.dumps({"things": things, "hours": inventory.hours}, ensure_ascii=False, sort_keys=True) + "\n").encode()


def _add(found: dict[str, tuple[str, int]], name: str, kind: str, count: int) -> None:
    before = found.get(name)
    kinds = sorted({*(before[0].split(" or ") if before and before[0] else []), *([kind] if kind else [])})
    found[name] = (" or ".join(kinds), count + (before[1] if before else 0))


def _fields(structure: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and kind of each field; what is null tells no kind and is passed over."""
    if not isinstance(structure, dict):
        return
    for name, kind in structure.items():
        full = f"{path}{name}"
        if isinstance(kind, dict):
            yield from _fields(kind, f"{full}.") if kind else iter([(full, "object")])
        elif isinstance(kind, list):
            yield full, "list"
        elif kind != "NULL":
            yield full, _KINDS.get(kind, "text")


def _cut(name: str) -> str:
    """A name from outside as text for people: printable, short, and without what looks like somebody's id."""
    shown = _ID.sub("*", "".join(character if character.isprintable() else "?" for character in name))
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _result(period: Period, noticed: Iterable[str], rows: int, calm: str) -> Result:
    found = list(noticed)
    more = f" and {len(found) - 10} more" if len(found) > 10 else ""
    return Result(
        SUITE, CHECK, ASSET if period.kind == "hour" else "daily_engagement", period, "drift", Severity.WARNING,
        Status.FAILED if found else Status.PASSED, float(len(found)), "= 0", HINT,
        message=("; ".join(found[:10]) + more) if found else calm, rows=rows, violations=len(found),
    )  # fmt: skip
