"""The rows that suites look at: one period of the published lake as views of the engine, and what they were at that moment.

Raw rows are read through the index, archive included, each record once (R5). Tables are read object by object, each whole (R4).
A view over objects that are not there is empty. Reading raises where an object cannot be read; nothing is judged here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from engagement.lake import Entry
from engagement.model import schemas, units
from engagement.raw.sources import Source
from engagement.tables import arrivals
from engagement.tables.context import TableContext
from engagement.verdicts.result import Period

HOUR_VIEWS = (
    "raw", "log", "facts", "rule", "events", "session_fragments", "user_activity", "sessions", "near_fragments", "near_sessions",
    "hour_rows",
)  # fmt: skip
"""Of an hour. `raw`: every record that came in it; `log`: one row an object or archived range with such records, counts of its
footer; `facts`: one row an object of events, counts of its footer and of the raw footers. `near_sessions`: sessions that a
fragment of the hour may belong to; `near_fragments`: fragments that a session of the hour may have. All others: rows of the hour."""
DAY_VIEWS = ("hour_rows", "day_rows", "user_activity", "rule")
"""Of a day: its hour rows, its day rows, its user facts. Of both, `rule`: whether the rows are of the present model (`strict`)."""
COLUMNS_OF_LOG = ("rows_held", "good", "rejects", "erased", "late", "other_family", "other_key")
COLUMNS_OF_FACTS = ("rows_held", "rows_in", "duplicates", "good_rows")

Sql = str
Maker = Callable[["TableContext", datetime], "View"]


@dataclass(frozen=True, slots=True)
class View:
    """One view: the SELECT that makes it here, and the one that shows the same rows to people; empty where none can."""

    here: Sql
    public: Sql = ""


def views(context: TableContext, period: Period, names: Iterable[str]) -> dict[str, View]:
    """These views of a period; raises KeyError for a name that the period has not. The index must be in step with the lake."""
    makers = _DAY if period.kind == "day" else _HOUR
    return {name: makers[name](context, period.start) for name in names}


def open_views(context: TableContext, period: Period, names: Iterable[str]) -> dict[str, View]:
    """The same, made on the context's connection as temporary views."""
    found = views(context, period, names)
    for name, view in found.items():
        context.con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {view.here}")
    return found


def named_in(sql: Sql, kind: str) -> list[str]:
    """The views of an hour or a day that a suite's rows name."""
    return [name for name in (DAY_VIEWS if kind == "day" else HOUR_VIEWS) if names(sql, name)]


def names(sql: Sql, view: str) -> bool:
    """Whether the SQL names the view."""
    return re.search(rf"\b{view}\b", sql) is not None


def raw_inputs(context: TableContext, period: Period, sources: Iterable[Source] | None = None) -> str:
    """Digest of what came in an hour: the same whether it is archived or not. Empty where nothing came.

    Who asks for many hours gives the index's `sources`, which are read anew otherwise.
    """
    counts: dict[str, list[int]] = {}
    for source in sources if sources is not None else context.index.sources():
        if not _came_in(source, period.start):
            continue
        held = counts.setdefault(source.chain.label, [0, 0])
        held[0] += source.rows
        held[1] += sum(source.rejects.values())
    return _digest(counts)


def table_inputs(context: TableContext, period: Period, stat: Callable[[str], Entry | None] | None = None) -> str:
    """Digest of the versions of a period's own objects, from footers alone. Empty where there is none.

    `stat` asks a listing; the lake where none is given.
    """
    stat = stat or context.lake.stat
    if period.kind == "day":
        entry = stat(units.day_key(period.start.date()))
        hours = context.footers.of(stat(units.hours_key(period.start.date()))).get("hours", {})
        return _digest({"day": entry and entry.version, "hours": _of_hours(hours)} if entry else {})
    versions = {
        entry.key: entry.version
        for table in (units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS)
        for entry in _slots(context, table, period.start, stat)
    }
    # The object of hour rows holds a whole day: it is another version whenever any of its hours is.
    made = context.footers.of(stat(units.hours_key(period.start.date()))).get("hours", {}).get(period.start.isoformat())
    return _digest({"objects": versions, "rows": made} if versions or made else {})


def inputs(context: TableContext, period: Period, asset: str) -> str:
    """Digest of what a suite of this asset judges."""
    return raw_inputs(context, period) if asset == "raw_events" else table_inputs(context, period)


