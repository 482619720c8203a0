"""The command `import`: files of history in, one line a file out. What is read and written is decided in engagement.ingest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError

if TYPE_CHECKING:
    from engagement.ingest.history.found import Found
    from engagement.ingest.history.mapping import Renames
    from engagement.ingest.importer import Bad, Imported, Source
    from engagement.lake import Lake, LakeFormat
    from engagement.settings import Settings

TOLD_SKIPPED = 10
Advance = Callable[[int], None]


def import_(
    *paths: Path,
    renamed: Annotated[list[str] | None, Parameter(name="--map", negative="", consume_multiple=False)] = None,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Import history from JSON lines, CSV and Parquet, each also .gz or .zst; the same bytes again change nothing.

    Every file is read to its end before anything is written: if one cannot be imported, none is. Bad rows become
    rejects with their row number; the rest goes in. A killed import goes on where it was.

    For example:

        engagement import history.jsonl 2025-*.csv.gz exports/
        engagement import users.parquet --map uid=user_id --map kind=event_type --dry-run

    Parameters
    ----------
    paths
        Files, or folders, which are read to their depth in the order of names.
    renamed
        theirs=ours: a field or column of the files is this field of an event, e.g. `ts=timestamp`,
        `phone=device_info.model`, `plan=properties.plan`. May be given often.
    dry_run
        Only count: rows, good ones, rejects by reason. Writes nothing.
    as_json
        One JSON object instead of lines for people.
    """
    from engagement.ingest.history import found, mapping

    if not paths:
        raise UsageError("import: name at least one file or folder, e.g. `engagement import history.jsonl`")
    renames = mapping.parse(renamed or ())
    settings = settings_module.load()
    files = found.find(paths)
    _tell_skipped(files)
    sources = _inspected(files, renames)
    if sources is None:
        return 1
    _run(sources, settings, dry_run=dry_run, as_json=as_json, skipped=files.skipped)
    return 0


def _inspected(files: Found, renames: Renames) -> list[Source] | None:
    """Every file read to its end; None where one cannot be imported, each of which is told."""
    from engagement.ingest import importer
    from engagement.ingest.history.found import READABLE

    sources, bad = [], 0
    total = sum(path.stat().st_size for path in files.files if path.is_file())
    with _bar("reading", total, binary=True) as advance:
        for path in files.files:
            try:
                sources.append(importer.inspect(path, renames, advance))
            except importer.BadFile as error:
                print(f"engagement: {error}", file=sys.stderr)
                bad += 1
    for folder in files.empty:
        print(f"engagement: {folder}: no file in this folder is {READABLE}", file=sys.stderr)
    if bad > 1:
        print(f"engagement: nothing was imported: {bad} of {len(files.files)} files cannot be", file=sys.stderr)
    if bad or files.empty:
        return None
    if all(source.columns is not None for source in sources):
        renames.require_used(name for source in sources for name in source.columns or ())
    return sources


def _run(sources: Sequence[Source], settings: Settings, *, dry_run: bool, as_json: bool, skipped: Sequence[Path]) -> None:
    from engagement.ingest import importer
    from engagement.lake import connect, open_lake

    lake, lake_format = (connect(settings), importer.format_of(settings)) if dry_run else open_lake(settings)
    lake_format = _without_final_days(lake, lake_format)
    work = importer.Importer(settings, lake, lake_format, datetime.now(UTC), dry=dry_run)
    results: list[tuple[Source, Imported]] = []
    rejected = _Rejected()
    total = sum(source.rows for source in sources)
    try:
        with _bar("counting" if dry_run else "importing", total) as advance, work.decoding(sources) as decode:
            for source in sources:
                result = work.run(source, decode, advance)
                results.append((source, result))
                rejected.tell(source, result.bad)
                if not as_json:
                    print(_line(source, result, dry_run=dry_run), flush=True)
    except KeyboardInterrupt:
        if not dry_run:
            print("engagement: interrupted; the same command goes on where this one stopped", file=sys.stderr)
        raise
    rejected.close(sum(result.rejected for _, result in results), dry_run=dry_run)
    if as_json:
        print(json.dumps(_summary(results, dry_run=dry_run, skipped=skipped)))


