"""`engagement check`: the suites over the lake, or over a sample of events, for people and for CI."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import PermanentError, UsageError

if TYPE_CHECKING:
    from engagement.settings import Settings
    from engagement.tables.context import TableContext
    from engagement.verdicts.result import Period, Result

Flag = Parameter(negative="")
NEWEST_HOURS = 3
MARKS = {"passed": "ok", "failed": "FAILED", "empty": "-", "broken": "BROKEN"}


def check(
    *,
    hour: str | None = None,
    day: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    suite: Literal["all", "deequ", "duckdb", "gates"] = "all",
    sample: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative="")] = None,
    junit: Path | None = None,
    record: Annotated[bool, Flag] = False,
    strict: Annotated[bool, Flag] = False,
    release: str | None = None,
    yes: Annotated[bool, Flag] = False,
    json_: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Check quality: every constraint of every suite on hours and days, one line each. Without a period: the newest hours and day.

    Exit code 1: a constraint of severity error failed, a check could not be carried out, or there was nothing to look at.
    Warnings are told and never fail.

    For example:

        engagement check
        engagement check --hour 2026-11-24T13 --suite duckdb
        engagement check --from 2026-11-01 --to 2026-11-07 --json
        engagement check --sample events.jsonl --strict --junit report.xml
        engagement check --release events/2026-11-24-13:00

    Parameters
    ----------
    hour
        One UTC hour, YYYY-MM-DDTHH.
    day
        One UTC day with its hours, YYYY-MM-DD.
    from_
        First of several days.
    to
        Last of several days, itself included.
    suite
        all: Deequ, or its DuckDB twin where Deequ cannot run. deequ, duckdb: that engine alone. gates: what judges before publication.
    sample
        Files or folders of events, as `import` takes them, checked in a lake of their own that vanishes.
    junit
        Write the results as JUnit XML to this file too.
    record
        Keep results as those of settled hours are kept: in quality_results, on the page. Only of hours and days that are over.
    strict
        Warnings that fail make the exit code 1 too.
    release
        Publish a unit that a gate holds, ASSET/PARTITION as `engagement status` names it, and remember it for rebuilds.
    yes
        Do not ask before a release.
    json_
        One JSON object with every result instead of the lines.
    """
    settings = settings_module.load()
    if release is not None:
        return _release(settings, release, yes=yes)
    if sample and (hour or day or from_ or to or record):
        raise UsageError("check --sample looks at all that the files hold; it goes with no period and no --record")
    found: list[Result] = []
    with _opened(settings, sample) as context, _telling() as tell:
        from quality import checking

        periods = _of_sample(context) if sample else _periods(context, hour, day, from_, to)
        found = list(checking.check(context, periods, engine=suite, tell=tell))
        if record:
            _record(context, found)
    if junit:
        _write(junit, found)
    counts = Counter(result.status.value for result in found)
    looked = counts["passed"] + counts["failed"]
    failed = not looked or any(result.is_error or (strict and result.status.value == "failed") for result in found)
    if json_:
        print(json.dumps({"passed": not failed, "counts": counts, "results": [_plain(result) for result in found]}, ensure_ascii=False))
    else:
        _print(found, counts)
    if not looked:
        where = ", ".join(period.key for period in periods[:3]) or "the lake"
        print(f"check: nothing was checked: no rows in {where}", file=sys.stderr)
    return 1 if failed else 0


def _record(context: TableContext, found: Sequence[Result]) -> None:
    """Keep the results of what is over; others would stand for numbers that nobody will see again."""
    from engagement.verdicts import records

    now = datetime.now(UTC)
    records.append_results(context.lake, [result for result in found if result.period.end <= now])
    for key in sorted({result.period.key for result in found if result.period.end > now}):
        print(f"check: {key} is not over: its results are not recorded", file=sys.stderr)


def _write(file: Path, found: Sequence[Result]) -> None:
    from quality import junit

    try:
        file.write_bytes(junit.xml(found))
    except OSError as error:
        raise PermanentError(f"check --junit {file}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _opened(settings: Settings, sample: Sequence[Path] | None) -> Iterator[TableContext]:
    if sample:
        from quality import sampling

        with sampling.lake_of(sample, settings) as context:
            yield context
        return
    from engagement.lake import require_lake
    from engagement.tables.context import open_tables

    require_lake(settings)
    with open_tables(settings) as context:
        context.index.sync()
        yield context


def _of_sample(context: TableContext) -> list[Period]:
    from quality import sampling

    return sampling.periods(context)


def _periods(context: TableContext, hour: str | None, day: str | None, from_: str | None, to: str | None) -> list[Period]:
    """What is asked for; raises UsageError for what is no period, or lies ahead."""
    from engagement.model import units
    from engagement.verdicts.result import Period

    if sum(bool(item) for item in (hour, day, from_ or to)) > 1:
        raise UsageError("check: give one of --hour, --day, or --from with --to")
    now = datetime.now(UTC)
    if hour:
        start = _instant("--hour", hour, now)
        return [Period(units.floor_hour(start))]
    if day or from_ or to:
        if bool(from_) != bool(to) and not day:
            raise UsageError("check: --from and --to go together")
        first, last = _date("--day" if day else "--from", day or from_ or "", now), _date("--day" if day else "--to", day or to or "", now)
        if first > last:
            raise UsageError(f"check: --from {first} is after --to {last}")
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        hours = [Period(item) for found in days for item in units.hours_of(found) if item <= now]
        return [*hours, *map(Period.of_day, days)]
    return _newest(context)


def _newest(context: TableContext) -> list[Period]:
    """The newest hours that have hour rows, and the newest day that has day rows."""
    from engagement.model import units
    from engagement.verdicts.result import Period

    entries = [entry for entry in context.lake.list(units.BIG_TABLE) if units.is_key(entry.key)]
    days = sorted({units.day_of_key(entry.key) for entry in entries if entry.key.endswith("/day.parquet")})
    hours: list[datetime] = []
    for entry in sorted((entry for entry in entries if entry.key.endswith("/hours.parquet")), key=lambda entry: entry.key, reverse=True)[
        :2
    ]:
        hours += map(datetime.fromisoformat, context.footers.of(entry).get("hours", {}))
    return [*map(Period, sorted(hours)[-NEWEST_HOURS:]), *map(Period.of_day, days[-1:])]


def _instant(name: str, text: str, now: datetime) -> datetime:
    try:
        found = datetime.fromisoformat(text if len(text) > 13 else f"{text}:00")
    except ValueError as error:
        raise UsageError(f"check {name} {text}: not a UTC hour like 2026-11-24T13") from error
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if found > now:
        raise UsageError(f"check {name} {text}: that hour has not begun")
    return found


def _date(name: str, text: str, now: datetime) -> date:
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"check {name} {text}: not a UTC day like 2026-11-24") from error
    if found > now.date():
        raise UsageError(f"check {name} {text}: that day has not begun")
    return found