def _of_hours(hours: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {hour: facts.get("inputs") for hour, facts in hours.items()}


def _digest(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16] if found else ""


def _received_in(context: TableContext, hour: datetime) -> list[Source]:
    """Sources with records that came in the hour."""
    return [source for source in context.index.sources() if _came_in(source, hour)]


def _came_in(source: Source, hour: datetime) -> bool:
    first, last = source.first_received_at, source.last_received_at
    return first is not None and last is not None and first < hour + units.HOUR and last >= hour


def _raw(context: TableContext, hour: datetime) -> View:
    sources = _received_in(context, hour)
    within = _between("received_at", hour, hour + units.HOUR)
    if not sources:  # the relation of no object has no binary columns
        return View("SELECT *, CAST(NULL AS BLOB) AS payload, CAST(NULL AS BLOB) AS key FROM " + arrivals.relation(context, []))
    return View(f"SELECT * FROM {arrivals.relation(context, sources)} WHERE {within}")


def _log(context: TableContext, hour: datetime) -> View:
    found = []
    for source in _received_in(context, hour):
        rejects, erased = sum(source.rejects.values()), source.rejects.get("erased", 0)
        noticed = [source.noticed.get(name, 0) for name in ("late", "other_family", "other_key")]
        found.append((source.rows, source.rows - rejects, rejects - erased, erased, *noticed))
    return View(values(COLUMNS_OF_LOG, found))


def _facts(context: TableContext, hour: datetime) -> View:
    good = context.index.good_rows([hour.date()])
    found = []
    for slot in units.slots_of(hour, context.format.slot_minutes):
        facts = context.footers.of(context.lake.stat(units.slot_key(units.EVENTS, slot)))
        if facts or good.get(slot):
            found.append((*(int(facts.get(name, 0)) for name in ("rows", "rows_in", "duplicates")), good.get(slot, 0)))
    return View(values(COLUMNS_OF_FACTS, found))


def _of_hour(table: str, extra: str = "") -> Callable[[TableContext, datetime], View]:
    def made(context: TableContext, hour: datetime) -> View:
        relation = context.relation(_slots(context, table, hour), table, keys=("year", "month", "day", "hour"))
        return View(f"SELECT *{extra} FROM {relation}", f"SELECT * FROM {schemas.NAMES[table]} WHERE {_keys(hour)} AND hour = {hour.hour}")

    return made


def _near_sessions(context: TableContext, hour: datetime) -> View:
    """Sessions start at most on the day before the fragment's (R7)."""
    first = units.floor_day(hour) - units.DAY
    entries = _of_days(context, units.SESSIONS, first, hour + units.HOUR)
    owner = _owner(context, "client_session_ids[1]")
    here = f"SELECT user_id, started_at, ended_at, {owner} AS owner FROM {context.relation(entries, units.SESSIONS)}"
    public = f"SELECT *, {owner} AS owner FROM sessions WHERE {_between('started_at', first, hour + units.HOUR)}"
    return View(here, public)


def _near_fragments(context: TableContext, hour: datetime) -> View:
    """Sessions end at most on the day after their start (R7)."""
    end = units.floor_day(hour) + 2 * units.DAY
    entries = _of_days(context, units.FRAGMENTS, hour, end)
    owner = _owner(context, "client_id")
    here = f"SELECT user_id, started_at, ended_at, event_count, {owner} AS owner FROM {context.relation(entries, units.FRAGMENTS)}"
    public = f"SELECT *, {owner} AS owner FROM session_fragments WHERE {_between('started_at', hour, end)}"
    return View(here, public)


def _hour_rows(context: TableContext, hour: datetime) -> View:
    relation = context.relation([context.lake.stat(units.hours_key(hour.date()))], units.BIG_TABLE)
    public = f"SELECT * FROM {schemas.NAMES[units.BIG_TABLE]} WHERE {_keys(hour)} AND hour = {hour.hour}"
    return View(f"SELECT * FROM {relation} WHERE hour = {hour.hour}", public)


def _rule(facts_of: Callable[[TableContext, datetime], Mapping[str, Any]]) -> Maker:
    def made(context: TableContext, start: datetime) -> View:
        return View(rule(strict=facts_of(context, start).get("model") == context.model.digest))

    return made


def rule(*, strict: bool) -> Sql:
    """The view `rule`: whether rows must be cut by every dimension of the present model."""
    return f"SELECT {str(strict).lower()} AS strict"


def _facts_of_hour(context: TableContext, hour: datetime) -> Mapping[str, Any]:
    of_day = context.footers.of(context.lake.stat(units.hours_key(hour.date())))
    found: Mapping[str, Any] = of_day.get("hours", {}).get(hour.isoformat(), {})
    return found


def _facts_of_day(context: TableContext, midnight: datetime) -> Mapping[str, Any]:
    return context.footers.of(context.lake.stat(units.day_key(midnight.date())))


def _rows_of_day(which: str, key: Callable[[date], str]) -> Callable[[TableContext, datetime], View]:
    def made(context: TableContext, midnight: datetime) -> View:
        relation = context.relation([context.lake.stat(key(midnight.date()))], units.BIG_TABLE)
        public = f"SELECT * FROM {schemas.NAMES[units.BIG_TABLE]} WHERE {_keys(midnight)} AND hour IS {which}NULL"
        return View(f"SELECT * FROM {relation}", public)

    return made


def _activity_of_day(context: TableContext, midnight: datetime) -> View:
    entries = _of_days(context, units.ACTIVITY, midnight, midnight + units.DAY)
    public = f"SELECT * FROM {schemas.NAMES[units.ACTIVITY]} WHERE {_keys(midnight)}"
    return View(f"SELECT * FROM {context.relation(entries, units.ACTIVITY)}", public)


_HOUR: Mapping[str, Maker] = {
    "raw": _raw,
    "log": _log,
    "facts": _facts,
    "rule": _rule(_facts_of_hour),
    "events": _of_hour(units.EVENTS),
    "session_fragments": _of_hour(units.FRAGMENTS),
    "user_activity": _of_hour(units.ACTIVITY),
    "sessions": _of_hour(units.SESSIONS),
    "near_fragments": _near_fragments,
    "near_sessions": _near_sessions,
    "hour_rows": _hour_rows,
}
_DAY: Mapping[str, Maker] = {
    "hour_rows": _rows_of_day("NOT ", units.hours_key),
    "day_rows": _rows_of_day("", units.day_key),
    "user_activity": _activity_of_day,
    "rule": _rule(_facts_of_day),
}


def _slots(context: TableContext, table: str, hour: datetime, stat: Callable[[str], Entry | None] | None = None) -> list[Entry]:
    stat = stat or context.lake.stat
    keys = (units.slot_key(table, slot) for slot in units.slots_of(hour, context.format.slot_minutes))
    return [entry for key in keys if (entry := stat(key))]


def _of_days(context: TableContext, table: str, start: datetime, end: datetime) -> list[Entry]:
    """Slot objects from start up to end, by one listing a day."""
    days = range((units.floor_day(end - units.HOUR) - units.floor_day(start)).days + 1)
    folders = (f"{table}/year={day:%Y}/month={day:%m}/day={day:%d}" for day in (units.floor_day(start) + n * units.DAY for n in days))
    entries = [entry for folder in folders for entry in context.lake.list(folder) if units.is_key(entry.key)]
    return [entry for entry in entries if start <= units.slot_of_key(entry.key) < end]


def _owner(context: TableContext, client_id: str) -> Sql:
    """Whose gaps count (design §2): the user, in client mode the user and the client session id."""
    return f"user_id || chr(31) || coalesce({client_id}, '')" if context.format.session_mode == "client" else "user_id"


def values(names: Sequence[str], rows: Sequence[Sequence[int]]) -> Sql:
    """Rows of whole numbers as a SELECT; typed and empty where there are none."""
    columns = ", ".join(f"CAST({name} AS BIGINT) AS {name}" for name in names)
    values = ", ".join(f"({', '.join(str(int(value)) for value in row)})" for row in rows or [[0] * len(names)])
    return f"SELECT {columns} FROM (VALUES {values}) AS v({', '.join(names)}){'' if rows else ' WHERE false'}"


def _between(column: str, start: datetime, end: datetime) -> Sql:
    first, last = (instant.astimezone(UTC).isoformat() for instant in (start, end))
    return f"{column} >= TIMESTAMPTZ '{first}' AND {column} < TIMESTAMPTZ '{last}'"


def _keys(instant: datetime) -> Sql:
    return f"year = {instant.year} AND month = {instant.month} AND day = {instant.day}"