def _without_final_days(lake: Lake, lake_format: LakeFormat) -> LakeFormat:
    """The history begins with the first open day: of a final one no table would take an event up, so it is a reject and is seen."""
    from engagement.tables import finality

    first = finality.read(lake).first_open_day(datetime.now(UTC))
    if first is None or first <= lake_format.history_start:
        return lake_format
    print(f"engagement: days before {first} are final (retention): their events are rejected, before_history_start", file=sys.stderr)
    return replace(lake_format, history_start=first)


def _line(source: Source, result: Imported, *, dry_run: bool) -> str:
    """A file in one line for people."""
    text = f"{source.path}: {result.rows:,} rows, {result.rejected:,} rejected"
    if result.rejects:
        text += f" ({', '.join(f'{reason} {count:,}' for reason, count in result.rejects.items())})"
    if dry_run:
        return f"{text}; dry run: nothing written"
    if not result.written:
        return f"{text}, already complete: nothing changed"
    return f"{text}, went on from row {result.start + 1:,}" if result.start else text


def _summary(results: Sequence[tuple[Source, Imported]], *, dry_run: bool, skipped: Sequence[Path]) -> dict[str, Any]:
    from engagement.ingest.history.decoding import added

    files = [
        {
            "path": str(source.path), "sha256": source.found.sha256, "rows": result.rows, "good": result.rows - result.rejected,
            "rejects": result.rejects, "first_row": result.start + 1, "objects_written": result.written,
            "bad_rows": [{"row": bad.row, "reason": bad.reason} for bad in result.bad],
        }
        for source, result in results
    ]  # fmt: skip
    rows, rejects = sum(result.rows for _, result in results), added(result.rejects for _, result in results)
    good = rows - sum(rejects.values())
    return {"dry_run": dry_run, "rows": rows, "good": good, "rejects": rejects, "files": files, "skipped": [str(path) for path in skipped]}


def _tell_skipped(files: Found) -> None:
    from engagement.ingest.history.found import READABLE

    for path in files.skipped[:TOLD_SKIPPED]:
        print(f"engagement: skipped {path}: hidden, a link to a folder, or none of {READABLE}", file=sys.stderr)
    if len(files.skipped) > TOLD_SKIPPED:
        print(f"engagement: … and {len(files.skipped) - TOLD_SKIPPED:,} more skipped", file=sys.stderr)


class _Rejected:
    """Tells the first rejected rows with file and row."""

    def __init__(self) -> None:
        self._told = 0

    def tell(self, source: Source, found: Sequence[Bad]) -> None:
        from engagement.ingest.importer import TOLD

        for bad in found[: max(0, TOLD - self._told)]:
            print(f"engagement: {source.path}: row {bad.row}: {bad.reason}", file=sys.stderr)
            self._told += 1

    def close(self, rejected: int, *, dry_run: bool) -> None:
        """Say where the others are."""
        if self._told and not dry_run:
            more = f"{rejected - self._told:,} more rejected rows; " if rejected > self._told else ""
            print(f"engagement: {more}all of them: engagement dead-letters show --topic import", file=sys.stderr)


@contextmanager
def _bar(what: str, total: int, *, binary: bool = False) -> Iterator[Advance]:
    """A bar on stderr where it is a terminal: how much, how fast, how long still."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rows(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = f"{task.speed:,.0f} rows/s" if task.speed else ""
            return Text(f"{int(task.completed):,}/{int(task.total or 0):,} rows {speed}")

    console = Console(stderr=True)
    amount = DownloadColumn() if binary else Rows()
    columns = (TextColumn(what), BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda count: progress.advance(task, count)
