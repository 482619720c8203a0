"""Names of run tags that sensors set and assets read. What each value means stands beside its name."""

LANE = "engagement/lane"
"""live, late, day, backfill, maintenance or quality: at most one run a lane (dagster.yaml)."""

UNITS = "engagement/units"
"""`hours/FIRST/LAST` or `days/FIRST/LAST`, ISO instants, both included: what a run was asked for."""

FAILED = "engagement/failed"
"""Comma-separated ISO instants: the units that the run itself named as failed; empty where it failed for another reason."""

REBUILD = "engagement/rebuild"
"""`true`: make the units from raw alone."""

BACKFILL_OF = "engagement/backfill"
"""`FIRST/LAST/ASSETS`: the days of the backfill that the run is a part of, and its assets, or `all`."""
BACKFILL_SINCE, BACKFILL_BEGAN = "engagement/backfill_since", "engagement/backfill_began"
"""ISO instants: when that backfill was first asked for, and when the attempt that the run belongs to was."""

RANGE_START, RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
"""Dagster's own: partition keys of a range run, both included."""

BACKFILL = "dagster/backfill"
"""Dagster's own: set on runs of a backfill from the UI."""

OWN_PROCESS = "RUNS_HAVE_PROCESSES"
"""No tag but a variable of the environment: the code server sets it for the runs that it forks."""
