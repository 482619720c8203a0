"""The maintenance run: archive closed hours, expire raw, apply retention, sweep left-overs, mend the catalog; in this order.

The order saves work, it keeps nothing right: every step proves for itself what it may do, so two runs may go on at once,
a run may be killed anywhere, and a step that fails stops no other. What a step does stands in its own room.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from engagement.errors import EngagementError
from engagement.maintenance import lifecycle, policy, retention, sweep
from engagement.maintenance.layers import Size, measure
from engagement.maintenance.report import Step, Tell, quiet
from engagement.raw import archive, expiry
from engagement.settings import Settings
from engagement.tables.context import TableContext, open_tables

_log = logging.getLogger(__name__)


@dataclass
class Result:
    """What the steps did, in order, the parts that were written, and how big each layer is afterwards."""

    steps: list[Step] = field(default_factory=list)
    parts: tuple[archive.Written, ...] = ()
    sizes: list[Size] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        """Every step's problems, each with its step."""
        return [f"{step.name}: {problem}" for step in self.steps for problem in step.problems]


More = Mapping[str, Callable[[], Step]]
"""Steps behind ours, by name, of who runs the maintenance: what they keep is not the lake's."""


def maintain(settings: Settings, now: datetime, *, dry_run: bool = False, tell: Tell = quiet, more: More | None = None) -> Result:
    """Do, or (`dry_run`) only say, what is due now.

    A step's failure becomes a problem of it; raises only where there is no lake to work on.
    """
    with open_tables(settings) as context:
        return maintain_opened(context, now, dry_run=dry_run, tell=tell, more=more)


def maintain_opened(context: TableContext, now: datetime, *, dry_run: bool = False, tell: Tell = quiet, more: More | None = None) -> Result:
    """The same with handles that are open already."""
    result = Result()
    for name, step in [*_steps(context, now, dry_run, tell, result), *(more or {}).items()]:
        tell(name)
        result.steps.append(_done(name, step))
    result.sizes = measure(context.lake)
    return result


def _steps(context: TableContext, now: datetime, dry_run: bool, tell: Tell, result: Result) -> list[tuple[str, Callable[[], Step]]]:
    settings, lake = context.settings, context.lake
    return [
        ("archive", lambda: _archive(context, now, dry_run, tell, result)),
        ("expire", lambda: _expire(context, dry_run, tell)),
        (retention.NAME, lambda: retention.apply(context, policy.load(settings), now, dry_run=dry_run, tell=tell)),
        (lifecycle.NAME, lambda: lifecycle.apply(settings, lake, policy.load(settings), now, dry_run=dry_run)),
        (sweep.NAME, lambda: sweep.apply(lake, now, dry_run=dry_run)),
        ("catalog", lambda: _catalog(context, dry_run)),
    ]


def _done(name: str, step: Callable[[], Step]) -> Step:
    try:
        return step()
    except EngagementError as error:
        return Step(name, problems=[" ".join(str(error).split())])
    except Exception as error:  # noqa: BLE001 - whatever it is, the other steps go on
        _log.exception("step %s failed", name)
        return Step(name, problems=[f"{type(error).__name__}: {' '.join(str(error).split())}"])


def _archive(context: TableContext, now: datetime, dry_run: bool, tell: Tell, result: Result) -> Step:
    settings, step = context.settings, Step("archive")
    report = archive.archive(
        context.lake, now=now, after=timedelta(minutes=settings.archive_after_minutes), index=context.index,
        hash_keys=settings.hash_keys, dry_run=dry_run, progress=_progress(tell),
    )  # fmt: skip
    for part in report.parts:
        size = part.bytes_in if dry_run else part.bytes_out
        step.did(f"write {part.name.key}: {part.rows:,} rows of {part.objects:,} raw objects, {part.bytes_in:,} bytes", size)
    step.problems += report.problems
    if not dry_run:
        result.parts = report.parts
    return step


def _expire(context: TableContext, dry_run: bool, tell: Tell) -> Step:
    step = Step("expire")
    grace = timedelta(minutes=context.settings.raw_grace_minutes)
    report = expiry.expire(context.lake, grace=grace, index=context.index, dry_run=dry_run, progress=_progress(tell))
    for entry in report.deleted:
        step.did(f"delete {entry.key}", entry.size)
    step.problems += report.problems
    return step


def _catalog(context: TableContext, dry_run: bool) -> Step:
    from engagement import catalog

    step = Step("catalog")
    report = catalog.mend(context.settings, context.lake, dry_run=dry_run)
    step.notes.append(str(report))
    step.items += [f"mended {what}" for what in report.drift]
    step.objects = len(report.tables_written) + report.partitions_added + report.partitions_changed + report.partitions_removed
    return step


def _progress(tell: Tell) -> Callable[[str, int, int], None]:
    def told(what: str, done: int, total: int) -> None:
        tell(f"{what} {100 * done // total}%" if total else what)

    return told
