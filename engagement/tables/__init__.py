"""The tables: SQL files and their builders, footers of units, publication, views.

Every table is cut into units; each unit is one object that is replaced whole (R4). Which tables and columns there are
stands in `engagement.model`, what waits in `engagement.waiting`. Nothing here knows Dagster; the assets and the command
line call the same functions.
"""
