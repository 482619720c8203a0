"""Glue's shape of our tables: pure functions from columns, model and lake to the inputs of its calls.

The shape is the one that Athena, Spark, Trino and awswrangler read alike: external Parquet tables, columns
by name, partition keys `int` and absent from the files. A partition's values are the zero-padded ones of its path: whatever
crawler or MSCK REPAIR anyone runs finds the same values and adds nothing twice. Not here: what is called when (`plan`, `glue`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any

from engagement.model import schemas, units
from engagement.model.model import Model

TYPES = {
    "text": "string",
    "texts": "array<string>",
    "instant": "timestamp",
    "int32": "int",
    "int64": "bigint",
    "double": "double",
    "bool": "boolean",
}
"""Kind of a column -> Hive type."""
LONGEST_COMMENT = 255
SCHEMA = "engagement.schema"
"""Table parameter: tells schemas apart, so that a change of ours is known from one that somebody made by hand."""
_FORMAT = "org.apache.hadoop.hive.ql.io.parquet."
_FORMATS = {
    "InputFormat": f"{_FORMAT}MapredParquetInputFormat",
    "OutputFormat": f"{_FORMAT}MapredParquetOutputFormat",
    "SerdeInfo": {"SerializationLibrary": f"{_FORMAT}serde.ParquetHiveSerDe", "Parameters": {"serialization.format": "1"}},
}
_RANGES = {"month": "1,12", "day": "1,31", "hour": "0,23"}
_PARTITION = {
    table: re.compile("/".join([re.escape(table), *(rf"{key}=(\d+)" for key in keys), r"[^/]+\.parquet"]))
    for table, keys in schemas.PATH_KEYS.items()
}

Values = tuple[str, ...]
"""A partition: its path keys' values, zero-padded as in the path."""


def table_inputs(place: str, model: Model, retired: Mapping[str, str], projected: tuple[date, date] | None) -> dict[str, dict[str, Any]]:
    """Folder of each table -> TableInput. `place` is the lake's URL; `projected` the first and last day of partition projection."""
    return {table: _table(place, table, model, retired, projected) for table in schemas.NAMES}


def _table(place: str, table: str, model: Model, retired: Mapping[str, str], projected: tuple[date, date] | None) -> dict[str, Any]:
    keys = [{"Name": key, "Type": "int", "Comment": schemas.KEY_COMMENTS[key]} for key in schemas.PATH_KEYS[table]]
    columns = _columns(table, model, retired)
    parameters = {"EXTERNAL": "TRUE", "classification": "parquet", SCHEMA: _digest([columns, keys])}
    if projected:
        parameters |= _projection(place, table, projected)
    return {
        "Name": schemas.NAMES[table],
        "Description": schemas.DESCRIPTIONS[table],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": parameters,
        "PartitionKeys": keys,
        "StorageDescriptor": {"Columns": columns, "Location": f"{place}/{table}/", **_FORMATS},
    }


def _columns(table: str, model: Model, retired: Mapping[str, str]) -> list[dict[str, str]]:
    columns = [(name, TYPES[column.kind], column.comment) for name, column in schemas.columns(table, model).items()]
    if table == units.BIG_TABLE:  # without it rows of single values would pass for rows over all of them
        columns += [(name, "string", f"declared no more: read only rows where it is null or {word}") for name, word in retired.items()]
    return [{"Name": name, "Type": kind, "Comment": _short(comment)} for name, kind, comment in columns]


def _short(comment: str) -> str:
    return comment if len(comment) <= LONGEST_COMMENT else f"{comment[: LONGEST_COMMENT - 1]}…"


def _projection(place: str, table: str, days: tuple[date, date]) -> dict[str, str]:
    """Parameters by which Athena computes the partitions instead of asking for them."""
    keys = schemas.PATH_KEYS[table]
    path = "/".join(f"{key}=${{{key}}}" for key in keys)
    found = {"projection.enabled": "true", "storage.location.template": f"{place}/{table}/{path}/"}
    for key in keys:
        found[f"projection.{key}.type"] = "integer"
        found[f"projection.{key}.range"] = _RANGES.get(key, f"{days[0].year},{days[1].year}")
        found[f"projection.{key}.digits"] = "4" if key == "year" else "2"
    return found


def is_ours(parameter: str) -> bool:
    """Whether a table's parameter is written here; all others are left as they are."""
    return parameter in ("EXTERNAL", "classification", "storage.location.template", SCHEMA) or parameter.startswith("projection.")


def partition_input(table: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """PartitionInput of one partition of a table (its TableInput)."""
    storage = table["StorageDescriptor"]
    path = "/".join(f"{key['Name']}={value}" for key, value in zip(table["PartitionKeys"], values, strict=True))
    columns = [{"Name": column["Name"], "Type": column["Type"]} for column in storage["Columns"]]
    return {"Values": list(values), "StorageDescriptor": storage | {"Columns": columns, "Location": f"{storage['Location']}{path}/"}}


def partitions_of(keys: Iterable[str]) -> dict[str, set[Values]]:
    """Folder of each table -> partitions of these objects; objects that lie beside the partitions are of none."""
    found: dict[str, set[Values]] = {table: set() for table in schemas.NAMES}
    for key in keys:
        for table, pattern in _PARTITION.items():
            if match := pattern.fullmatch(key):
                found[table].add(match.groups())
    return found


def folder_of(table: str, values: Values) -> str:
    """Folder of a partition's objects in the lake."""
    return "/".join([table, *(f"{key}={value}" for key, value in zip(schemas.PATH_KEYS[table], values, strict=True))])


def digest(inputs: Mapping[str, Any]) -> str:
    """Tells sets of tables apart: what was written under one need not be looked at again."""
    return _digest(inputs)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:12]
