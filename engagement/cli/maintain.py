"""`engagement maintain`: the maintenance run, once, in this process; what it does stands in `engagement.maintenance`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from engagement import settings as settings_module

if TYPE_CHECKING:
    from engagement.maintenance.report import Tell
    from engagement.maintenance.run import More, Result
    from engagement.settings import Settings

Flag = Parameter(negative="")
LISTED = 20
"""So many objects of a step are named; `--json` has them all."""


def maintain(*, dry_run: Annotated[bool, Flag] = False, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> int:
    """Archive closed hours, expire raw files past their grace, apply retention, sweep left-overs, mend the catalog, forget old runs. Once.

    The schedule `maintain` does the same. Safe beside it, and beside everything else. Exit code 1 if a step could not do its
    work; the others did theirs.

    For example:

        engagement maintain --dry-run
        engagement maintain --json

    Parameters
    ----------
    dry_run
        Only list what it would do, with objects and bytes.
    json_
        One JSON object instead of the list.
    """
    from rich.console import Console

    from engagement.lake import require_lake
    from engagement.maintenance.run import maintain as run

    settings = settings_module.load()
    require_lake(settings)
    now = datetime.now(UTC)
    with Console(stderr=True).status("maintain") as line:

        def tell(what: str) -> None:
            line.update(f"maintain: {what}")

        with _run_records(settings, now, dry_run, tell) as more:
            result = run(settings, now, dry_run=dry_run, tell=tell, more=more)
    if json_:
        print(json.dumps(as_json(result, dry_run)))
    else:
        _show(result, dry_run)
    for problem in result.problems:
        print(f"engagement: {problem}", file=sys.stderr)
    return 1 if result.problems else 0


@contextmanager
def _run_records(settings: Settings, now: datetime, dry_run: bool, tell: Tell) -> Iterator[More]:
    """The step that keeps Dagster's records bounded; none where there is no instance yet."""
    if not (settings.state_dir / "dagster").exists():
        yield {}
        return
    from engagement.cli.tables import quiet_dagster
    from engagement_assets import local_runs, run_records

    quiet_dagster(verbose=False)
    with local_runs.local_instance(settings) as instance:
        keep = timedelta(days=settings.run_days)
        yield {run_records.NAME: lambda: run_records.step(instance, keep, now, dry_run=dry_run, tell=tell)}


def as_json(result: Result, dry_run: bool) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "dry_run": dry_run,
        "steps": [step.to_dict() for step in result.steps],
        "layers": [{"layer": size.layer, "objects": size.objects, "bytes": size.bytes, "small": size.small} for size in result.sizes],
        "problems": result.problems,
    }


def _show(result: Result, dry_run: bool) -> None:
    for step in result.steps:
        would = "would be " if dry_run and step.objects else ""
        print(f"{step.name:<10} {would}{step.objects:,} {'object' if step.objects == 1 else 'objects'}, {step.bytes:,} bytes")
        for item in step.items[:LISTED]:
            print(f"           {item}")
        if len(step.items) > LISTED:
            print(f"           … and {len(step.items) - LISTED:,} more (--json has them)")
        for note in step.notes:
            print(f"           {note}")
