"""Sweeping: what dead writers left in the store, and nothing that a living one holds.

What that is, each store knows itself (`lake.left_overs`): temporary and lock files of a folder, unfinished multipart
uploads and leases of a bucket.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from engagement.lake import Lake
from engagement.maintenance.report import Step

NAME = "sweep"
OLD = timedelta(hours=6)
"""Younger left-overs stay: somebody may want to look at them, and no writer takes so long over one object."""


def apply(lake: Lake, now: datetime, *, dry_run: bool = False) -> Step:
    """Take away, or (`dry_run`) only name, what was left so long ago; raises LakeUnavailable."""
    step = Step(NAME)
    for found in lake.left_overs(now, OLD, remove=not dry_run):
        step.did(f"delete {found.name}", found.size)
    return step
