"""Upkeep of a lake: the maintenance run, retention, lifecycle rules of a bucket, left-overs, and how big each layer is.

Nothing here makes rows. What is archived, expired or catalogued is decided by those rooms; here they are called in order.
"""
