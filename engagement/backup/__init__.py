"""Copies of what cannot be made again, and a lake from such a copy (`engagement backup`, `engagement restore`).

A backup holds the log (raw objects that no archive part covers, and all parts), whatever else of the lake is no table,
the tables of final days, whose log retention took, and Dagster's own state. Everything else is made again from it (R10).
Keys are those of the lake, so a plain copy of a backup's folder is a lake too. No secret is in it.
"""
