"""Lineage of columns, read from the SQL itself: complete, of columns that exist, and right where a person would check it."""

from __future__ import annotations

import pytest

from engagement.model import schemas, units
from engagement.model.model import built_in
from engagement.tables import lineage

MODEL = built_in()


def known(table):
    if table == lineage.RAW:
        return set(schemas.raw())
    if table == lineage.REFERENCE:
        return {"model", "device_name"}
    return set(schemas.columns(table, MODEL))


@pytest.mark.parametrize("table", lineage.INPUTS)
def test_every_column_has_a_lineage_of_columns_that_exist(table):
    found = lineage.columns(table, MODEL)
    assert set(found) == set(schemas.columns(table, MODEL))
    for behind in found.values():
        assert all(column in known(source) for source, column in behind)
        assert all(source in lineage.INPUTS[table].values() and source != table for source, _ in behind)


@pytest.mark.parametrize(
    ("table", "column", "behind"),
    [
        (units.EVENTS, "event_id", {(lineage.RAW, "event_id")}),
        (units.EVENTS, "device_type", {(lineage.RAW, "device_type"), (lineage.RAW, "device_model")}),
        (units.EVENTS, "device_name", {(lineage.REFERENCE, "device_name")}),
        (units.EVENTS, "screen", {(lineage.RAW, "properties")}),
        (units.FRAGMENTS, "country", {(units.EVENTS, "country")}),
        (units.FRAGMENTS, "event_count", set()),
        (units.ACTIVITY, "new_users", {(units.EVENTS, "event_type")}),
        (units.SESSIONS, "duration_seconds", {(units.FRAGMENTS, "started_at"), (units.FRAGMENTS, "ended_at")}),
        (units.BIG_TABLE, "bounce_rate", {(units.SESSIONS, "is_bounce")}),
        (units.BIG_TABLE, "country", {(units.ACTIVITY, "country"), (units.SESSIONS, "country")}),
        (units.BIG_TABLE, "active_users", set()),
    ],
)
def test_a_column_comes_from(table, column, behind):
    assert set(lineage.columns(table, MODEL)[column]) == behind


def test_only_counts_of_rows_come_from_nothing():
    nothing = {(table, column) for table in lineage.INPUTS for column, behind in lineage.columns(table, MODEL).items() if not behind}
    assert nothing == {
        (units.FRAGMENTS, "event_count"), (units.ACTIVITY, "total_events"), (units.BIG_TABLE, "hour"),
        (units.BIG_TABLE, "total_sessions"), (units.BIG_TABLE, "active_users"),
    }  # fmt: skip
