"""Where each column of each table comes from, read from the SQL that makes it: what Dagster shows, and `engagement explain`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from engagement.model import schemas, units
from engagement.model.model import Model
from engagement.tables import engine

RAW, REFERENCE = "raw", "reference"
"""What is no table of the lake: the raw log, and the CSV files beside the SQL."""

INPUTS: Mapping[str, Mapping[str, str]] = {
    units.EVENTS: {"arrivals": RAW, "standing": units.EVENTS, "device_models": REFERENCE},
    units.FRAGMENTS: {"slot_events": units.EVENTS},
    units.ACTIVITY: {"slot_events": units.EVENTS},
    units.SESSIONS: {"reach_fragments": units.FRAGMENTS},
    units.BIG_TABLE: {"period_activity": units.ACTIVITY, "period_sessions": units.SESSIONS},
}
"""Table -> the names that its SQL reads, each with the table behind it."""
_OWN = {"place": "BIGINT", "period": "INTEGER", "slot": "BIGINT", "turn": "BIGINT"}
"""What builders add to their inputs: numbers of rows and periods, no column of any table."""

Lineage = dict[str, tuple[tuple[str, str], ...]]
"""Column -> (table, column) of all that it is made from, in order; empty for what is made of nothing, as a count of rows is."""


@lru_cache(maxsize=32)
def columns(table: str, model: Model) -> Lineage:
    """The lineage of a table's columns, one step back."""
    import sqlglot
    from sqlglot import exp
    from sqlglot.lineage import lineage

    inputs = INPUTS[table]
    known = {name: _columns(behind, model) | _OWN for name, behind in inputs.items()}
    query = sqlglot.parse_one(engine.sql(engine.FILES[table], model), dialect="duckdb")
    own = {name for name, behind in inputs.items() if behind == table}
    for union in list(query.find_all(exp.Union)):  # the rows that stand already come from where the new ones come from
        if {found.name for found in union.this.find_all(exp.Table)} <= own:
            union.replace(union.expression)
    nodes = lineage(None, query, schema=known, dialect="duckdb")
    found: Lineage = {}
    for name in schemas.columns(table, model):
        leaves = set()
        for node in nodes[name].walk():
            source, column = node.expression.name, node.name.rpartition(".")[2].strip('"')
            if isinstance(node.expression, exp.Table) and column not in _OWN and source in inputs:
                leaves.add((inputs[source], column))
        found[name] = _of_struct(name, leaves, model)
    return found


def _of_struct(name: str, leaves: set[tuple[str, str]], model: Model) -> tuple[tuple[str, str], ...]:
    """A dimension travels in one struct with the others; of them it is made from its own column alone."""
    if name in model.dimensions:
        others = {item.column for other, item in model.dimensions.items() if other != name}
        leaves = {(table, column) for table, column in leaves if column not in others}
    return tuple(sorted(leaves))


def _columns(table: str, model: Model) -> dict[str, Any]:
    if table == RAW:
        return dict(schemas.raw())
    if table == REFERENCE:
        return {"model": "VARCHAR", "device_name": "VARCHAR"}
    return dict(schemas.duckdb_types(table, model))
