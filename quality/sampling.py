"""A lake for a moment: files of events imported, all tables made with the gates in force, checked, and gone.

For CI of those who send events: does what the app writes fit. Nothing of the lake at hand is read or written.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from engagement.errors import PermanentError
from engagement.ingest import importer
from engagement.ingest.history import found, mapping
from engagement.lake import open_lake
from engagement.model import units
from engagement.settings import Settings
from engagement.tables.context import TableContext, open_tables
from engagement.verdicts.result import Period
from engagement.waiting import refresh
from quality import gates


@contextmanager
def lake_of(paths: Sequence[Path], settings: Settings) -> Iterator[TableContext]:
    """The tables made of these files, under the settings' model and limits; raises PermanentError where a file is none of events."""
    with tempfile.TemporaryDirectory(prefix="engagement-check-") as folder:
        own = replace(settings, lake_url=f"{folder}/lake", state_dir=Path(folder) / "state")
        _import(paths, own)
        with open_tables(own) as context:
            judges = gates.Gates(context)
            context.judge, context.judge_all = judges.judge, judges.judge_all
            refresh.until_nothing_waits(context)
            yield context


def periods(context: TableContext) -> list[Period]:
    """Every hour and day that the lake has anything of, oldest first."""
    slots = {units.floor_hour(units.slot_of_key(entry.key)) for entry in context.lake.list(units.EVENTS) if units.is_key(entry.key)}
    came = {
        units.floor_hour(instant)
        for source in context.index.sources()
        for instant in (source.first_received_at, source.last_received_at)
        if instant
    }
    days = {slot.date() for slot in slots}
    return [*map(Period, sorted(slots | came)), *map(Period.of_day, sorted(days))]


def _import(paths: Sequence[Path], settings: Settings) -> None:
    lake, lake_format = open_lake(settings)
    listed = found.find(paths)
    if listed.empty or not listed.files:
        raise PermanentError(f"--sample: no file of events in {', '.join(str(path) for path in paths)}")
    sources = [importer.inspect(path, mapping.parse(()), lambda _: None) for path in listed.files]
    work = importer.Importer(settings, lake, lake_format, datetime.now(UTC))
    with work.decoding(sources) as decode:
        for source in sources:
            work.run(source, decode, lambda _: None)
