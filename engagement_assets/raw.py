"""`raw_events`: written by the consumer, not by Dagster; the arrivals sensor reports its materializations."""

from __future__ import annotations

from dagster import AssetSpec

from engagement_assets.common import LIVE_SLA
from engagement_assets.partitions import Partitions


def specs(partitions: Partitions) -> list[AssetSpec]:
    """The external assets of the raw log, partitioned by ingest hour."""
    return [
        AssetSpec(
            "raw_events",
            description="Every record of the topics and of imports, one object a partition and flush (R1, R2). By ingest hour.",
            partitions_def=partitions.hours,
            group_name="raw",
            freshness_policy=LIVE_SLA,
            kinds={"kafka", "parquet"},
        )
    ]
