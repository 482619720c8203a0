"""Keeps the tables and partitions of one Glue database as the lake has them, with as few calls as that takes.

A tick whose partitions Glue has already makes no call: what was written is noted in the state folder. The note may be lost
or short: what Glue already has is a success. Only `mend` lists what Glue has, and only it removes.

Not here: what differs (`plan`), how a call is made (`calls`), what the tables look like (`shape`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engagement.catalog import plan, shape
from engagement.catalog.calls import ATTEMPTS, TRANSIENT, Calls, Exists, GlueUnavailable, NotFound
from engagement.catalog.noted import Noted
from engagement.catalog.plan import CannotReconcile
from engagement.catalog.report import Report
from engagement.catalog.shape import Values
from engagement.errors import PermanentError

MOST_CREATED = MOST_UPDATED = 100
MOST_DELETED = 25
"""Glue's own limits a call."""

DATABASE = "App engagement: events, sessions and aggregates, kept in step with the lake by engagement"
ListKeys = Callable[[str], Iterable[str]]
"""Keys of all objects of the lake below a folder, listed now."""


@dataclass(frozen=True, slots=True)
class Database:
    """A Glue database and what belongs in it."""

    name: str
    tables: Mapping[str, dict[str, Any]]
    """Folder of each table -> TableInput."""
    listed: bool
    """Whether partitions are entries; else Athena computes them."""

    @property
    def digest(self) -> str:
        """Tells apart what tables should look like."""
        return shape.digest(self.tables)


