"""`engagement backup` and `engagement restore`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated, Literal

from cyclopts import Parameter

from engagement import settings as settings_module

Flag = Annotated[bool, Parameter(negative="")]
Json = Annotated[bool, Parameter(name="--json", negative="")]
TOLD = 10


def backup(destination: str, *, json_: Json = False) -> int:
    """Copy what cannot be made again: the log, the list of erased users, what else the lake remembers, Dagster's state.

    Only what is new is copied; the pipeline may run meanwhile, and a killed backup goes on when it is run again. Tables
    are not copied, they are made again from the log; those whose log retention took are. Settings, model file and
    secrets are not in it: keep ENGAGEMENT_HASH_KEY apart from the backup.

    For example:

        engagement backup /mnt/backup/engagement
        engagement backup s3://our-backups/engagement --json

    Parameters
    ----------
    destination
        A folder or s3://bucket/prefix of this lake's backup alone.
    json_
        One JSON object instead of the summary.
    """
    from engagement.backup import take
    from engagement.cli.dead_letter_output import progress_bar

    with progress_bar() as progress:
        report = take.backup(settings_module.load(), destination, progress=progress)
    _tell(report.lost, "is gone from the lake; the backup keeps its copy")
    _tell(report.damaged, "is damaged in the lake and was not copied; an older copy in the backup is kept")
    if json_:
        print(json.dumps(asdict(report)))
    else:
        copied = f"{report.copied_objects:,} objects copied ({report.copied_bytes:,} bytes), {report.kept_objects:,} were there"
        print(f"{report.destination}: {copied}, {report.deleted_objects:,} deleted, {report.state_files:,} files of Dagster's state")
    return 1 if report.lost or report.damaged else 0


def _tell(keys: list[str], why: str) -> None:
    for key in keys[:TOLD]:
        print(f"engagement: {key} {why}", file=sys.stderr)
    if len(keys) > TOLD:
        print(f"engagement: … and {len(keys) - TOLD:,} more", file=sys.stderr)


def restore(source: str, *, only: Literal["lake", "state"] | None = None, dry_run: Flag = False, json_: Json = False) -> int:
    """Make the lake of these settings, and Dagster's state, from a backup; then `engagement refresh` makes the tables.

    Nothing is overwritten: there must be no lake at ENGAGEMENT_LAKE_URL and no Dagster state in ENGAGEMENT_STATE_DIR.
    Every byte is compared with what the backup says of itself. A killed restore goes on when it is run again.

    For example:

        engagement restore /mnt/backup/engagement --dry-run
        engagement restore s3://our-backups/engagement && engagement refresh

    Parameters
    ----------
    source
        What `engagement backup` wrote.
    only
        `lake`, or `state`: Dagster's runs, materializations and sensors, for a lake that is still there.
    dry_run
        Only compare the backup with its manifest.
    json_
        One JSON object instead of the summary.
    """
    from engagement.backup.restore import restore as run
    from engagement.cli.dead_letter_output import progress_bar

    settings = settings_module.load()
    with progress_bar() as progress:
        report = run(settings, source, only=only or "", dry_run=dry_run, progress=progress)
    if json_:
        print(json.dumps({"dry_run": dry_run} | asdict(report)))
    elif dry_run:
        print(
            f"{source} of {report.made_at}: {report.objects:,} objects, {report.bytes:,} bytes, all as the manifest says; nothing written"
        )
    else:
        print(
            f"{settings.lake_url}: {report.objects:,} objects of the backup of {report.made_at} ({report.there_already:,} were there), "
            f"{report.state_files:,} files of Dagster's state; now run `engagement refresh`"
        )
    return 0
