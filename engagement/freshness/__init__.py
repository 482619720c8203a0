"""How old the data of each asset is, and what its SLA says of that: on data time, from the lake and the log.

Dagster's own badge tells when an asset was last made; a backfill of old hours turns it green. What is here does not:
it asks which records the asset lacks. Who shows or tells it (`status`, the page, the exporter) stands elsewhere.
"""
