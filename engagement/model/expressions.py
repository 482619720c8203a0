"""What the SQL expressions of a model may say, judged by the engine's own parser and binder against the real columns.

An expression is spliced into our SQL, so it must be one expression and nothing else: no second statement, no
subquery, no parameter, and nothing whose value differs from run to run (R10). Nothing is run here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from engagement.model import schemas, units
from engagement.model.model import Model, ModelError, near

if TYPE_CHECKING:
    import duckdb

ROWS, VALUE = "the_rows_of_this_model", "the_value_of_this_expression"
WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "UHUGEINT")
SUMS = ("sum", "count", "count_star", "count_if")
NO_DIMENSIONS = ("event_id", "user_id", "session_id", "screen", "properties", "kafka_topic", "kafka_topic_id")
"""Columns whose nulls mean something elsewhere (a dimension has none), or that tell single events apart."""
STEPS = (
    "client_id", "own_session_id", "at_us", "first_us", "last_us", "duration_us", "slot", "bucket", "place", "period", "viewed",
    "dimensions", "fragment", "session", "starts", "appeared", "value", "turn", "is_over",
)  # fmt: skip
"""Names that the SQL files use for steps of their own."""


def check(model: Model, where: str, *, everything: bool = False) -> Model:
    """The model, if every name is free and every expression fits its kind; `where` names the file in messages.

    `everything` judges the built-in expressions too.

    Raises ModelError, one line that names the entry.
    """
    import duckdb

    con = duckdb.connect(":memory:", config={"enable_external_access": "false", "autoinstall_known_extensions": "false"})
    try:
        con.execute("SET TimeZone = 'UTC'")
        _Checker(con, model, where, everything).check()
    finally:
        con.close()
    return model


@dataclass
class _Checker:
    """One model under the engine's eyes."""

    con: duckdb.DuckDBPyConnection
    model: Model
    where: str
    all: bool = False
    entry: str = ""

    def check(self) -> None:
        self._names()
        events = {name: schemas.DUCKDB_TYPES[column.kind] for name, column in schemas.event_columns(self.model).items()}
        self._dimensions(events)
        sessions = schemas.duckdb_types(units.SESSIONS, self.model) | {"duration_us": "BIGINT"}
        for fact in self._own(self.model.facts):
            self.entry = f"[session_facts.{fact.name}] sql"
            self._sum(fact.sql, events)
        for metric in self._own(self.model.metrics):
            self.entry = f"[metrics.{metric.name}] {'where' if metric.kind == 'distinct' else 'sql'}"
            if metric.kind == "additive":
                self._sum(metric.sql, events if metric.of == "events" else sessions)
            elif metric.kind == "distinct" and metric.where:
                self._row_value(metric.where, events, ("BOOLEAN",), "a condition of one event")
            elif metric.kind == "median":
                self._row_value(metric.sql, sessions, WHOLE, "a whole number of one session")

    def _own(self, items: Mapping[str, Any]) -> list[Any]:
        """What is to be judged: all but what is built in, which the tests judge."""
        return [item for item in items.values() if self.all or not item.built_in]

    def _names(self) -> None:
        """No name stands twice in a table, or is a word of SQL."""
        found = self.con.execute("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'").fetchall()
        words = {name for (name,) in found}
        model, bare = self.model, Model()
        events = dict.fromkeys(schemas.event_columns(bare), "a column of events") | dict.fromkeys(model.columns, "a column of events")
        sessions = dict.fromkeys([*schemas.session_columns(bare), *schemas.fragment_columns(bare)], "a column of sessions")
        counted = dict.fromkeys(model.facts, "a session fact") | dict.fromkeys(model.metrics, "a metric")
        self._free("columns", model.columns, dict.fromkeys(schemas.event_columns(bare), "a column of events"), words)
        self._free("dimensions", model.dimensions, sessions | counted, words)
        self._free("session_facts", model.facts, events | sessions, words)
        self._free("metrics", model.metrics, events, words)

    def _free(self, section: str, items: Mapping[str, Any], taken: Mapping[str, str], words: set[str]) -> None:
        keys = dict.fromkeys(("year", "month", "day", "hour"), "a path key")
        taken = {**keys, **dict.fromkeys(STEPS, "a name that our SQL uses"), **taken}
        for name in (item.name for item in items.values() if not item.built_in):
            self.entry = f"[{section}.{name}]"
            if name in words:
                self._fail(f"{name} is a word of SQL: choose another name")
            if name in taken:
                self._fail(f"{name} is {taken[name]} already: choose another name")

    def _dimensions(self, events: Mapping[str, str]) -> None:
        for item in self._own(self.model.dimensions):
            name = item.name
            self.entry = f"[dimensions.{name}]"
            if item.column not in events:
                self._fail(f"column = {item.column!r}: no column of events; they are {', '.join(events)}")
            if events[item.column] != "VARCHAR":
                self._fail(f"column = {item.column!r} is of type {events[item.column]}: a dimension is a text")
            if name != item.column and name in events:
                self._fail(f"{name} is another column of events: name the dimension like its column, or anew")
            if [other.column for other in self.model.dimensions.values()].count(item.column) > 1:
                self._fail(f"column = {item.column!r} is the column of another dimension")
            if item.column in NO_DIMENSIONS:
                self._fail(f"column = {item.column!r} cannot be a dimension")

    def _sum(self, sql: str, columns: Mapping[str, str]) -> None:
        """One sum or count of whole numbers, so that parts add up to the whole."""
        tree, aggregates = self._expression(sql, columns)
        name = tree.get("function_name")
        if tree.get("class") != "FUNCTION" or name not in SUMS or tree.get("distinct"):
            hint = '; distinct users are kind = "distinct"' if tree.get("distinct") else ""
            self._fail(f"{sql!r}: expected one sum(…), count(…) or count_if(…) and nothing around it{hint}")
        if len(aggregates) != 1:
            self._fail(f"{sql!r}: an aggregate inside an aggregate")
        self._bound(sql, columns, WHOLE, "whole numbers, which add up exactly")

    def _row_value(self, sql: str, columns: Mapping[str, str], kinds: tuple[str, ...], expected: str) -> None:
        _, aggregates = self._expression(sql, columns)
        if aggregates:
            self._fail(f"{sql!r}: the aggregate {aggregates[0]} may not stand here, expected {expected}")
        self._bound(sql, columns, kinds, expected)
        # A macro may hide an aggregate: only where the expression will stand does the binder see it.
        self._type(sql, f"count({sql})", columns)

    def _expression(self, sql: str, columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
        """The parsed expression and the aggregates in it; it is one expression however it is spliced in."""
        if "{" in sql:
            self._fail(f"{sql!r}: a brace may not stand here")
        tree: dict[str, Any] = {}
        for text in (f"SELECT ({sql}) AS {VALUE} FROM {ROWS}", f"SELECT {sql} AS {VALUE} FROM {ROWS}"):
            tree = self._parsed(sql, text)
        aggregates = []
        for node in _nodes(tree):
            name = node.get("function_name", "")
            if node["class"] in ("SUBQUERY", "WINDOW", "PARAMETER", "STAR", "DEFAULT", "POSITIONAL_REFERENCE"):
                self._fail(f"{sql!r}: a {node['class'].lower().replace('_', ' ')} may not stand here")
            if node["class"] == "COLUMN_REF" and ".".join(node["column_names"]) not in columns:
                unknown = ".".join(node["column_names"])
                self._fail(f"{sql!r}: no column {unknown}{near(unknown, columns)}; they are {', '.join(columns)}")
            if node["class"] == "FUNCTION" and (name in self._functions["aggregate"] or name == "count_star"):
                aggregates.append(name)
            if name in self._functions["moving"]:
                self._fail(f"{sql!r}: {name} differs from run to run")
        return tree, aggregates

    @cached_property
    def _functions(self) -> dict[str, set[str]]:
        """Names of the engine's aggregates, and of functions whose value differs from run to run."""
        known = self.con.execute("SELECT DISTINCT function_name, function_type, stability FROM duckdb_functions()").fetchall()
        return {
            "aggregate": {name for name, kind, _ in known if kind == "aggregate"},
            "moving": {name for name, kind, stability in known if kind == "scalar" and stability not in (None, "CONSISTENT")},
        }

    def _parsed(self, sql: str, text: str) -> dict[str, Any]:
        found = json.loads(self.con.execute("SELECT json_serialize_sql(?)", [text]).fetchall()[0][0])
        if found["error"]:
            self._fail(f"{sql!r}: {_line(found['error_message'])}")
        nodes = [statement["node"] for statement in found["statements"]]
        if len(nodes) != 1 or not _is_plain(nodes[0]):
            self._fail(f"{sql!r}: expected one expression and nothing else")
        tree: dict[str, Any] = nodes[0]["select_list"][0]
        return tree

    def _bound(self, sql: str, columns: Mapping[str, str], kinds: tuple[str, ...], expected: str) -> None:
        found = self._type(sql, sql, columns)
        if found not in kinds:
            self._fail(f"{sql!r} gives {found}: expected {expected}")

    def _type(self, sql: str, text: str, columns: Mapping[str, str]) -> str:
        """The type of what stands in `text`, of which `sql` is the user's part."""
        import duckdb

        rows = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
        try:
            query = f"DESCRIBE SELECT {text} AS {VALUE} FROM (SELECT {rows} WHERE false) AS {ROWS}"
            return str(self.con.execute(query).fetchall()[0][1])
        except duckdb.Error as error:
            self._fail(f"{sql!r}: {_line(str(error))}")

    def _fail(self, why: str) -> NoReturn:
        raise ModelError(f"{self.where}: {self.entry} {why}")


def _is_plain(node: Mapping[str, Any]) -> bool:
    """Whether a SELECT has our one value from our one table and no clause more."""
    chosen, source = node.get("select_list", ()), node.get("from_table", {})
    clauses = (node.get(name) for name in ("where_clause", "having", "qualify", "sample", "group_expressions", "modifiers"))
    return (
        node["type"] == "SELECT_NODE"
        and len(chosen) == 1 and chosen[0].get("alias") == VALUE
        and source.get("type") == "BASE_TABLE" and source.get("table_name") == ROWS and not source.get("alias")
        and not any(clauses)
    )  # fmt: skip


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every expression in a parsed one, itself included."""
    if isinstance(tree, dict):
        if "class" in tree:
            yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _line(message: str) -> str:
    """The engine's message without its drawing of the place, in one line, and without our names."""
    told = re.split(r"\n\s*\n|\nLINE ", message.strip())[0]
    return " ".join(told.replace(f"{ROWS}.", "").split())
