"""What every builder needs, opened once a process: the lake, its format, the raw index, the engine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from engagement.lake import Entry, Lake, LakeFormat, open_lake
from engagement.model import declared, schemas
from engagement.model.model import Model, built_in
from engagement.raw import erasures
from engagement.raw.index import RawIndex
from engagement.settings import Settings
from engagement.tables import engine, slices
from engagement.tables.known import Known
from engagement.tables.objects import CODE_VERSION, Candidate, Footers, Held

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Judge = Callable[["TableContext", str, Candidate], None]
"""Judges a candidate before publication (table folder, rows); raises objects.Held to refuse it."""


JudgeAll = Callable[["TableContext", str, Sequence[Candidate]], Sequence[Held | None]]
"""The same for many units of a table: for each why it is refused, or None."""


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
    model: Model = field(default_factory=built_in)
    retired: Mapping[str, str] = field(default_factory=dict)
    """Dimensions of older models of the lake that the present one lacks, with their ALL words."""
    footers: Footers = field(init=False)
    known: Known | None = None
    """What this machine knows of the tables' objects; nothing: each process finds out for itself."""
    judge: Judge = _accept
    judge_all: JudgeAll | None = None
    """Judges many at once, where that is cheaper than `judge` on each."""
    erasures: int = field(init=False)
    """Length of the erasure list when the context was opened, before anything was read."""

    def __post_init__(self) -> None:
        self.footers = Footers(self.lake, self.known)
        self.erasures = erasures.length(self.lake)

    def relation(self, entries: Iterable[Entry | None], table: str, *, keys: Sequence[str] = (), place: bool = False) -> str:
        """A FROM-clause over these objects of a table; typed and empty where there is none.

        `keys` adds path keys, `place` each row's number in its object.
        """
        paths = list(self.lake.local(entry for entry in entries if entry))
        return engine.relation(paths, table, self.model, keys=keys, retired=self.retired, place=place)

    def sql(self, name: str) -> str:
        """Text of `sql/NAME.sql` under the present model."""
        return engine.sql(name, self.model)

    def table_of(self, query: str, parameters: dict[str, Any], table: str) -> pa.Table:
        """The query's rows with exactly the table's columns and types."""
        return engine.table_of(self.con, query, parameters, table, self.model)

    def verdicts(self, table: str, candidates: Sequence[Candidate]) -> Sequence[Held | None]:
        """For each candidate why its gates refuse it, or None."""
        if self.judge_all and candidates:
            return self.judge_all(self, table, candidates)
        return [self._verdict(table, candidate) for candidate in candidates]

    def _verdict(self, table: str, candidate: Candidate) -> Held | None:
        try:
            self.judge(self, table, candidate)
        except Held as verdict:
            return verdict
        return None

    @property
    def made_by(self) -> dict[str, Any]:
        """What stands in every footer: the present code and model (R10), and the erasure list when reading began."""
        return {"code": CODE_VERSION, "model": self.model.digest, "erasures": self.erasures}

    def is_outdated(self, facts: Mapping[str, Any]) -> bool:
        """Whether a unit was made by other code or under another model, so that no part of it can be kept."""
        return (facts.get("code"), facts.get("model")) != (CODE_VERSION, self.model.digest)

    def rows(self, query: str, parameters: dict[str, Any]) -> pa.Table:
        """The query's rows as they are; `typed` gives them a table's columns."""
        return self.con.sql(query, params=parameters).to_arrow_table()

    def typed(self, rows: pa.Table | None, table: str) -> pa.Table:
        """Rows with exactly the table's columns and types; no rows where there are none."""
        schema = schemas.arrow_schema(table, self.model)
        return schema.empty_table() if rows is None else rows.select(schema.names).cast(schema)

    @property
    def slot_length(self) -> timedelta:
        """A slot's length."""
        return timedelta(minutes=self.format.slot_minutes)

    @property
    def slot_us(self) -> int:
        """A slot's length in microseconds, SQL parameter of whatever is made from events."""
        return slices.slot_us(self.format.slot_minutes)

    @property
    def session_rule(self) -> dict[str, Any]:
        """SQL parameters of the lake's session rule: `gap_us`, and `by_client` for owners by client session id."""
        return {"gap_us": self.format.gap_us, "by_client": self.format.session_mode == "client"}


@contextlib.contextmanager
def open_tables(settings: Settings, judge: Judge = _accept) -> Iterator[TableContext]:
    """Everything the builders need, closed afterwards."""
    lake, lake_format = open_lake(settings)
    model = declared.load(settings)
    retired = declared.remember(lake, model)
    index = RawIndex(lake, settings.state_dir)
    known = Known(lake, settings.state_dir)
    con = engine.connect(settings)
    try:
        yield TableContext(settings, lake, lake_format, index, con, model, retired, known, judge=judge)
    finally:
        con.close()
        known.close()
        index.close()
