"""`engagement backfill`: days made again from the raw log, by the Dagster daemon where one lives, else in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from engagement import priority
from engagement import settings as settings_module
from engagement.cli.tables import Flag, quiet_dagster
from engagement.errors import PermanentError, TransientError, UsageError

if TYPE_CHECKING:
    from dagster import DagsterInstance

    from engagement.settings import Settings
    from sensors.backfills import Backfill
    from sensors.chunks import Chunk

LOOK_SECONDS = 1.0
ASSUMED_SPEED = 100_000.0
"""Rows a second of a dry run's estimate, where no backfill has run here yet."""
LISTED_FAILURES = 5


def backfill(
    *,
    from_: Annotated[str, Parameter(name="--from")],
    to: str,
    assets: str | None = None,
    resume: Annotated[bool, Flag] = False,
    detach: Annotated[bool, Flag] = False,
    here: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    verbose: Annotated[bool, Flag] = False,
) -> None:
    """Rebuild UTC days (both included) from the raw log alone, then refresh what that changed elsewhere.

    Where the Dagster daemon of the state folder lives, it does the runs, one at a time in a lane of their own, and this command
    shows how far they are: Ctrl-C asks for no more of them, and a command that is killed changes nothing. Else the runs are
    done in this process and recorded in the same instance. Both yield to the live path.

    For example:

        engagement backfill --from 2026-11-01 --to 2026-11-07 --dry-run
        engagement backfill --from 2026-11-01 --to 2026-11-07
        engagement backfill --from 2026-11-01 --to 2026-11-07 --resume
        engagement backfill --from 2026-11-01 --to 2026-11-01 --assets sessions,hourly_engagement

    Parameters
    ----------
    from_
        First day, YYYY-MM-DD.
    to
        Last day, YYYY-MM-DD.
    assets
        Comma-separated assets to rebuild; all of them if left out.
    resume
        Leave out what the same command had done before it was stopped, was killed or failed.
    detach
        Ask the daemon and return at once.
    here
        Do it in this process, though a daemon lives.
    dry_run
        Only list the runs it would do, with raw rows and the time they would take.
    verbose
        Show Dagster's own log.
    """
    if detach and here:
        raise UsageError("backfill --detach --here: this process cannot go on when it has ended")
    settings = settings_module.load()
    now = datetime.now(UTC)
    first, last = _days(settings, from_, to, now)
    quiet_dagster(verbose)
    from engagement_assets import local_runs
    from sensors import backfills

    chosen = _assets(assets)
    with local_runs.local_instance(settings) as instance:
        wanted = backfills.Backfill(first, last, tuple(chosen) if chosen else None, now, now)
        if resume:
            wanted = backfills.resumed(instance, wanted)
        found = backfills.standing(instance, wanted)
        if dry_run:
            _tell_cost(settings, instance, found.left, chosen)
        elif not here and backfills.is_served(instance, now):
            _asked(instance, wanted, detach=detach)
        elif detach:
            raise PermanentError("backfill --detach: no Dagster daemon of this state folder lives; leave --detach out to do it here")
        else:
            _done_here(settings, instance, wanted, verbose)


def _asked(instance: DagsterInstance, wanted: Backfill, *, detach: bool) -> None:
    """Ask the daemon, and show how far it is until it is over; raises PermanentError where chunks failed."""
    from sensors import backfills

    backfills.ask(instance, wanted)
    if detach:
        print(f"asked the Dagster daemon for {len(backfills.standing(instance, wanted).left)} runs")
        return
    with _progress(wanted) as progress:
        try:
            while True:
                found = backfills.standing(instance, wanted)
                progress(found, found.under_way[0] if found.under_way else None)
                if found.over:
                    break
                if not backfills.is_served(instance, datetime.now(UTC)):
                    raise TransientError("the Dagster daemon has gone: the backfill goes on when it is back; --here --resume does it now")
                time.sleep(LOOK_SECONDS)
        except KeyboardInterrupt:
            backfills.withdraw(instance, wanted)
            raise
    _tell_end(found, "in Dagster's queue; what it changed elsewhere is refreshed there")