class GlueCatalog:
    """One database, seen through `calls`; fills in `report`. Every method raises CannotReconcile, GlueUnavailable, PermanentError."""

    def __init__(self, database: Database, calls: Calls, noted: Noted, report: Report) -> None:
        self._database, self._calls, self._noted, self._report = database, calls, noted, report
        self._of = {"DatabaseName": database.name}

    def refresh(self, keys: Iterable[str]) -> None:
        """Make the tables right if they were never looked at in their present form; add partitions that these objects need."""
        refused = self._tables() if self._noted.digest != self._database.digest else []
        wanted = shape.partitions_of(keys) if self._database.listed else {}
        for table, partitions in wanted.items():
            if table in self._refused(refused):
                continue
            new = sorted(partitions - self._noted.of(table))
            if not new:
                continue
            try:
                self._add(table, new)
            except NotFound:  # the table was dropped since it was noted; then all its partitions are gone
                self._noted.forget()
                refused = self._tables()
                self._add(table, new)
            self._noted.add(table, new)
        self._end(refused)

    def mend(self, list_keys: ListKeys) -> None:
        """Compare all tables and all partitions with the lake and put right what differs."""
        self._noted.forget()
        refused = self._tables()
        for table in self._database.tables if self._database.listed else ():
            if table not in self._refused(refused):
                self._mend_partitions(table, list_keys)
        self._end(refused)

    def _mend_partitions(self, table: str, list_keys: ListKeys) -> None:
        found = self._partitions(table)
        # The lake is listed after Glue: a partition that a run adds meanwhile has its object by then.
        wanted = shape.partitions_of(list_keys(table))[table]
        changes = plan.partition_changes(self._database.tables[table], wanted, found)
        remove = [values for values in changes.remove if not any(True for _ in list_keys(shape.folder_of(table, values)))]
        self._report.drift.extend(changes.drift)
        self._add(table, changes.add)
        self._update(table, changes.change)
        self._remove(table, remove)
        self._noted.add(table, sorted(wanted))

    def _refused(self, refused: Sequence[tuple[str, CannotReconcile]]) -> set[str]:
        return {table for table, _ in refused}

    def _end(self, refused: Sequence[tuple[str, CannotReconcile]]) -> None:
        self._noted.digest = "" if refused else self._database.digest
        self._noted.save()
        if refused:
            raise CannotReconcile("; ".join(str(error) for _, error in refused))

    def _tables(self) -> list[tuple[str, CannotReconcile]]:
        """Make every table right; returns those that could not be, untouched, with why."""
        refused = []
        for table, wanted in self._database.tables.items():
            try:
                change = plan.table_change(wanted, self._found(wanted["Name"]))
            except CannotReconcile as error:
                refused.append((table, error))
                continue
            if change.create:
                self._create(change.create)
            elif change.update:
                self._calls("update_table", TableInput=change.update, **self._of)
            else:
                continue
            self._report.tables_written.append(wanted["Name"])
            self._report.drift.extend(change.drift)
            if change.columns and self._database.listed:
                self._follow(table)
        return refused

    def _found(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._calls("get_table", Name=name, **self._of)["Table"]
        except NotFound:
            return None
        return found

    def _create(self, table: dict[str, Any]) -> None:
        try:
            self._create_table(table)
        except NotFound:
            with contextlib.suppress(Exists):
                self._calls("create_database", DatabaseInput={"Name": self._database.name, "Description": DATABASE})
            self._create_table(table)

    def _create_table(self, table: dict[str, Any]) -> None:
        try:
            self._calls("create_table", TableInput=table, **self._of)
        except Exists:  # by another process of ours; what it made is compared at the next mend
            return

    def _follow(self, table: str) -> None:
        """Give all partitions of a table its new columns: readers go by the partition's own."""
        found = self._partitions(table)
        there = [tuple(partition["Values"]) for partition in found]
        self._update(table, plan.partition_changes(self._database.tables[table], there, found).change)

    def _partitions(self, table: str) -> list[dict[str, Any]]:
        pages = self._calls.pages("get_partitions", TableName=self._name(table), MaxResults=1000, **self._of)
        try:
            return [partition for page in pages for partition in page["Partitions"]]
        except NotFound:  # a dry run has not made it
            return []

    def _add(self, table: str, partitions: Sequence[Values]) -> None:
        for some in _batches(partitions, MOST_CREATED):
            inputs = [self._input(table, values) for values in some]
            self._all(table, "batch_create_partition", "PartitionInputList", inputs, {"AlreadyExistsException"})
        self._report.partitions_added += len(partitions)

    def _update(self, table: str, partitions: Sequence[Values]) -> None:
        for some in _batches(partitions, MOST_UPDATED):
            entries = [{"PartitionValueList": list(values), "PartitionInput": self._input(table, values)} for values in some]
            self._all(table, "batch_update_partition", "Entries", entries, set())
        self._report.partitions_changed += len(partitions)

    def _remove(self, table: str, partitions: Sequence[Values]) -> None:
        for some in _batches(partitions, MOST_DELETED):
            self._all(
                table,
                "batch_delete_partition",
                "PartitionsToDelete",
                [{"Values": list(values)} for values in some],
                {"EntityNotFoundException"},
            )
        self._report.partitions_removed += len(partitions)

    def _all(self, table: str, call: str, argument: str, items: Sequence[dict[str, Any]], harmless: set[str]) -> None:
        """One batch call; what Glue refuses for the moment is asked for again, item by item told from the rest."""
        left = list(items)
        for attempt in range(ATTEMPTS):
            answer = self._calls(call, TableName=self._name(table), **self._of, **{argument: left})
            failed = {_values(error): error.get("ErrorDetail", {}) for error in answer.get("Errors", [])}
            failed = {values: why for values, why in failed.items() if why.get("ErrorCode") not in harmless}
            for values, why in failed.items():
                if why.get("ErrorCode") not in TRANSIENT:
                    raise PermanentError(
                        f"Glue {call}: {self._name(table)} {'/'.join(values)}: {why.get('ErrorCode')} {why.get('ErrorMessage')}"
                    )
            left = [item for item in left if _values(item) in failed]
            if not left:
                return
            self._calls.wait(attempt)
        raise GlueUnavailable(f"Glue {call}: {len(left)} partitions of {self._name(table)} were refused {ATTEMPTS} times in a row")

    def _input(self, table: str, values: Values) -> dict[str, Any]:
        return shape.partition_input(self._database.tables[table], values)

    def _name(self, table: str) -> str:
        return str(self._database.tables[table]["Name"])


def _values(item: Mapping[str, Any]) -> Values:
    """A partition's values, whatever the call names them."""
    found: Values = tuple(next(item[name] for name in ("Values", "PartitionValues", "PartitionValueList") if name in item))
    return found


def _batches(items: Sequence[Values], most: int) -> Iterable[Sequence[Values]]:
    return (items[start : start + most] for start in range(0, len(items), most))
