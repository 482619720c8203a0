"""What every builder needs, opened once a process: the lake, its format, the raw index, the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry, Lake, LakeFormat, open_lake
from engagement.raw.index import RawIndex
from engagement.settings import Settings
from engagement.tables import engine
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

    def relation(self, entries: Iterable[Entry | None], table: str) -> str:
        """A FROM-clause over these objects of a table; typed and empty where there is none."""
        return engine.relation([self.lake.path(entry.key) for entry in entries if entry], table)

    @property
    def session_rule(self) -> dict[str, Any]:
        """SQL parameters of the lake's session rule: `gap_us`, and `by_client` for owners by client session id."""
        return {"gap_us": self.format.gap_us, "by_client": self.format.session_mode == "client"}


@contextlib.contextmanager
def open_tables(settings: Settings, judge: Judge = _accept) -> Iterator[TableContext]:
    """Everything the builders need, closed afterwards."""
    lake, lake_format = open_lake(settings)
    index = RawIndex(lake, settings.state_dir)
    con = engine.connect(settings)
    try:
        yield TableContext(settings, lake, lake_format, index, con, judge=judge)
    finally:
        con.close()
        index.close()
