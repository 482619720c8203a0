"""Everything that knows nothing of Dagster: the lake, the raw log, the tables, ingest and the local stack.

Nothing here imports `engagement_assets`, `sensors`, `resources` or `quality`; only functions of
`engagement.cli` that start Dagster reach out to it (docs/decisions/0001-architecture.md).
"""
