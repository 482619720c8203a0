"""Commands over the tables: `refresh`, `backfill`, `query`, `status`."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import PermanentError, UsageError

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
    _quiet_dagster(verbose)
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


def backfill(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    to: str,
    assets: str | None = None,
    resume: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    verbose: Annotated[bool, Flag] = False,
) -> None:
    """Rebuild UTC days (both included) from the raw log alone, then refresh what that changed elsewhere.

    For example:

        engagement backfill --from 2026-11-01 --to 2026-11-07
        engagement backfill --from 2026-11-01 --to 2026-11-07 --resume
        engagement backfill --from 2026-11-01 --to 2026-11-01 --assets sessions,hourly_engagement --dry-run

    Parameters
    ----------
    from_
        First day, YYYY-MM-DD.
    to
        Last day, YYYY-MM-DD.
    assets
        Comma-separated assets to rebuild; all of them if left out.
    resume
        Leave out what the same command had done before it was killed or failed.
    dry_run
        Only list the runs it would do.
    verbose
        Show Dagster's own log.
    """
    settings = settings_module.load()
    now = datetime.now(UTC)
    first, last = _days(settings, from_, to, now)
    _quiet_dagster(verbose)
    from engagement_assets import local_runs

    chosen = _assets(assets)
    progress = _Progress(settings.state_dir / "backfills" / f"{from_}_{to}_{'+'.join(chosen or ['all'])}.txt")
    chunks = local_runs.backfill_chunks(first, last, chosen, now)
    if resume:
        chunks = [chunk for chunk in chunks if not progress.has(chunk)]
    if dry_run:
        for chunk in chunks:
            print(f"{'days ' if chunk.days else 'hours'} {chunk}  {', '.join(local_runs.assets_of(chunk, chosen) or ['all assets'])}")
        return
    if not resume:
        progress.forget()
    _backfill(settings, chunks, chosen, progress, verbose)
    progress.forget()


class _Progress:
    """Chunks that a backfill has done, one a line; the file is there as long as the backfill has not come to its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._done = set(path.read_text().splitlines()) if path.exists() else set()

    def has(self, chunk: Any) -> bool:
        return self._line(chunk) in self._done

    def add(self, chunk: Any) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(f"{self._line(chunk)}\n")

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)

    @staticmethod
    def _line(chunk: Any) -> str:
        return f"{'days' if chunk.days else 'hours'} {chunk}"


def _backfill(settings: settings_module.Settings, chunks: list[Any], chosen: list[str] | None, progress: _Progress, verbose: bool) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from engagement_assets import local_runs

    os.nice(10)  # history yields to the live path: lower priority, and one engine thread unless the settings say how many
    if "threads" not in settings.sources:
        settings = replace(settings, threads=1, sources={**settings.sources, "threads": "backfill"})
    total = sum(chunk.units for chunk in chunks)
    bar = Progress(
        TextColumn("backfill {task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )  # fmt: skip
    with local_runs.local_instance(settings) as instance, bar:
        runs = local_runs.LocalRuns(settings, instance, verbose=verbose)
        task = bar.add_task("", total=total, speed="")
        rows, began = 0, datetime.now(UTC)
        for chunk in chunks:
            bar.update(task, description=str(chunk))
            result = runs.run(chunk, lane="backfill", rebuild=True, assets=local_runs.assets_of(chunk, chosen))
            progress.add(chunk)
            rows += _rows(result)
            seconds = (datetime.now(UTC) - began).total_seconds()
            bar.update(task, advance=chunk.units, speed=f"{rows / seconds:,.0f} rows/s")
        bar.update(task, description="what it changed elsewhere")
        for _ in runs.refresh():
            pass
    print(f"rebuilt {total} units, {rows} rows")


def _rows(result: Any) -> int:
    materialized = [
        event.event_specific_data.materialization for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION"
    ]
    counts = [materialization.metadata.get("dagster/partition_row_count") for materialization in materialized]
    return sum(count.value for count in counts if count)


def _days(settings: settings_module.Settings, from_: str, to: str, now: datetime) -> tuple[datetime, datetime]:
    days = []
    for name, text in (("--from", from_), ("--to", to)):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise UsageError(f"backfill {name} {text}: expected a day as YYYY-MM-DD") from None
        days.append(datetime(day.year, day.month, day.day, tzinfo=UTC))
    first, last = days
    if first > last:
        raise UsageError(f"backfill --from {from_} is after --to {to}")
    if last.date() > now.date():
        raise UsageError(f"backfill --to {to} is in the future; the last valid day is {now.date()}")
    from engagement.lake import open_lake
    from engagement.tables import finality

    lake, lake_format = open_lake(settings)
    start = lake_format.history_start
    if first.date() < start:
        raise UsageError(f"backfill --from {from_} is before the history start; the first valid day is {start}")
    open_from = finality.read(lake).first_open_day(now)
    if open_from is not None and first.date() < open_from:
        raise UsageError(
            f"backfill --from {from_}: days before {open_from} are final, retention took what they were made from; "
            f"the first valid day is {open_from}"
        )
    return first, last


def _assets(text: str | None) -> list[str] | None:
    from engagement_assets.jobs import DAILY_ASSETS, HOURLY_ASSETS

    if text is None:
        return None
    valid = [*HOURLY_ASSETS, *DAILY_ASSETS]
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in valid]
    if unknown or not chosen:
        raise UsageError(f"backfill --assets: unknown {', '.join(unknown) or 'nothing'}; valid are {', '.join(valid)}")
    return chosen


def _quiet_dagster(verbose: bool) -> None:
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
