"""What every builder needs, opened once a process: the lake, its format, the raw index, the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engagement.lake import Lake, LakeFormat, open_lake
from engagement.raw.index import RawIndex
from engagement.settings import Settings
from engagement.tables.engine import connect
from engagement.tables.objects import Candidate, Footers

if TYPE_CHECKING:
    import duckdb

Judge = Callable[["TableContext", str, Candidate], None]
"""Judges a candidate before publication (table folder, rows); raises objects.Held to refuse it."""


def _accept(_context: TableContext, _table: str, _candidate: Candidate) -> None:
    """The judge of callers that have no gates."""


@dataclass
class TableContext:
    """Open handles of one process; use `open_tables`."""

    settings: Settings
    lake: Lake
    format: LakeFormat
    index: RawIndex
    con: duckdb.DuckDBPyConnection
    footers: Footers = field(init=False)
    judge: Judge = _accept

    def __post_init__(self) -> None:
        self.footers = Footers(self.lake)


@contextlib.contextmanager
def open_tables(settings: Settings, judge: Judge = _accept) -> Iterator[TableContext]:
    """Everything the builders need, closed afterwards."""
    lake, lake_format = open_lake(settings)
    index = RawIndex(lake, settings.state_dir)
    con = connect(settings)
    try:
        yield TableContext(settings, lake, lake_format, index, con, judge=judge)
    finally:
        con.close()
        index.close()
