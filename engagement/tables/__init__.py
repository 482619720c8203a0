"""The tables: SQL files and their builders, units and their footers, publication, what waits, views.

Every table is cut into units; each unit is one object that is replaced whole (R4). Nothing here knows
Dagster; the assets and the command line call the same functions.
"""
