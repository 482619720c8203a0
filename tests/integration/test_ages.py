"""Objects of three ages read together: a column that is not there yet, one that is, one whose type has widened since."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engagement.contract import TimeWindow
from engagement.model import schemas, units
from engagement.model.model import parse
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.tables import engine
from engagement.waiting import refresh

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
TOPIC = ("session", "5e" * 16, 0)


def event(number, at):
    return oracle.RawEvent(
        event_id=f"0f8fad5b-d9cb-469f-a165-{number:012x}", user_id="u1", session_id="s1", event_type="tap", event_time=at,
        received_at=at, kafka_topic=TOPIC[0], kafka_topic_id=TOPIC[1], kafka_partition=0, kafka_offset=number,
        device_type="iPhone", device_model="iPhone15,3", app_version="1.0", country="DE", screen=None,
    )  # fmt: skip


def without(table, *names):
    return table.drop_columns(list(names))


def as_type(table, name, kind):
    place = table.schema.get_field_index(name)
    return table.set_column(place, pa.field(name, kind), table[name].cast(kind))


def write_raw(context, number, at, change):
    """One raw object with one event, its columns changed as another age of the writer would have them."""
    record = rows.Record(number, at, b"u1", lake_helpers.payload(event(number, at)))
    batch = rows.build(rows.Coordinates(*TOPIC), [record], TimeWindow.of(context.format.history_start, 10**9, None), 60)
    files.write(context.lake, topic_chain(*TOPIC), number, number + 1, replace(batch, table=change(batch.table)))


def ages_of_raw():
    return [
        lambda table: without(table, "session_id", "city", "device_model", "headers"),
        lambda table: table,
        lambda table: as_type(as_type(table, "kafka_partition", pa.int64()), "city", pa.large_string()),
    ]


@pytest.mark.parametrize("hours", [(0, 0, 0), (0, 1, 2)], ids=["in one hour", "an hour each"])
def test_raw_objects_of_three_ages_make_one_table(hours, tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        for number, (hour, change) in enumerate(zip(hours, ages_of_raw(), strict=True)):
            write_raw(context, number, HOUR + hour * units.HOUR + timedelta(minutes=number), change)
            refresh.until_nothing_waits(context)
        found = lake_helpers.table(context.settings, "SELECT session_id, device_model, kafka_partition FROM events ORDER BY event_time")
        assert [row["session_id"] for row in found] == [None, "s1", "s1"]
        assert [row["device_model"] for row in found] == [None, "iPhone15,3", "iPhone15,3"]
        assert {row["kafka_partition"] for row in found} == {0}
        assert lake_helpers.table(context.settings, "SELECT sum(event_count) AS n FROM sessions") == [{"n": 3}]
        before = lake_helpers.table(context.settings, "SELECT * FROM sessions ORDER BY started_at")
        refresh.hours(context, [HOUR + number * units.HOUR for number in sorted(set(hours))], rebuild=True)
        assert lake_helpers.table(context.settings, "SELECT * FROM sessions ORDER BY started_at") == before


def test_a_column_that_no_raw_object_has_yet_is_null(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        write_raw(context, 0, HOUR, ages_of_raw()[0])
        refresh.until_nothing_waits(context)
        assert lake_helpers.table(context.settings, "SELECT session_id, city FROM events") == [{"session_id": None, "city": None}]


def test_raw_columns_are_those_of_the_writer():
    names = set(rows.schema().names)
    assert names - set(schemas.raw()) == {"headers", "payload", "key"}
    assert schemas.raw()["event_time"] == "TIMESTAMP WITH TIME ZONE"


# Processed objects


@pytest.fixture(scope="module")
def three_hours(tmp_path_factory):
    """A lake of three hours with one event each, whose objects are then written as three ages of the code would have."""
    folder = tmp_path_factory.mktemp("ages")
    with lake_helpers.tables_of(folder) as context:
        for number in range(3):
            write_raw(context, number, HOUR + number * units.HOUR, lambda table: table)
        refresh.until_nothing_waits(context)
        ages = {
            units.EVENTS: (
                lambda table: without(table, "city", "screen"),
                lambda table: table,
                lambda table: as_type(as_type(table, "kafka_partition", pa.int64()), "kafka_offset", pa.int32()),
            ),
            units.ACTIVITY: (
                lambda table: without(table, "total_views"),
                lambda table: table,
                lambda table: as_type(as_type(table, "total_events", pa.int32()), "total_views", pa.float64()),
            ),
            units.SESSIONS: (
                lambda table: without(table, "installs", "is_automated"),
                lambda table: table,
                lambda table: as_type(as_type(table, "event_count", pa.int32()), "duration_seconds", pa.float32()),
            ),
        }
        for table, changes in ages.items():
            for number, change in enumerate(changes):
                path = context.lake.path(units.slot_key(table, HOUR + number * units.HOUR))
                changed = change(pq.ParquetFile(path).read())
                pq.write_table(changed, path)
    return lake_helpers.settings_of(folder)


@pytest.mark.parametrize("name", ["events", "user_activity", "sessions"])
def test_processed_objects_of_three_ages_have_the_declared_columns_and_types(name, three_hours):
    table = {found: folder for folder, found in schemas.NAMES.items()}[name]
    kinds = lake_helpers.table(three_hours, f"SELECT column_name, column_type FROM (DESCRIBE {name})")
    declared = schemas.duckdb_types(table) | dict.fromkeys(schemas.PATH_KEYS[table], "INTEGER")
    assert {row["column_name"]: row["column_type"] for row in kinds if row["column_name"] != "is_open"} == declared
    assert lake_helpers.table(three_hours, f"SELECT count(*) AS n FROM {name}") == [{"n": 3}]


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("SELECT city FROM events ORDER BY hour", [None, None, None]),
        ("SELECT kafka_offset FROM events ORDER BY hour", [0, 1, 2]),
        ("SELECT total_views FROM user_activity ORDER BY hour", [None, 0, 0]),
        ("SELECT total_events FROM user_activity ORDER BY hour", [1, 1, 1]),
        ("SELECT installs FROM sessions ORDER BY hour", [None, 0, 0]),
        ("SELECT duration_seconds FROM sessions ORDER BY hour", [0.0, 0.0, 0.0]),
    ],
)
def test_a_missing_value_is_null_and_a_widened_one_is_itself(query, values, three_hours):
    assert [next(iter(row.values())) for row in lake_helpers.table(three_hours, query)] == values


@pytest.mark.parametrize(
    ("kind", "values", "read"),
    [
        ("int64", [pa.array([7], pa.int32()), pa.array([8], pa.int64()), pa.array([9.0], pa.float64())], [7, 8, 9]),
        ("double", [pa.array([7], pa.int32()), pa.array([8.5], pa.float64()), pa.array([9], pa.int64())], [7.0, 8.5, 9.0]),
        ("text", [pa.array([7], pa.int32()), pa.array(["x"]), pa.array([True])], ["7", "x", "true"]),
        ("int64", [pa.array(["7"]), pa.array(["x"]), pa.array([8], pa.int64())], [7, None, 8]),
        ("bool", [pa.array(["true"]), pa.array(["maybe"]), pa.array([False])], [True, None, False]),
    ],
)
def test_a_promoted_column_whose_type_was_another_reads_as_what_it_is_now(kind, values, read, tmp_path):
    import duckdb

    model = parse(f"[columns.mine]\nfrom = 'properties.mine'\ntype = '{kind}'\ncomment = 'x'\n", "m")
    paths = []
    for number, value in enumerate([None, *values]):
        table = pa.table({"event_id": pa.array([str(number)])} | ({} if value is None else {"mine": value}))
        paths.append(tmp_path / f"{number}.parquet")
        pq.write_table(table, paths[-1])
    found = duckdb.execute(f"SELECT mine FROM {engine.relation(paths, units.EVENTS, model)} ORDER BY event_id").fetchall()
    assert [value for (value,) in found] == [None, *read]