@contextmanager
def _telling() -> Iterator[Any]:
    """What is being done, on stderr where it is a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("check") as line:
        yield lambda what: line.update(f"check: {what}")


def _print(found: Sequence[Result], counts: Counter[str]) -> None:
    for (asset, key, suite), group in groupby(found, key=lambda result: (result.asset, result.period.key, result.suite)):
        results = list(group)
        if all(result.status.value == "empty" for result in results):
            print(f"{asset}/{key} {suite}: no rows")
            continue
        print(f"{asset}/{key} {suite}")
        for result in results:
            mark = "warning" if result.status.value == "failed" and not result.is_error else MARKS[result.status.value]
            value = "" if result.value is None else f"{result.value:g} "
            print(f"  {mark:<8} {result.check:<28} {value}(wanted {result.threshold}; {result.message or 'no row to look at'})")
            if mark not in ("ok", "-"):
                for line in _details(result):
                    print(f"           {line}")
    warned = sum(result.status.value == "failed" and not result.is_error for result in found)
    errors = counts["failed"] - warned
    print(
        f"{counts['passed']:,} passed, {errors:,} failed, {warned:,} warned, {counts['broken']:,} broken, {counts['empty']:,} without rows"
    )


def _details(result: Result) -> Iterator[str]:
    yield f"hint: {result.hint}"
    for row in result.sample:
        yield "row: " + ", ".join(f"{name}={value}" for name, value in row.items())
    if result.query:
        yield f"query: {result.query}"


def _plain(result: Result) -> dict[str, Any]:
    return {
        "suite": result.suite, "check": result.check, "asset": result.asset, "period": result.period.key, "engine": result.engine,
        "severity": result.severity.value, "status": result.status.value,
        "value": None if result.value is None or math.isnan(result.value) else result.value, "threshold": result.threshold,
        "message": result.message, "hint": result.hint, "rows": result.rows, "violations": result.violations,
        "sample": [dict(row) for row in result.sample], "query": result.query,
    }  # fmt: skip


def _release(settings: Settings, unit: str, *, yes: bool) -> int:
    """Remember the release, then make the unit through the same runs as ever."""
    from engagement.lake import open_lake, require_lake
    from engagement.verdicts import quarantine

    require_lake(settings)
    lake, _ = open_lake(settings)
    incidents = quarantine.of_unit(lake, unit)
    for incident in incidents:
        failed = ", ".join(f"{name} ({rows:,} rows)" for name, rows in incident.failed.items())
        print(f"{unit}: held since {incident.since:%Y-%m-%d %H:%M} UTC, judged {incident.times} times: {failed}", file=sys.stderr)
    if not yes and sys.stdin.isatty():
        print("publish it as it is? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            print("nothing was changed", file=sys.stderr)
            return 1
    quarantine.release(lake, incidents)
    failures = _made_again(settings, incidents[0].period)
    left = [incident for incident in quarantine.held(lake) if incident.unit == unit]
    if left:
        why = f"newer rows fail {', '.join(sorted(left[0].failed))} too; look at them, then release again"
        raise PermanentError(f"{unit} is still held: {failures[0] if failures and left == incidents else why}")
    print(f"{unit} is published; rebuilds publish it too")
    return 0


def _made_again(settings: Settings, period: Period) -> list[str]:
    """Run the unit, then all that waits; what failed. Whether the unit is held still is for the caller to see."""
    import logging

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    from engagement_assets.local_runs import LocalRuns, RunFailed, local_instance
    from sensors.chunks import Chunk

    failures = []
    with local_instance(settings) as instance:
        runs = LocalRuns(settings, instance)
        try:
            runs.run(Chunk(period.start, period.start, days=period.kind == "day"), lane="late")
        except RunFailed as error:
            failures.append(str(error))
        try:
            list(runs.refresh())
        except RunFailed as error:
            failures.append(str(error))
    return failures
