"""The declared model: promoted columns, dimensions, session facts and metrics, read from TOML as plain data.

`built_in.toml` declares what every lake has; a `model.toml` of the user adds to it in the same form
(docs/custom-metrics.md). Here names, kinds and references are checked. What an expression may say is checked by
the engine itself (`expressions`), what the SQL makes of it stands in `rendering`, the columns that follow in `schemas`.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal, NoReturn

from engagement.errors import PermanentError

BUILT_IN = Path(__file__).parent / "built_in.toml"
MOST_DIMENSIONS = 6
"""Every row of the big table stands for 2^n subsets: six dimensions are 64."""

OTHER = "OTHER"
Kind = Literal["additive", "distinct", "median", "ratio"]
TYPES = ("text", "int64", "double", "bool", "instant")

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_KEYS = {"additive": ("of", "sql"), "distinct": ("where",), "median": ("sql", "scale"), "ratio": ("numerator", "denominator", "scale")}
_ALL = re.compile(r"ALL_[A-Z0-9_]{1,60}")


class ModelError(PermanentError):
    """The model file cannot be used; names the entry, what was found and what was expected."""


@dataclass(frozen=True, slots=True)
class Promoted:
    """A value of `properties` that is a column of `events`; null where the text does not fit the type."""

    name: str
    path: tuple[str, ...]
    type: str
    comment: str
    built_in: bool = False


@dataclass(frozen=True, slots=True)
class Dimension:
    """What metrics are cut by: a text column of `events`, and the word of its rows over all values."""

    name: str
    column: str
    all: str
    comment: str
    built_in: bool = False


@dataclass(frozen=True, slots=True)
class Fact:
    """An additive count of a session's events: kept a fragment, added a session."""

    name: str
    sql: str
    comment: str
    built_in: bool = False


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the big table.

    additive: an integer sum over event rows, or over rows of sessions that started in the period (`of`).
    distinct: users with at least one event for which `where` holds (empty: any event); never added (R8).
    median: of an integer of each session, exact. ratio: one metric by another. Both are divided by `scale`.
    """

    name: str
    kind: Kind
    comment: str
    of: Literal["events", "sessions"] = "events"
    sql: str = ""
    where: str = ""
    numerator: str = ""
    denominator: str = ""
    scale: int = 1
    hidden: bool = False
    """A step on the way to a ratio, no column."""
    built_in: bool = False


@dataclass(frozen=True, eq=False)
class Model:
    """Everything declared, by name, built-in entries first."""

    columns: Mapping[str, Promoted] = field(default_factory=dict)
    dimensions: Mapping[str, Dimension] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    digest: str = ""
    """Tells models apart; stands in the footer of what was made with one (R10). Comments and order do not count."""

    @property
    def all_words(self) -> dict[str, str]:
        """Dimension -> the word of its rows over all values."""
        return {name: dimension.all for name, dimension in self.dimensions.items()}

    @property
    def reserved(self) -> tuple[str, ...]:
        """Words that no dimension may have as a value: sent ones count as UNKNOWN."""
        return (*self.all_words.values(), OTHER)

    @property
    def additive(self) -> tuple[str, ...]:
        """Columns of the big table that add up: every ALL row is the sum of its parts."""
        return tuple(metric.name for metric in self.chosen("additive") if not metric.hidden)

    @property
    def shown(self) -> tuple[Metric, ...]:
        """The metrics that are columns of the big table, in order."""
        return tuple(metric for metric in self.metrics.values() if not metric.hidden)

    def chosen(self, kind: Kind, of: str | None = None) -> tuple[Metric, ...]:
        """Metrics of one kind, hidden ones too; `of` chooses additive ones by their rows."""
        return tuple(metric for metric in self.metrics.values() if metric.kind == kind and of in (None, metric.of))


@cache
def built_in() -> Model:
    """The model without anything of the user's."""
    return parse(BUILT_IN.read_text(), str(BUILT_IN.name), Model())


def parse(text: str, where: str, base: Model | None = None) -> Model:
    """`base` (the built-in model unless given) with what the TOML text adds; `where` names the file in messages.

    Raises ModelError.
    """
    base = built_in() if base is None else base
    return _Reader(where, base, own=base.digest == "").read(text)


