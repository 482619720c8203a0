"""Splices the declared model's lists into the SQL files, so that these read top to bottom and say what happens to each.

Three marks, and nothing else:

    {{dimensions}}            the names, comma-separated; `words` knows a few more
    sum({count.name}) AS …    a line that names a list stands once for each of its items
    -- {{each dimension}}     so do the lines up to `-- {{end}}`

What the lists hold stands in `lists`. `engagement sql TABLE` prints the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from engagement.model.model import Metric, Model, Promoted
from engagement.model.schemas import DUCKDB_TYPES

Items = Sequence[Mapping[str, str]]

_BLOCK = re.compile(r"^[ ]*-- \{\{each (\w+)\}\}\n(.*?)^[ ]*-- \{\{end\}\}\n", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"\{(\w+)\.(\w+)\}")
_WORD = re.compile(r"\{\{(\w+)\}\}")


def render(text: str, model: Model) -> str:
    """The SQL as it runs under this model; raises KeyError for a mark that names no list."""
    found = lists(model)
    words = {
        "dimensions": ", ".join(model.dimensions),
        "dimension_columns": ", ".join(item.column for item in model.dimensions.values()),
        "dimension_struct": "{" + ", ".join(f"'{item.name}': {item.column}" for item in model.dimensions.values()) + "}",
        "reserved": ", ".join(_literal(word) for word in model.reserved),
    }
    text = _BLOCK.sub(lambda block: "".join(_filled(block[2], block[1], item) for item in found[block[1]]), text)
    lines = (line for part in text.splitlines(keepends=True) for line in _repeated(part, found))
    return _WORD.sub(lambda mark: words[mark[1]], "".join(lines))


def lists(model: Model) -> dict[str, Items]:
    """The lists of a model: what each mark can name."""
    return {
        "dimension": [{"name": item.name, "column": item.column, "all": _literal(item.all)} for item in model.dimensions.values()],
        "column": [{"name": item.name, "sql": promoted(item, "a.properties")} for item in model.columns.values()],
        "fact": [{"name": item.name, "sql": _never_null(item.sql)} for item in model.facts.values()],
        "count": [{"name": item.name, "sql": _never_null(item.sql)} for item in model.chosen("additive", "events")],
        "flag": [{"name": item.name, "where": item.where} for item in model.chosen("distinct") if item.where],
        "distinct": [{"name": item.name, "only": f" FILTER ({item.name})" if item.where else ""} for item in model.chosen("distinct")],
        "session_sum": [{"name": item.name, "sql": _never_null(item.sql)} for item in model.chosen("additive", "sessions")],
        "median": [{"name": item.name, "sql": item.sql} for item in model.chosen("median")],
        "metric": [{"name": item.name, "sql": _value(item, model)} for item in model.shown],
    }


def promoted(column: Promoted, properties: str) -> str:
    """The value of a promoted column; null where it is absent or its text does not fit the type.

    A text is a JSON text and nothing else, as `screen` always was. Numbers must be finite, whole ones whole.
    """
    path = json_path(column)
    value = f"json_extract_string({properties}, {path})"
    if column.type == "text":
        fits, cast = f"json_type({properties}, {path}) = 'VARCHAR'", value
    else:
        cast = f"TRY_CAST({value} AS {DUCKDB_TYPES[column.type]})"
        fits = {
            "int64": f"regexp_full_match({value}, '[+-]?[0-9]+([.]0*)?')",
            "double": f"isfinite({cast})",
            "bool": f"{value} IN ('true', 'false')",
            "instant": f"regexp_matches({value}, '^[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}')",
        }[column.type]
    return f"CASE WHEN NOT json_valid({properties}) THEN NULL WHEN {fits} THEN {cast} END"


def unfit(column: Promoted, properties: str) -> str:
    """Whether a promoted column is null though the properties hold a value for it."""
    there = f"json_type({properties}, {json_path(column)}) <> 'NULL'"
    return f"CASE WHEN NOT json_valid({properties}) THEN false WHEN {there} THEN ({promoted(column, properties)}) IS NULL ELSE false END"


def json_path(column: Promoted) -> str:
    """The column's place in the properties, as a literal; every key quoted where it is not plain."""
    plain = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
    return _literal("$" + "".join(f".{key}" if plain.fullmatch(key) else f'."{key}"' for key in column.path))


def _never_null(aggregate: str) -> str:
    """A count is 0 where nothing is counted, a sum over no row is null."""
    return aggregate if aggregate.lower().startswith("count") else f"coalesce({aggregate}, 0)"


def _value(metric: Metric, model: Model) -> str:
    """A metric's expression over the two cubes: u of users, s of sessions (without a row where no session started)."""
    if metric.kind == "ratio":
        below = _value(model.metrics[metric.denominator], model)
        below = below if metric.scale == 1 else f"{below} * {metric.scale}"
        return f"CAST({_value(model.metrics[metric.numerator], model)} AS DOUBLE) / nullif({below}, 0)"
    if metric.kind == "median":
        return f"s.{metric.name} / {metric.scale}"
    return f"coalesce(s.{metric.name}, 0)" if metric.of == "sessions" else f"u.{metric.name}"


def _repeated(line: str, found: Mapping[str, Items]) -> list[str]:
    named = {mark[1] for mark in _MARK.finditer(line)} & found.keys()
    if not named:
        return [line]
    name = named.pop()
    return [_filled(line, name, item) for item in found[name]]


def _filled(text: str, name: str, item: Mapping[str, str]) -> str:
    return _MARK.sub(lambda mark: item[mark[2]] if mark[1] == name else mark[0], text)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
