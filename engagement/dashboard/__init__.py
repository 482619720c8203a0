"""The page: what it shows (`data`), how fresh that is (`freshness`), and the Streamlit script (`app`).

Reads the lake through the views for people and writes nothing into it. Numbers are never computed here:
every one stands in `daily_aggregates_with_dimensions`, with its ALL_… level, because distinct counts
cannot be added (R8).
"""