class _Reader:
    """One file on its way to a model."""

    def __init__(self, where: str, base: Model, *, own: bool) -> None:
        self._where, self._base, self._own = where, base, own
        self._entry = ""

    def read(self, text: str) -> Model:
        try:
            raw = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ModelError(f"{self._where}: not readable as TOML: {error}") from error
        readers = {"columns": self._column, "dimensions": self._dimension, "session_facts": self._fact, "metrics": self._metric}
        self._known("the file", raw, readers)
        found: dict[str, dict[str, Any]] = {}
        for section, reader in readers.items():
            entries = raw.get(section, {})
            standing = dict(getattr(self._base, section.removeprefix("session_")))
            if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
                raise ModelError(f"{self._where}: expected tables [{section}.NAME]")
            for name, entry in entries.items():
                self._entry = f"[{section}.{name}]"
                if not _NAME.fullmatch(name):
                    self._fail("a name is small letters, digits and _, beginning with a letter, at most 63")
                if name in standing:
                    self._fail("is built in already: choose another name")
                standing[name] = reader(name, entry)
            found[section] = standing
        model = Model(found["columns"], found["dimensions"], found["session_facts"], found["metrics"])
        self._references(model)
        return Model(model.columns, model.dimensions, model.facts, model.metrics, _digest(model))

    def _column(self, name: str, entry: dict[str, Any]) -> Promoted:
        self._known(self._entry, entry, ("from", "type", "comment"))
        path = self._text(entry, "from").split(".")
        if path[0] != "properties" or len(path) < 2 or not all(path) or re.search(r"[\"'\\\x00-\x1f]", entry["from"]):
            self._fail(f"from = {entry['from']!r}: expected a path into the properties, as properties.cart.value")
        return Promoted(name, tuple(path[1:]), self._one_of(entry, "type", TYPES), self._comment(entry), self._own)

    def _dimension(self, name: str, entry: dict[str, Any]) -> Dimension:
        self._known(self._entry, entry, ("column", "all", "comment"))
        word = self._text(entry, "all")
        if not _ALL.fullmatch(word):
            self._fail(f"all = {word!r}: expected a word like ALL_REGIONS")
        return Dimension(name, self._text(entry, "column"), word, self._comment(entry), self._own)

    def _fact(self, name: str, entry: dict[str, Any]) -> Fact:
        self._known(self._entry, entry, ("sql", "comment"))
        return Fact(name, self._text(entry, "sql"), self._comment(entry), self._own)

    def _metric(self, name: str, entry: dict[str, Any]) -> Metric:
        kind: Any = self._one_of(entry, "kind", _KEYS)
        self._known(f"{self._entry} (kind {kind})", entry, ("kind", "comment", "hidden", *_KEYS[kind]))
        hidden = entry.get("hidden", False)
        if not isinstance(hidden, bool):
            self._fail(f"hidden = {hidden!r}: expected true or false")
        of: Any = self._one_of(entry, "of", ("events", "sessions")) if kind == "additive" else "sessions" if kind == "median" else "events"
        return Metric(
            name, kind, "" if hidden else self._comment(entry), of,
            sql=self._text(entry, "sql") if "sql" in _KEYS[kind] else "",
            where=self._text(entry, "where") if "where" in entry else "",
            numerator=self._text(entry, "numerator") if kind == "ratio" else "",
            denominator=self._text(entry, "denominator") if kind == "ratio" else "",
            scale=self._scale(entry), hidden=hidden, built_in=self._own,
        )  # fmt: skip

    def _references(self, model: Model) -> None:
        """Ratios are of metrics that stand; every ALL word is one dimension's own."""
        if len(model.dimensions) > MOST_DIMENSIONS:
            raise ModelError(f"{self._where}: {len(model.dimensions)} dimensions; {MOST_DIMENSIONS} are the most (each doubles the rows)")
        words = list(model.all_words.values())
        for name, word in model.all_words.items():
            self._entry = f"[dimensions.{name}]"
            if words.count(word) > 1:
                self._fail(f"all = {word!r} is another dimension's word")
        countable = {name for name, metric in model.metrics.items() if metric.kind in ("additive", "distinct")}
        for metric in model.chosen("ratio"):
            self._entry = f"[metrics.{metric.name}]"
            for key, name in (("numerator", metric.numerator), ("denominator", metric.denominator)):
                if name not in countable:
                    self._fail(f"{key} = {name!r}: expected the name of an additive or distinct metric{near(name, countable)}")

    def _known(self, what: str, entry: Mapping[str, Any], valid: Iterable[str]) -> None:
        for key in entry:
            if key not in valid:
                raise ModelError(f"{self._where}: {what}: unknown {key!r}; valid are {', '.join(valid)}")

    def _one_of(self, entry: Mapping[str, Any], key: str, valid: Iterable[str]) -> str:
        found = self._text(entry, key)
        if found not in valid:
            self._fail(f"{key} = {found!r}: expected one of {', '.join(valid)}")
        return found

    def _text(self, entry: Mapping[str, Any], key: str) -> str:
        found = entry.get(key)
        if not isinstance(found, str) or not found.strip():
            self._fail(f"{key} is missing" if found is None else f"{key} = {found!r}: expected a text")
        return found

    def _comment(self, entry: Mapping[str, Any]) -> str:
        return " ".join(self._text(entry, "comment").split())

    def _scale(self, entry: Mapping[str, Any]) -> int:
        found = entry.get("scale", 1)
        if type(found) is not int or not 1 <= found <= 10**12:
            self._fail(f"scale = {found!r}: expected a whole number from 1 to 10^12")
        return found

    def _fail(self, why: str) -> NoReturn:
        raise ModelError(f"{self._where}: {self._entry} {why}")


def near(name: str, valid: Iterable[str]) -> str:
    """`; nearest: …` for a message, or nothing."""
    found = difflib.get_close_matches(name, list(valid), n=2)
    return f"; nearest: {', '.join(found)}" if found else ""


def canonical(model: Model) -> dict[str, Any]:
    """What rows depend on, as JSON values: everything but comments and order."""
    return {
        "columns": {name: [*item.path, item.type] for name, item in model.columns.items()},
        "dimensions": {name: [item.column, item.all] for name, item in model.dimensions.items()},
        "session_facts": {name: item.sql for name, item in model.facts.items()},
        "metrics": {
            name: [item.kind, item.of, item.sql, item.where, item.numerator, item.denominator, item.scale, item.hidden]
            for name, item in model.metrics.items()
        },
    }


def _digest(model: Model) -> str:
    return hashlib.sha256(json.dumps(canonical(model), sort_keys=True).encode()).hexdigest()[:12]