def _done_here(settings: Settings, instance: DagsterInstance, wanted: Backfill, verbose: bool) -> None:
    """The same in this process; a chunk that fails stops no other."""
    from engagement_assets import local_runs
    from sensors import backfills

    priority.give_way(settings.background_nice)  # and one engine thread, unless the settings say how many
    if "threads" not in settings.sources:
        settings = replace(settings, threads=1, sources={**settings.sources, "threads": "backfill"})
    runs = local_runs.LocalRuns(settings, instance, verbose=verbose)
    why: list[str] = []
    with _progress(wanted) as progress:
        for chunk in backfills.standing(instance, wanted).left:
            progress(backfills.standing(instance, wanted), chunk)
            try:
                runs.run(chunk, lane=backfills.LANE, rebuild=True, assets=chunk.assets(wanted.assets), more_tags=wanted.tags)
            except local_runs.RunFailed as error:
                why.append(str(error))
        found = backfills.standing(instance, wanted)
        progress(found, "what it changed elsewhere")
        for _ in runs.refresh():
            pass
    _tell_end(found, "in this process", why)


def _tell_end(found: Any, where: str, why: Sequence[str] = ()) -> None:
    if missing := [*found.failed, *found.left]:
        named = "; ".join(why[:LISTED_FAILURES] or [str(chunk) for chunk in missing[:LISTED_FAILURES]])
        more = f" and {len(missing) - LISTED_FAILURES} more" if len(missing) > LISTED_FAILURES else ""
        msg = f"{len(missing)} runs of the backfill failed, the others are done; --resume tries them again: {named}{more}"
        raise PermanentError(msg)
    print(f"rebuilt {sum(chunk.units for chunk in found.done)} units {where}")


@contextmanager
def _progress(wanted: Backfill) -> Iterator[Any]:
    """A bar over the backfill's units; give it how far it is, and what is being done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("backfill {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    )
    with bar:
        task = bar.add_task("", total=sum(chunk.units for chunk in wanted.chunks()))

        def told(found: Any, doing: Chunk | str | None) -> None:
            ended = sum(chunk.units for chunk in (*found.done, *found.failed))
            failed = f", {len(found.failed)} failed" if found.failed else ""
            bar.update(task, completed=ended, description=f"{doing or 'waits for its turn'}{failed}")

        yield told


def _tell_cost(settings: Settings, instance: DagsterInstance, left: Sequence[Chunk], chosen: list[str] | None) -> None:
    """Each run with the raw rows it would read, and how long all would take."""
    rows = _raw_rows(settings, left)
    for chunk in left:
        kind, of = ("days ", "day rows from tables") if chunk.days else ("hours", f"{rows[chunk]:,} raw rows")
        print(f"{kind} {chunk}  {', '.join(chunk.assets(chosen) or ['all assets'])}  {of}")
    speed = _speed(instance, settings)
    total = sum(rows.values())
    seconds = timedelta(seconds=round(total / (speed or ASSUMED_SPEED)))
    known = "as the last backfill here" if speed else "assumed: none has run here yet"
    print(f"{len(left)} runs, {total:,} raw rows: about {seconds} at {speed or ASSUMED_SPEED:,.0f} rows/s ({known})")


def _raw_rows(settings: Settings, wanted: Sequence[Chunk]) -> dict[Chunk, int]:
    """Raw rows of the chunks of hours."""
    from engagement.model import units
    from engagement.tables.context import open_tables

    with open_tables(settings) as context:
        context.index.sync()
        slots = context.index.good_rows({hour.date() for chunk in wanted for hour in chunk.hours()})
    found: dict[Chunk, int] = {}
    for chunk in wanted:
        if not chunk.days:
            end = chunk.last + units.HOUR
            found[chunk] = sum(rows for slot, rows in slots.items() if chunk.first <= slot < end)
    return found


def _speed(instance: DagsterInstance, settings: Settings) -> float | None:
    """Raw rows a second of the last whole rebuild of hours; None where there was none."""
    from dagster import DagsterRunStatus, RunsFilter

    from resources import tags
    from resources.names import HOURS_JOB
    from sensors import chunks

    wanted = RunsFilter(job_name=HOURS_JOB, tags={tags.REBUILD: "true"}, statuses=[DagsterRunStatus.SUCCESS])
    for record in instance.get_run_records(wanted, limit=1):
        chunk = chunks.of_tags(record.dagster_run.tags)
        if chunk and record.start_time and record.end_time:
            rows = _raw_rows(settings, [chunk])[chunk]
            return rows / (record.end_time - record.start_time) if rows else None
    return None


def _days(settings: Settings, from_: str, to: str, now: datetime) -> tuple[datetime, datetime]:
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
    from resources.names import DAILY_ASSETS, HOURLY_ASSETS

    if text is None:
        return None
    valid = [*HOURLY_ASSETS, *DAILY_ASSETS]
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in valid]
    if unknown or not chosen:
        raise UsageError(f"backfill --assets: unknown {', '.join(unknown) or 'nothing'}; valid are {', '.join(valid)}")
    return chosen
