"""`engagement forget`: a person asked to be erased."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError

if TYPE_CHECKING:
    from engagement.erasure.report import Report


def forget(
    *user_ids: str,
    file: Path | None = None,
    yes: bool = False,
    wait: float | None = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Erase users everywhere in the lake: raw, archive, tables, dead letters; aggregates are made again without them.

    Without `--yes` it only says where they stand. With it the lake remembers keyed hashes of the ids (ENGAGEMENT_HASH_KEY),
    and what arrives of these users later is stored as `erased` rows without anything of theirs. It prints every object
    touched and what a closing scan found. Exit code 1: something is still to happen, named on stderr; run it again then.

    For example:

        engagement forget 8f14e45f-ceea
        engagement forget --file asked-to-be-erased.txt --yes --json

    Parameters
    ----------
    user_ids
        Ids as the app sends them, also where the lake holds pseudonyms.
    file
        A file with one id a line; all of them in one pass.
    yes
        Do it; it cannot be undone.
    wait
        Seconds to wait for consumers to flush what they read before; twice ENGAGEMENT_FLUSH_SECONDS unless given.
    as_json
        One JSON object: everything that was touched, what is pending, what is left, the scan, seconds.
    """
    from engagement.cli.dead_letter_output import progress_bar
    from engagement.erasure.forget import forget as run
    from engagement.lake import require_lake

    wanted = [*user_ids, *_lines(file)]
    if not wanted:
        raise UsageError("name at least one user id, or a --file of them")
    settings = settings_module.load()
    require_lake(settings)
    with progress_bar() as progress:
        report = run(
            settings, wanted, dry_run=not yes, wait_seconds=2.0 * settings.flush_seconds if wait is None else wait, progress=progress
        )
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        _print(report)
    for text in (*(f"pending: {text}" for text in report.pending), *(f"left: {key}: {why}" for key, why in report.left.items())):
        print(f"forget: {text}", file=sys.stderr)
    if report.dry_run:
        print("forget: nothing was changed; --yes erases", file=sys.stderr)
    elif not report.done:
        print("forget: not over yet; see to what is named above and run it again", file=sys.stderr)
    return 0 if report.done or (report.dry_run and not report.left) else 1


def _print(report: Report) -> None:
    """The table for people."""
    width = max((len(item.action) for item in report.objects), default=0)
    for item in report.objects:
        print(f"{item.action:<{width}}  {item.rows:>9,}  {item.key}")
    told = ", ".join(f"{count:,} {action}" for action, count in report.counts().items()) or "no object has anything of theirs"
    print(f"{report.users:,} users: {told}")
    print(
        f"scan: {report.scanned_objects:,} objects, {report.scanned_bytes / 2**20:,.1f} MiB in {report.seconds.get('scan', 0):.1f} s; "
        f"all else {report.seconds.get('rewrite', 0):.1f} s"
    )
    if report.done:
        print("no byte of theirs is left in the lake")
    for note in report.notes:
        print(f"not erased here: {note}")


def _lines(file: Path | None) -> list[str]:
    """Ids of a file, one a line; blank lines are passed over."""
    if file is None:
        return []
    try:
        return [line.rstrip("\r") for line in file.read_text().split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--file {file}: not readable: {error}") from error
