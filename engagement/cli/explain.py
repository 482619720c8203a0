"""The command `explain`: where a number comes from, down to raw offsets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import PermanentError, UsageError


def explain(
    table: str,
    *,
    hour: str | None = None,
    day: str | None = None,
    column: str | None = None,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> None:
    """Tell where the rows of an hour or a day come from: the columns behind a column, the objects behind an object, offsets of the log.

    For example:

        engagement explain daily_aggregates_with_dimensions --hour 2026-11-01T10:00 --column bounce_rate
        engagement explain sessions --hour 2026-11-01T10:00 --json

    Parameters
    ----------
    table
        Name of a table, as `engagement tables` lists them.
    hour
        A UTC hour, YYYY-MM-DDTHH:00.
    day
        A UTC day, YYYY-MM-DD: the day rows of daily_aggregates_with_dimensions.
    column
        Also tell what this column is made from, step by step.
    json_
        One JSON object: columns and units.
    """
    from engagement.lake import require_lake
    from engagement.model import schemas
    from engagement.tables import lineage, provenance
    from engagement.tables.context import open_tables

    folders = {name: folder for folder, name in schemas.NAMES.items() if folder in lineage.INPUTS}
    if table not in folders:
        raise UsageError(f"explain {table}: no such table; they are {', '.join(folders)}")
    start = _start(hour, day, table)
    settings = settings_module.load()
    require_lake(settings)
    with open_tables(settings) as opened:
        columns = schemas.columns(folders[table], opened.model)
        if column is not None and column not in columns:
            raise UsageError(f"explain {table} --column {column}: its columns are {', '.join(columns)}")
        steps = list(_steps(folders[table], column, opened.model)) if column else []
        opened.index.sync()
        found = provenance.of(opened, folders[table], start, daily=hour is None)
    if found[0].missing:
        raise PermanentError(f"{found[0].key}: nothing was made of {hour or day} yet; `engagement status` shows what waits")
    if json_:
        names = {folder: name for name, folder in folders.items()}
        print(json.dumps({"columns": steps, "units": [{**asdict(unit), "table": names[unit.table]} for unit in found]}))
        return
    for step in steps:
        print(f"{step['table']}.{step['column']}  <-  {', '.join(step['from']) or 'a count of rows'}")
    if steps:
        print()
    for unit in found:
        made = ", ".join(f"{name} {value}" for name, value in unit.made_by.items())
        outdated = f"; OUTDATED: {','.join(unit.outdated)}" if unit.outdated else ""
        print(f"{unit.key}  {unit.rows:,} rows; {made}{outdated}")
        for chain, end in sorted(unit.offsets.items()):
            print(f"    {chain} up to offset {end}")
        for line in unit.raw:
            print(f"    <- {line}")


def _steps(table: str, column: str, model: Any) -> Iterator[dict[str, Any]]:
    """Each column on the way to raw, once, with what it is made from."""
    from engagement.model import schemas
    from engagement.tables import lineage

    queue, seen = [(table, column)], set()
    while queue:
        where = queue.pop(0)
        if where in seen or where[0] not in lineage.INPUTS:
            continue
        seen.add(where)
        behind = lineage.columns(where[0], model)[where[1]]
        yield {
            "table": schemas.NAMES[where[0]],
            "column": where[1],
            "from": [f"{schemas.NAMES.get(source, source)}.{name}" for source, name in behind],
        }
        queue += behind


def _start(hour: str | None, day: str | None, table: str) -> datetime:
    if (hour is None) == (day is None):
        raise UsageError("explain: give either --hour or --day")
    text = hour or day or ""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"explain {text}: expected {'an hour as YYYY-MM-DDTHH:00' if hour else 'a day as YYYY-MM-DD'}") from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if found != found.replace(minute=0, second=0, microsecond=0) or (day and found.hour):
        raise UsageError(f"explain {text}: not the start of {'an hour' if hour else 'a day'}")
    if day and table != "daily_aggregates_with_dimensions":
        raise UsageError(f"explain {table} --day: only daily_aggregates_with_dimensions has day rows; give --hour")
    return found
