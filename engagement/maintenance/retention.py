"""Retention: what a policy lets go of today, recorded first and taken then.

Objects of tables are deleted by the day in their key; archive parts are emptied and keep what they cover (`emptying`).
Before anything is taken, `retention.json` says that the days which depend on it are final (`tables.finality`): from
then on none of their tables is made again. So a run may be killed anywhere, and two may run at once; the next run takes
what is left, such as an object that a writer published while its day became final.

An hour that still waits holds retention at its day: nothing is taken before it was made into tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import islice

from engagement.lake import AlreadyExists, Changed, Lake
from engagement.lake.together import together
from engagement.maintenance import emptying
from engagement.maintenance.layers import ARCHIVE_LAYER, LAYERS, day_folder
from engagement.maintenance.policy import Policy
from engagement.maintenance.report import Step, Tell, quiet
from engagement.model import units
from engagement.raw.coverage import Part, PartName, UnreadablePart, read_part
from engagement.tables import finality
from engagement.tables.context import TableContext
from engagement.tables.finality import Finality
from engagement.waiting import waits

NAME = "retention"
ATTEMPTS = 5
AT_ONCE = 500
"""So many objects are deleted before progress is told."""
BACKSTOP = timedelta(days=7)
"""A bucket's own rules delete so much later than the policy says: normally `maintain` was there first, exact by the day."""


@dataclass(frozen=True, slots=True)
class Due:
    """What may go: per layer the first day that stays, and the first day whose tables stay open."""

    stays: Mapping[str, date]
    first_open: date | None = None
    held_by: date | None = None
    """The day that held it back, because an hour of it waits."""


def due(policy: Policy, today: date, oldest_waiting: date | None = None) -> Due:
    """What a policy lets go of today.

    One day more than goes is final: sessions of a day read the fragments of the day before (R7), and rows of an ingest
    day may be of events some minutes ahead of it. What feeds no table is bound by nothing.
    """
    stays = {layer: today - timedelta(days=days) for layer, days in policy.expiring().items()}
    feeding = [day for layer, day in stays.items() if LAYERS[layer].feeds]
    if not feeding:
        return Due(stays)
    first_open = max(feeding) + units.DAY
    held_by = oldest_waiting if oldest_waiting is not None and oldest_waiting < first_open else None
    if held_by:
        first_open = held_by
        stays = {layer: min(day, held_by - units.DAY) if LAYERS[layer].feeds else day for layer, day in stays.items()}
    return Due(stays, first_open, held_by)


def apply(context: TableContext, policy: Policy, now: datetime, *, dry_run: bool = False, tell: Tell = quiet) -> Step:
    """Take what is due, or (`dry_run`) only say what that is; raises LakeUnavailable."""
    step = Step(NAME)
    if not policy.expiring():
        step.notes.append(
            "nothing expires: no layer of the policy has `expire`" if policy.declared else "nothing expires: no retention.toml"
        )
        return step
    found = due(policy, now.astimezone(UTC).date(), _oldest_waiting(context, now))
    if found.held_by:
        step.problems.append(f"hours of {found.held_by} wait, so nothing from that day on is taken: `engagement refresh`, or see its runs")
    recorded = finality.read(context.lake) if dry_run else record(context.lake, found)
    first_open = max((day for day in (recorded.first_open_day(now), found.first_open) if day), default=None)
    for layer, day in found.stays.items():
        tell(f"{layer} before {day}")
        if layer == ARCHIVE_LAYER.name:
            _archive(context, day, first_open, step, dry_run)
        else:
            _delete(context.lake, layer, day, step, dry_run, tell)
    return step


def _oldest_waiting(context: TableContext, now: datetime) -> date | None:
    waiting = waits.compute(context, now)
    return min((*(hour.date() for hour in waiting.hours), *waiting.days), default=None)


def record(lake: Lake, found: Due, change: Callable[[Finality], Finality] = lambda old: old) -> Finality:
    """Record what is final and what is gone, before it goes; neither is ever taken back. Raises Changed where others are always faster."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with lake.replacing(finality.KEY):
                entry, old = lake.stat(finality.KEY), finality.read(lake)
                new = _advanced(change(old), found)
                if new != old:
                    lake.replace(finality.KEY, new.to_json(), entry)
                return new
        except (Changed, AlreadyExists):
            if attempt == ATTEMPTS:
                raise
    raise AssertionError


def _advanced(old: Finality, found: Due) -> Finality:
    return replace(
        old,
        final_before=max((day for day in (old.final_before, found.first_open) if day), default=None),
        gone_before={**old.gone_before, **{layer: max(day, old.gone_before.get(layer, day)) for layer, day in found.stays.items()}},
    )


def _delete(lake: Lake, layer: str, before: date, step: Step, dry_run: bool, tell: Tell) -> None:
    """Delete a layer's objects of earlier days; what lies among those of a table and is none of ours stays, and is named."""
    found = LAYERS[layer].objects(lake, before)
    while entries := list(islice(found, AT_ONCE)):
        foreign = [entry.key for entry in entries if LAYERS[layer].feeds and not units.is_key(entry.key)]
        ours = [entry for entry in entries if entry.key not in foreign]
        step.notes += [f"{key} is no object of this program: it stays" for key in foreign]
        if not dry_run:
            together(lake, lake.delete, [entry.key for entry in ours])
            for folder in {day_folder(entry.key) for entry in ours}:
                lake.prune(folder)
        for entry in ours:
            step.did(f"delete {entry.key}", entry.size)
        tell(f"{layer} before {before}: {step.objects:,} objects")


def _archive(context: TableContext, before: date, first_open: date | None, step: Step, dry_run: bool) -> None:
    """Empty the parts of ingest days before that one, then the raw objects that hold the same rows."""
    empty: list[Part] = []
    for entry in ARCHIVE_LAYER.objects(context.lake, before):
        if PartName.parse(entry.key) is None:
            continue
        try:
            part = read_part(context.lake, entry.key)
        except UnreadablePart as error:
            step.problems.append(f"{entry.key}: {error}; it is left as it is")
            continue
        except FileNotFoundError:
            continue
        if emptying.has_rows(part):
            if first_open is None or emptying.touches_open_day(part, first_open):
                step.notes.append(f"{entry.key} holds rows of days that are still open: it stays")
                continue
            if not dry_run and emptying.empty_part(context.lake, entry.key) is None:
                continue
            step.did(f"empty {entry.key}", entry.size)
        empty.append(emptying.emptied(part))
    for raw in list(emptying.left_over(context.index, empty)):
        entry_ = context.lake.stat(raw.key) if dry_run else emptying.empty_file(context.lake, raw.key)
        if entry_ is not None:
            step.did(f"empty {raw.key}", entry_.size)
