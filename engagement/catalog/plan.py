"""What has to change in Glue: pure comparisons of what should be there with what is there.

Only what is compatible is ever planned: new columns, columns that are gone, wider numbers, comments. A table that is not this
lake's, or whose column changed its type, is refused in one line and stays as it is. Not here: the calls (`glue`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engagement.catalog import shape
from engagement.catalog.shape import Values
from engagement.errors import PermanentError

_WIDER = {("int", "bigint"), ("float", "double"), ("smallint", "int"), ("smallint", "bigint")}
_KEPT = ("Owner", "Retention", "TargetTable", "ViewOriginalText", "ViewExpandedText")
"""Parts of a table that are not ours and that an update would else drop."""


class CannotReconcile(PermanentError):
    """A table in Glue cannot be brought in step without harm; the text says why and the way out. Nothing was done to it."""


@dataclass(frozen=True, slots=True)
class TableChange:
    """What to call for one table: nothing, a creation or an update; `drift` says what differed."""

    create: dict[str, Any] | None = None
    update: dict[str, Any] | None = None
    columns: bool = False
    """Whether names or types of columns change, so that partitions have to follow."""
    drift: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class PartitionChanges:
    """Partitions to add, to write anew and to remove; `drift` says what differed of those that were there."""

    add: list[Values] = field(default_factory=list)
    change: list[Values] = field(default_factory=list)
    remove: list[Values] = field(default_factory=list)
    drift: list[str] = field(default_factory=list)


def table_change(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> TableChange:
    """How to bring a table of Glue (None: there is none) to what is wanted (TableInput); raises CannotReconcile."""
    if found is None:
        return TableChange(create=dict(wanted))
    name, storage = wanted["Name"], found.get("StorageDescriptor", {})
    _require_this_lake(name, wanted["StorageDescriptor"]["Location"], storage.get("Location", ""))
    keys, found_keys = (_typed(table.get("PartitionKeys", [])) for table in (wanted, found))
    if list(keys.items()) != list(found_keys.items()):
        raise CannotReconcile(f"table {name} has the partition keys {_shown(found_keys)}, not {_shown(keys)}: {_drop(name)}")
    parameters = found.get("Parameters", {})
    columns, found_columns = _typed(wanted["StorageDescriptor"]["Columns"]), _typed(storage.get("Columns", []))
    if parameters.get(shape.SCHEMA) != wanted["Parameters"][shape.SCHEMA]:  # else it was ours and somebody edited it
        _require_compatible(name, columns, found_columns)
    ours = {key: value for key, value in parameters.items() if shape.is_ours(key)}
    drift = [*_column_drift(columns, found_columns), *_other_drift(wanted, found, ours)]
    if not drift:
        return TableChange()
    update = {key: found[key] for key in _KEPT if key in found} | dict(wanted)
    update["Parameters"] = {key: value for key, value in parameters.items() if not shape.is_ours(key)} | wanted["Parameters"]
    return TableChange(update=update, columns=columns != found_columns, drift=[f"{name}: {text}" for text in drift])


def partition_changes(table: Mapping[str, Any], wanted: Collection[Values], found: Sequence[Mapping[str, Any]]) -> PartitionChanges:
    """How to bring a table's partitions to those of the lake, from all that Glue has of it."""
    changes = PartitionChanges()
    there = {tuple(partition["Values"]): partition.get("StorageDescriptor", {}) for partition in found}
    changes.add.extend(sorted(set(wanted) - there.keys()))
    for values, storage in sorted(there.items()):
        if values not in wanted:
            changes.remove.append(values)
            continue
        right = shape.partition_input(table, values)["StorageDescriptor"]
        if storage.get("Location", "").rstrip("/") != right["Location"].rstrip("/"):
            changes.drift.append(f"{table['Name']} {'/'.join(values)}: lies at {storage.get('Location')}")
            changes.change.append(values)
        elif not _same_storage(storage, right):
            changes.change.append(values)
    return changes


def _require_this_lake(name: str, wanted: str, found: str) -> None:
    if found.rstrip("/") != wanted.rstrip("/"):
        msg = f"table {name} lies at {found or 'no place'}, not at {wanted}: it is another lake's, or somebody's own"
        raise CannotReconcile(f"{msg}; choose another ENGAGEMENT_GLUE_DATABASE, or drop the table if nobody needs it")


def _require_compatible(name: str, columns: Mapping[str, str], found: Mapping[str, str]) -> None:
    for column, kind in columns.items():
        old = found.get(column, kind)
        if old != kind and (old, kind) not in _WIDER:
            msg = f"table {name}: column {column} is {old} in Glue and {kind} now, which objects of both ages cannot be read as"
            raise CannotReconcile(f"{msg}; give the new column another name, or rebuild its history and then {_drop(name)}")


def _drop(name: str) -> str:
    return f"drop the table {name} in Glue, `engagement catalog mend` makes it anew"


def _column_drift(columns: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    lacking = [f"no column {name}" for name in columns if name not in found]
    wrong = [f"column {name} is {found[name]}, not {kind}" for name, kind in columns.items() if found.get(name, kind) != kind]
    foreign = [f"column {name} is not of the files" for name in found if name not in columns]
    order = ["columns in another order"] if not (lacking or foreign) and list(columns) != list(found) else []
    return [*lacking, *wrong, *foreign, *order]


def _other_drift(wanted: Mapping[str, Any], found: Mapping[str, Any], ours: Mapping[str, str]) -> list[str]:
    storage, right = found.get("StorageDescriptor", {}), wanted["StorageDescriptor"]
    names = _typed(right["Columns"]).keys() & _typed(storage.get("Columns", [])).keys()
    comments, found_comments = (
        [*_commented(table.get("PartitionKeys", [])), *(item for item in _commented(columns) if item[0] in names)]
        for table, columns in ((wanted, right["Columns"]), (found, storage.get("Columns", [])))
    )
    kind = found.get("TableType")
    return [
        *([] if sorted(comments) == sorted(found_comments) else ["comments of columns"]),
        *([] if found.get("Description", "") == wanted["Description"] else ["description"]),
        *([] if kind == wanted["TableType"] else [f"table type {kind}"]),
        *(f"parameter {key} is {ours.get(key)}" for key in sorted({*ours, *wanted["Parameters"]}) if _differs(key, ours, wanted)),
        *([] if _same_format(storage, right) else ["storage format"]),
    ]


def _differs(key: str, ours: Mapping[str, str], wanted: Mapping[str, Any]) -> bool:
    return bool(ours.get(key) != wanted["Parameters"].get(key))


def _same_storage(storage: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    return _same_format(storage, right) and _typed(storage.get("Columns", [])) == _typed(right["Columns"])


def _same_format(storage: Mapping[str, Any], right: Mapping[str, Any]) -> bool:
    library = storage.get("SerdeInfo", {}).get("SerializationLibrary")
    formats = [storage.get(name) for name in ("InputFormat", "OutputFormat")]
    return library == right["SerdeInfo"]["SerializationLibrary"] and formats == [right[name] for name in ("InputFormat", "OutputFormat")]


def _typed(columns: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {column["Name"]: column.get("Type", "") for column in columns}


def _commented(columns: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(column["Name"], column.get("Comment", "")) for column in columns]


def _shown(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {kind}" for name, kind in columns.items()) or "none"
