"""The raw log in the lake: names that are claims, footers, chains, and the one reader of them (R1-R3).

Raw rows are read through `reader` only. Nothing here knows Kafka or Dagster.
"""
