"""What waits, for whoever asks every few seconds: answers are kept day by day, and a look lists what may have changed.

The same question as `waits`, answered from the lake too, but at the cost of what is new and not of what there is. A day's
answer hangs on its own objects, on the fragments of its neighbours (R7) and on its raw records, so it is computed again
when a look finds one of them changed. A look lists:
raw as the index does (`raw.looking`); the hour and day rows of the last days, and from the first day on that waits; of
each day whose rows changed the objects of the other tables; and at every second turn one page of a month of one table, so that
what others did to old days, or left half done, is seen within a round. Whoever needs the answer of this very moment
(a command, a check) asks `waits`. What a look does not see yet only waits longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from engagement.lake import Entry
from engagement.lake.together import together
from engagement.model import units
from engagement.raw.looking import page, up_to
from engagement.tables.context import TableContext
from engagement.tables.known import Known
from engagement.tables.objects import CODE_VERSION
from engagement.waiting import waits

LIVE_DAYS = 2
"""Days before today whose rows every look lists."""
DAYS_A_LOOK = 2
"""Days that wait for something else than raw rows and are looked at whole in a look, in turns."""


def compute(context: TableContext, now: datetime | None = None) -> waits.Waiting:
    """What waits, as `waits.compute`; the first time under a model it looks at everything."""
    now, known, model = now or datetime.now(UTC), context.known, f"{context.model.digest} {CODE_VERSION}"
    if known is None:
        return waits.compute(context, now)
    seen, final = known.seen_change(model), waits.first_open(context.lake, now)
    context.index.sync(recent=seen is not None)
    change = context.index.last_change()
    if seen is None:
        _everything(context, known, model, change)
    else:
        _changes(context, known, model, (now, final[0]), seen, change)
    hours, days = _kept(known, model)
    return waits.open_only(waits.Waiting(hours, days), *final)


def _everything(context: TableContext, known: Known, model: str, change: int) -> None:
    listing = {table: context.footers.listing(table) for table in waits.TABLES}
    answer = waits.of(context, listing, context.index.touched(), context.index.good_rows())
    with known.writing():
        known.forget_objects()
        known.keep_objects((entry for found in listing.values() for entry in found.values()), ())
        known.keep_answers(model, None, _by_day(*answer))
        known.keep_seen_change(model, change)


def _changes(context: TableContext, known: Known, model: str, when: tuple[datetime, date | None], seen: int, change: int) -> None:
    """`when` is the time and the first open day: what a final day lacks is kept as an answer, and nothing is looked at for it."""
    now, first_open = when
    waiting = {day: answer for day, answer in known.answers(model) if first_open is None or day >= first_open.isoformat()}
    raw = context.index.changed_since(seen)
    turn = context.index.turn
    first = min([(now - timedelta(days=LIVE_DAYS)).date().isoformat(), *waiting])
    looks: list[_Folder] = [(units.BIG_TABLE, _day_folder(units.BIG_TABLE, date.fromisoformat(first)), None)]
    if turn % 2 and (months := known.months()):
        rounds, place = divmod(turn // 2, len(months))
        looks.append((months[place], *page(list(known.objects(months[place])), rounds)))
    found = _Found()
    found.look(context, known, looks)
    unclear = [day for day, answer in waiting.items() if answer["day"] or set(answer["hours"].values()) - {"raw"}]
    chosen = {unclear[(turn + number) % len(unclear)] for number in range(min(DAYS_A_LOOK, len(unclear)))}
    whole = found.days | {date.fromisoformat(day) for day in chosen}
    found.look(context, known, [(_day_folder(table, day), None, None) for day in sorted(whole) for table in waits.TABLES[1:]])
    dirty = sorted(raw | {day + timedelta(days=number) for day in found.days for number in (-1, 0, 1)})
    if not dirty and not found.changed and not found.gone:
        return
    with known.writing():
        known.keep_objects(found.changed, found.gone)
        known.keep_months(dirty, waits.TABLES)
    answers = {}
    if dirty:
        answer = waits.of(context, _listing(known, dirty), context.index.touched(dirty), context.index.good_rows(dirty))
        answers = {day: found for day, found in _by_day(*answer).items() if date.fromisoformat(day) in set(dirty)}
    with known.writing():
        known.keep_answers(model, [day.isoformat() for day in dirty], answers)
        known.keep_seen_change(model, change)


_Folder = tuple[str, str | None, str | None]
"""A folder, and which of its keys: those behind the first one, up to the second."""


class _Found:
    """What listings show that differs from what was known."""

    def __init__(self) -> None:
        self.changed: list[Entry] = []
        self.gone: list[str] = []

    @property
    def days(self) -> set[date]:
        return {units.day_of_key(key) for key in (*(entry.key for entry in self.changed), *self.gone)}

    def look(self, context: TableContext, known: Known, looks: Sequence[_Folder]) -> None:
        """List each and compare."""

        def listed_by(look: _Folder) -> dict[str, Entry]:
            folder, after, until = look
            return {entry.key: entry for entry in up_to(context.lake.list(folder, after), until) if units.is_key(entry.key)}

        listed = together(context.lake, listed_by, looks)
        for look, found in zip(looks, listed, strict=True):
            before = known.objects(*look)
            self.changed += [entry for key, entry in found.items() if before.get(key) != entry]
            self.gone += [key for key in before if key not in found]


def _listing(known: Known, days: Iterable[date]) -> dict[str, dict[str, Entry]]:
    """The known objects of these days by table, and the fragments of their neighbours."""
    own = set(days)
    reach = {day + timedelta(days=number) for day in own for number in (-1, 0, 1)}
    return {
        table: {
            key: entry
            for day in sorted(reach if table == units.FRAGMENTS else own)
            for key, entry in known.objects(_day_folder(table, day)).items()
        }
        for table in waits.TABLES
    }


def _kept(known: Known, model: str) -> tuple[dict[datetime, str], dict[date, str]]:
    hours: dict[datetime, str] = {}
    days: dict[date, str] = {}
    for day, answer in known.answers(model):
        hours |= {datetime.fromisoformat(hour): why for hour, why in answer["hours"].items()}
        if answer["day"]:
            days[date.fromisoformat(day)] = answer["day"]
    return hours, days


def _by_day(hours: Mapping[datetime, str], days: Mapping[date, str]) -> dict[str, Any]:
    """UTC day -> its answer as JSON value, where it is not empty."""
    answers: dict[str, Any] = {}
    for hour, why in hours.items():
        answers.setdefault(hour.date().isoformat(), {"hours": {}, "day": None})["hours"][hour.isoformat()] = why
    for day, why in days.items():
        answers.setdefault(day.isoformat(), {"hours": {}, "day": None})["day"] = why
    return answers


def _day_folder(table: str, day: date) -> str:
    return f"{table}/year={day:%Y}/month={day:%m}/day={day:%d}"
