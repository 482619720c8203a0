"""`raw_archive`: immutable parts of an ingest day's raw objects (R5), written by the maintenance run, which reports them.

It is no asset that Dagster can be asked to make: what is due is told from the lake, and a part that is there is never
written again.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any

from dagster import (
    AssetMaterialization,
    AssetSpec,
    MetadataValue,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

from engagement.model import schemas
from engagement.raw.archive import Written
from engagement.raw.coverage import ARCHIVE
from engagement_assets.common import TABLE_NAME
from engagement_assets.partitions import Partitions
from engagement_assets.raw import RAW_EVENTS
from resources.names import day_key

RAW_ARCHIVE = "raw_archive"


def specs(partitions: Partitions) -> list[AssetSpec]:
    """The external asset of the archive, partitioned by ingest day."""
    columns = schemas.raw() | {"headers": "STRUCT(name VARCHAR, value BLOB)[]", "payload": "BLOB", "key": "BLOB"}
    lineage = {name: [TableColumnDep(RAW_EVENTS, name)] for name in columns}
    return [
        AssetSpec(
            RAW_ARCHIVE,
            deps=[RAW_EVENTS],
            description="Whole raw objects of closed ingest hours in few large immutable parts, each record once, in total order (R5). "
            "By ingest day.",
            partitions_def=partitions.days,
            group_name="raw",
            kinds={"parquet"},
            metadata={
                TABLE_NAME: ARCHIVE,
                "dagster/column_schema": TableSchema(columns=[TableColumn(name, kind) for name, kind in columns.items()]),
                "dagster/column_lineage": TableColumnLineage(lineage),
            },
        )
    ]


def materializations(parts: Iterable[Written]) -> list[AssetMaterialization]:
    """One materialization an ingest day, over the parts that a run has written of it (R11)."""
    by_day: dict[date, list[Written]] = {}
    for part in parts:
        by_day.setdefault(part.name.day, []).append(part)
    return [AssetMaterialization(RAW_ARCHIVE, partition=day_key(day), metadata=_metadata(found)) for day, found in sorted(by_day.items())]


def _metadata(parts: list[Written]) -> dict[str, Any]:
    offsets: dict[str, int] = {}
    for part in parts:
        for label, end in part.offsets.items():
            offsets[label] = max(end, offsets.get(label, 0))
    first = [part.first_received_at for part in parts if part.first_received_at]
    last = [part.last_received_at for part in parts if part.last_received_at]
    return {
        "dagster/partition_row_count": sum(part.rows for part in parts),
        "bytes": sum(part.bytes_out for part in parts),
        "parts_written": len(parts),
        "parts": MetadataValue.json([part.name.key for part in parts]),
        "raw_objects": sum(part.objects for part in parts),
        "raw_bytes": sum(part.bytes_in for part in parts),
        "erased_on_the_way": sum(part.erased for part in parts),
        "raw_offsets": MetadataValue.json(offsets),
        "first_received_at": min(first).isoformat() if first else "",
        "last_received_at": max(last).isoformat() if last else "",
    }
