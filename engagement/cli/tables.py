"""Commands over the tables: `refresh`, `query`, `status`."""

from __future__ import annotations

import csv
import json
import logging
import sys
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import PermanentError

Flag = Parameter(negative="")


def refresh(*, verbose: Annotated[bool, Flag] = False) -> None:
    """Do now, in this process, what the sensors would ask for, until nothing waits; for cron and CI.

    Runs are recorded in the Dagster instance of the state folder; no daemon is needed.

    For example:

        engagement refresh

    Parameters
    ----------
    verbose
        Show Dagster's own log.
    """
    from rich.console import Console

    settings = settings_module.load()
    quiet_dagster(verbose)
    from engagement_assets.local_runs import LocalRuns, local_instance

    console = Console(stderr=True)
    hours = days = 0
    with local_instance(settings) as instance, console.status("refresh: looking for what waits") as line:
        runs = LocalRuns(settings, instance, verbose=verbose)
        for chunk in runs.refresh():
            console.print(f"refresh: {'day rows' if chunk.days else 'hours'} {chunk}", highlight=False)
            line.update("refresh: looking for what waits")
            hours, days = hours + (0 if chunk.days else chunk.units), days + (chunk.units if chunk.days else 0)
    _tell_unreadable(settings)
    print(f"refreshed {hours} hours and {days} days; nothing waits")


def _tell_unreadable(settings: settings_module.Settings) -> None:
    """Name raw objects that no table can have been made from (R11)."""
    from engagement.lake import open_lake
    from engagement.raw.index import RawIndex

    index = RawIndex(open_lake(settings)[0], settings.state_dir)
    for item in index.unreadable():
        print(f"engagement: {item.key} {item.why}; its records are in no table", file=sys.stderr)
    index.close()


def quiet_dagster(verbose: bool) -> None:
    """Its notices about features in beta say nothing to who runs a command."""
    import warnings

    from dagster import BetaWarning, PreviewWarning

    if not verbose:
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        for category in (BetaWarning, PreviewWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)


def query(
    sql: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    format_: Annotated[Literal["table", "csv", "json"], Parameter(name="--format")] = "table",
) -> None:
    """Run one SELECT over the tables: events, session_fragments, user_activity, sessions, daily_aggregates_with_dimensions.

    For example:

        engagement query "SELECT hour, active_users FROM daily_aggregates_with_dimensions WHERE country = 'DE' LIMIT 5"
        engagement query "SELECT count(*) AS n FROM events" --format json

    Parameters
    ----------
    sql
        One statement of type SELECT; nothing can be written through it.
    format_
        A table for people, CSV, or pure JSON (a list of objects).
    """
    import duckdb

    from engagement.lake import require_lake
    from engagement.tables import views

    settings = settings_module.load()
    require_lake(settings)
    with views.open_views(settings, views.tables_of(sql)) as con:
        try:
            result = con.execute(views.require_select(con, sql))
            names = [column[0] for column in result.description or []]
            rows = result.fetchall()
        except (duckdb.Error, views.NotUnderstood) as error:
            raise PermanentError(f"{str(error).strip()}\nTables: {', '.join(views.VIEWS)}") from error
    _print_rows(names, rows, format_)


def _print_rows(names: list[str], rows: list[Any], format_: str) -> None:
    if format_ == "json":
        print(json.dumps([_json_value(dict(zip(names, row, strict=True))) for row in rows], ensure_ascii=False, allow_nan=False))
    elif format_ == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(names)
        writer.writerows([[_plain(value) for value in row] for row in rows])
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(*names)
        for row in rows:
            table.add_row(*("" if value is None else str(_plain(value)) for value in row))
        Console(width=None if sys.stdout.isatty() else 240).print(table)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, (datetime, date)) else value


def _json_value(value: Any) -> Any:
    """A value that JSON has: no NaN, no infinity, no Decimal; times in ISO 8601."""
    import math
    from decimal import Decimal

    if isinstance(value, dict):
        return {str(name): _json_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(item) for item in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def status(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Show per asset the newest data, its age, rows and last run; the lag; rejects; whether the raw log is whole; what waits.

    For example:

        engagement status
        engagement status --json

    Parameters
    ----------
    json_
        One JSON object instead of the tables.
    """
    from engagement.cli import status as report
    from engagement.cli import status_table
    from engagement.lake import require_lake

    settings = settings_module.load()
    require_lake(settings)
    found = report.collect(settings, datetime.now(UTC))
    if json_:
        print(json.dumps(found, default=str))
    else:
        status_table.show(found)
