"""Commands that tell what the declared model makes of the tables: `sql` and `tables`."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError


def sql(table: str) -> None:
    """Print the SQL that makes a table, as it runs: with the declared metrics, dimensions and columns in their places.

    For example:

        engagement sql daily_aggregates_with_dimensions

    Parameters
    ----------
    table
        Name of a table, as `engagement tables` lists them.
    """
    from engagement.model import declared, schemas
    from engagement.tables import engine

    folders = {name: folder for folder, name in schemas.NAMES.items() if folder in engine.FILES}
    if table not in folders:
        raise UsageError(f"sql {table}: no such table; they are {', '.join(folders)}")
    print(engine.sql(engine.FILES[folders[table]], declared.load(settings_module.load())), end="")


def tables(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List every column of every table with its type and meaning, declared ones too.

    For example:

        engagement tables
        engagement tables --json

    Parameters
    ----------
    json_
        One JSON object a line: table, column, type, comment.
    """
    from engagement.model import declared, schemas

    rows = schemas.described(declared.load(settings_module.load()))
    if json_:
        print("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        return
    width, kinds = max(len(row["column"]) for row in rows), max(len(row["type"]) for row in rows)
    shown = ""
    for row in rows:
        if row["table"] != shown:
            print(f"{chr(10) if shown else ''}{row['table']}")
        shown = row["table"]
        print(f"  {row['column']:<{width}}  {row['type']:<{kinds}}  {row['comment']}")
