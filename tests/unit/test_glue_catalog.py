"""Glue's tables and partitions follow the lake with few calls, within the service's limits, and never at another's cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import lake_helpers
import pytest
from fake_glue import FakeGlue, refused

from engagement import catalog
from engagement.catalog import calls, upkeep
from engagement.catalog.calls import Calls, GlueUnavailable
from engagement.catalog.plan import CannotReconcile
from engagement.errors import PermanentError
from engagement.lake import open_lake
from engagement.model import schemas, units
from engagement.verdicts import records

HOUR = datetime(2026, 1, 9, 8, tzinfo=UTC)
TABLES = sorted(schemas.NAMES.values())


class World:
    """A lake with objects that nobody reads, a Glue, and a state folder."""

    def __init__(self, folder, monkeypatch, **settings):
        self.folder, self.options = folder, {"catalog": "glue", **settings}
        self.settings = lake_helpers.settings_of(folder, **self.options)
        self.lake, _ = open_lake(self.settings)
        self.glue = FakeGlue()
        self.clients = 0
        self.pauses = []
        monkeypatch.setattr(calls, "client", self._client)
        monkeypatch.setattr(Calls, "wait", lambda _, attempt: self.pauses.append(attempt))

    def _client(self, _settings):
        self.clients += 1
        return self.glue

    def put(self, *hours):
        """The objects of these hours and their days; returns their keys."""
        keys = [units.slot_key(table, hour) for hour in hours for table in schemas.NAMES if table not in schemas.BY_DAY]
        days = {hour.date() for hour in hours}
        keys += [units.hours_key(day) for day in days]
        keys += [records.key_of(table, day) for table in (units.QUALITY_RESULTS, units.QUALITY_METRICS) for day in days]
        for key in keys:
            if self.lake.stat(key) is None:
                self.lake.put_new(key, b"rows")
        return keys

    def refresh(self, keys=None):
        return catalog.refresh(self.settings, self.lake, keys=keys)

    def mend(self):
        return catalog.mend(self.settings, self.lake)

    def other_state(self):
        """The same lake and Glue as a machine with an empty state folder sees them."""
        self.settings = replace(self.settings, state_dir=self.folder / "other")

    def partitions(self, table="events"):
        return sorted(self.glue.partitions[table])

    def assert_in_step(self):
        """Glue is as one that was made anew of the lake."""
        fresh, self.glue = self.glue, FakeGlue()
        self.mend()
        assert (fresh.tables, fresh.partitions) == (self.glue.tables, self.glue.partitions)
        self.glue = fresh


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_a_new_database_gets_every_table_and_partition_with_types_and_comments(world):
    report = world.refresh(world.put(HOUR))
    assert report.tables_written == [table["Name"] for table in upkeep.tables(world.settings, world.lake).values()]
    assert report.partitions_added == 7
    assert world.clients == 1
    assert sorted(world.glue.tables) == TABLES
    assert world.partitions() == [("2026", "01", "09", "08")]
    assert world.partitions("daily_aggregates_with_dimensions") == [("2026", "01", "09")]
    events = world.glue.tables["events"]
    columns = {column["Name"]: column for column in events["StorageDescriptor"]["Columns"]}
    assert list(columns) == list(schemas.columns(units.EVENTS))
    assert columns["event_time"] == {"Name": "event_time", "Type": "timestamp", "Comment": "when it happened"}
    assert [(key["Name"], key["Type"]) for key in events["PartitionKeys"]] == [(key, "int") for key in ("year", "month", "day", "hour")]
    place = (world.folder / "lake").as_uri()
    found = world.glue.partitions["events"]["2026", "01", "09", "08"]
    assert found["StorageDescriptor"]["Location"] == f"{place}/processed/app_events/year=2026/month=01/day=09/hour=08/"
    assert all(column["Comment"] for table in world.glue.tables.values() for column in table["StorageDescriptor"]["Columns"])


def test_a_tick_that_brings_no_new_partition_makes_no_call_and_no_client(world):
    keys = world.put(HOUR)
    world.refresh(keys)
    world.glue.calls.clear()
    clients = world.clients
    report = world.refresh(keys)
    assert (world.glue.calls, world.clients, report.calls, report.changed) == ({}, clients, {}, False)


def test_one_new_partition_of_a_table_is_one_call(world):
    world.refresh(world.put(HOUR))
    world.glue.calls.clear()
    report = world.refresh([key for key in world.put(HOUR + units.HOUR) if key.startswith(units.EVENTS)])
    assert world.glue.calls == report.calls == {"batch_create_partition": 1}
    assert world.partitions() == [("2026", "01", "09", "08"), ("2026", "01", "09", "09")]


def test_where_the_note_is_lost_nothing_is_listed_and_what_is_there_already_is_a_success(world):
    keys = world.put(HOUR)
    world.refresh(keys)
    world.other_state()
    world.glue.calls.clear()
    world.refresh(keys)
    assert world.glue.calls == {"get_table": 7, "batch_create_partition": 7}
    world.assert_in_step()


def test_a_year_of_hours_is_added_listed_and_removed_within_the_limits(world):
    hours = [HOUR + number * units.HOUR for number in range(8640)]
    keys = [units.slot_key(units.EVENTS, hour) for hour in hours]
    world.refresh([])
    world.glue.calls.clear()
    assert world.refresh(keys).partitions_added == 8640
    assert world.glue.calls == {"batch_create_partition": 87}
    world.glue.calls.clear()
    assert world.mend().partitions_removed == 8640, "none of them lies in the lake"
    assert world.glue.calls == {"get_table": 7, "get_partitions": 9 + 6, "batch_delete_partition": 346}
    assert world.partitions() == []


def test_throttling_is_waited_out_and_a_try_that_failed_is_counted(world):
    keys = world.put(HOUR)
    world.refresh([])
    world.glue.trouble = [refused("ThrottlingException"), refused("InternalServiceException", status=500), refused("Whatever", status=503)]
    report = world.refresh(keys)
    assert report.partitions_added == 7
    assert report.calls == {"batch_create_partition": 10}
    assert world.pauses == [0, 1, 2]


def test_throttling_without_end_is_given_up(world):
    world.glue.trouble = [refused("ThrottlingException")] * 100
    with pytest.raises(GlueUnavailable, match="Glue get_table: ThrottlingException, 8 times in a row"):
        world.refresh([])
    assert len(world.glue.trouble) == 92


def test_partitions_that_are_refused_for_the_moment_are_asked_for_again_alone(world):
    hours = [HOUR + number * units.HOUR for number in range(3)]
    world.refresh([])
    world.glue.item_trouble = {("2026", "01", "09", "09"): "InternalServiceException"}
    world.refresh([units.slot_key(units.EVENTS, hour) for hour in hours])
    assert [values[-1] for values in world.partitions()] == ["08", "09", "10"]
    assert world.glue.calls["batch_create_partition"] == 2


def test_a_partition_that_cannot_be_written_is_named(world):
    world.refresh([])
    world.glue.item_trouble = {("2026", "01", "09", "08"): "ResourceNumberLimitExceededException"}
    with pytest.raises(PermanentError, match="events 2026/01/09/08: ResourceNumberLimitExceededException"):
        world.refresh([units.slot_key(units.EVENTS, HOUR)])


def test_pauses_grow_to_a_bound():
    pauses = []
    glue = FakeGlue()
    glue.trouble = [refused("ThrottlingException")] * 99
    from collections import Counter

    with pytest.raises(GlueUnavailable):
        Calls(lambda: glue, Counter(), pauses.append)("get_table", DatabaseName="d", Name="t")
    assert len(pauses) == calls.ATTEMPTS - 1
    assert all(longest / 2 <= pause <= longest for pause, longest in zip(pauses, [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5], strict=True))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("AccessDeniedException", "Glue refuses get_table: .*the role needs glue:GetTable"),
        ("ExpiredTokenException", "credentials .ExpiredTokenException.: renew them"),
        ("InvalidInputException", "Glue get_table: .*InvalidInputException"),
    ],
)
def test_what_waiting_does_not_help_is_told_at_once_in_one_line(world, code, words):
    world.glue.trouble = [refused(code)]
    with pytest.raises(PermanentError, match=words) as caught:
        world.refresh([])
    assert "\n" not in str(caught.value)
    assert world.pauses == []


def edited(world, table="events"):
    """A table's entry in Glue, to be edited by hand."""
    return world.glue.tables[table]


def test_a_table_edited_by_hand_is_named_and_mended_and_what_others_added_is_kept(world):
    world.refresh(world.put(HOUR))
    table = edited(world)
    columns = table["StorageDescriptor"]["Columns"]
    columns[0]["Type"] = "int"
    columns.append({"Name": "mine", "Type": "string"})
    del columns[3]
    table["Description"] = "hello"
    table["Parameters"] |= {"classification": "csv", "owner": "me", "projection.enabled": "true"}
    table["Owner"] = "somebody"
    report = world.mend()
    assert report.drift == [
        "events: no column event_type",
        "events: column event_id is int, not string",
        "events: column mine is not of the files",
        "events: description",
        "events: parameter classification is csv",
        "events: parameter projection.enabled is true",
    ]
    assert report.tables_written == ["events"]
    assert (edited(world)["Parameters"].pop("owner"), edited(world).pop("Owner")) == ("me", "somebody")
    world.assert_in_step()


@pytest.mark.parametrize(
    "edit",
    [
        lambda storage: storage.update(InputFormat="org.apache.hadoop.mapred.TextInputFormat"),
        lambda storage: storage.update(SerdeInfo={"SerializationLibrary": "x"}),
        lambda storage: storage["Columns"].reverse(),
        lambda storage: storage["Columns"][2].update(Comment="wrong"),
    ],
)
def test_every_part_of_a_table_that_is_ours_is_looked_at(world, edit):
    world.refresh(world.put(HOUR))
    edit(edited(world)["StorageDescriptor"])
    report = world.mend()
    assert len(report.drift) == 1
    assert report.tables_written == ["events"]
    world.assert_in_step()
    assert not world.mend().changed


def test_partitions_too_many_too_few_and_in_the_wrong_place_are_mended(world):
    world.refresh(world.put(HOUR, HOUR + units.HOUR, HOUR + 2 * units.HOUR))
    partitions = world.glue.partitions["events"]
    del partitions["2026", "01", "09", "08"]
    partitions["2026", "01", "09", "09"]["StorageDescriptor"]["Location"] = "s3://elsewhere/"
    partitions["2026", "01", "09", "10"]["StorageDescriptor"]["Columns"].pop()
    partitions["2025", "01", "09", "10"] = partitions["2026", "01", "09", "10"]
    report = world.mend()
    assert (report.partitions_added, report.partitions_changed, report.partitions_removed) == (1, 2, 1)
    assert report.drift == ["events 2026/01/09/09: lies at s3://elsewhere/"]
    world.assert_in_step()


def test_a_partition_goes_with_its_last_object(world):
    keys = world.put(HOUR, HOUR + units.HOUR)
    world.refresh(keys)
    world.lake.delete(units.slot_key(units.EVENTS, HOUR))
    assert world.mend().partitions_removed == 1
    assert world.partitions() == [("2026", "01", "09", "09")]
    world.lake.put_new(units.slot_key(units.EVENTS, HOUR), b"again")
    world.refresh(keys)
    assert len(world.partitions()) == 2


def test_a_partition_whose_object_came_meanwhile_is_not_removed(world):
    world.refresh([])
    late = units.slot_key(units.EVENTS, HOUR)
    world.refresh([late])  # Glue has it, the lake not

    def arrive():
        if world.lake.stat(late) is None:
            world.lake.put_new(late, b"rows")

    world.glue.before = {"get_partitions": arrive}
    assert world.mend().partitions_removed == 0
    assert world.partitions() == [("2026", "01", "09", "08")]


def test_whether_a_folder_is_empty_is_looked_at_again_before_its_partition_goes(world, monkeypatch):
    late = units.slot_key(units.EVENTS, HOUR)
    world.refresh([late])
    listed = world.lake.list

    def slowly(prefix, after=None):
        yield from listed(prefix, after)
        if prefix == units.EVENTS:
            world.lake.put_new(late, b"rows")

    monkeypatch.setattr(world.lake, "list", slowly)
    assert world.mend().partitions_removed == 0
    assert world.partitions() == [("2026", "01", "09", "08")]


def test_a_dry_run_tells_all_and_changes_nothing(world):
    world.put(HOUR)
    told = catalog.mend(world.settings, world.lake, dry_run=True)
    assert (len(told.tables_written), told.partitions_added, world.glue.tables) == (7, 7, None)
    world.refresh(world.put(HOUR, HOUR + units.HOUR))
    edited(world)["Description"] = "hello"
    world.lake.delete(units.slot_key(units.EVENTS, HOUR))
    before = str((world.glue.tables, world.glue.partitions))
    told = catalog.mend(world.settings, world.lake, dry_run=True)
    assert str((world.glue.tables, world.glue.partitions)) == before
    done = world.mend()
    assert (told.drift, told.partitions_removed, told.tables_written) == (done.drift, 1, done.tables_written)


def test_objects_beside_the_partitions_are_of_none(world):
    world.refresh(
        ["processed/app_events/x.parquet", "processed/app_events/year=2026/a.parquet", "raw/session/x.parquet", "processed/other/year=2026"]
    )
    assert world.partitions() == []


MODEL = '[columns.cart]\nfrom = "properties.cart"\ntype = "{}"\ncomment = "value of the cart"\n'


def declare(world, text):
    (world.folder / "model.toml").write_text(text)
    world.settings = lake_helpers.settings_of(world.folder, **world.options)


def test_a_new_column_reaches_the_table_and_its_partitions_at_the_next_run(world):
    keys = world.put(HOUR, HOUR + units.HOUR)
    world.refresh(keys)
    declare(world, MODEL.format("double"))
    world.glue.calls.clear()
    report = world.refresh(keys[:1])
    assert report.tables_written == ["events"]
    assert world.glue.calls == {"get_table": 7, "update_table": 1, "get_partitions": 1, "batch_update_partition": 1}
    world.assert_in_step()
    assert not world.refresh(keys).calls


def test_a_column_that_is_declared_no_more_leaves_the_table(world):
    declare(world, MODEL.format("double"))
    keys = world.put(HOUR)
    world.refresh(keys)
    declare(world, "")
    assert world.refresh(keys).tables_written == ["events"]
    assert "cart" not in str(world.glue.tables)


def test_a_column_of_another_type_is_refused_in_one_line_and_all_else_goes_on(world):
    declare(world, MODEL.format("text"))
    world.refresh(world.put(HOUR))
    before = edited(world).copy()
    declare(world, MODEL.format("int64"))
    keys = world.put(HOUR + units.HOUR)
    with pytest.raises(
        CannotReconcile, match=r"table events: column cart is string in Glue and bigint now.*drop the table events"
    ) as caught:
        world.refresh(keys)
    assert "\n" not in str(caught.value)
    assert edited(world) == before
    assert len(world.partitions("events")) == 1
    assert len(world.partitions("sessions")) == 2
    with pytest.raises(CannotReconcile):
        world.refresh(keys)
    del world.glue.tables["events"], world.glue.partitions["events"]
    world.mend()
    world.assert_in_step()


def test_a_dimension_that_is_declared_no_more_stays_a_column_that_says_which_rows_to_read(world):
    from engagement.model import declared

    declare(world, '[dimensions.region]\ncolumn = "region"\nall = "ALL_REGIONS"\ncomment = "where"\n')
    declared.remember(world.lake, declared.load(world.settings))
    declare(world, "")
    world.refresh(world.put(HOUR))
    columns = edited(world, "daily_aggregates_with_dimensions")["StorageDescriptor"]["Columns"]
    assert columns[-1] == {
        "Name": "region",
        "Type": "string",
        "Comment": "declared no more: read only rows where it is null or ALL_REGIONS",
    }


def test_a_table_of_another_lake_is_left_alone(world, tmp_path, monkeypatch):
    world.refresh(world.put(HOUR))
    other = World(tmp_path / "second", monkeypatch)
    other.glue = world.glue
    before = str((world.glue.tables, world.glue.partitions))
    for keep in (other.mend, lambda: other.refresh(other.put(HOUR))):
        with pytest.raises(CannotReconcile, match=r"table events lies at .*it is another lake's.*choose another ENGAGEMENT_GLUE_DATABASE"):
            keep()
    assert str((world.glue.tables, world.glue.partitions)) == before


def test_other_partition_keys_are_refused(world):
    world.refresh([])
    edited(world)["PartitionKeys"].pop()
    with pytest.raises(
        CannotReconcile, match="has the partition keys year int, month int, day int, not year int, month int, day int, hour int"
    ):
        world.mend()


def test_a_table_that_was_dropped_is_made_again_with_the_next_partition(world):
    world.refresh(world.put(HOUR))
    del world.glue.tables["events"], world.glue.partitions["events"]
    keys = world.put(HOUR + units.HOUR)
    world.refresh(keys)
    assert world.partitions() == [("2026", "01", "09", "09")]
    assert world.mend().partitions_added == 1
    world.assert_in_step()


def test_projected_partitions_take_no_call_and_cover_the_history(world):
    world.options["glue_partitions"] = "projected"
    world.settings = lake_helpers.settings_of(world.folder, **world.options)
    keys = world.put(HOUR)
    report = world.refresh(keys)
    assert not {name for name in world.glue.calls if "partition" in name}
    assert report.partitions_added == 0
    parameters = edited(world)["Parameters"]
    place = (world.folder / "lake").as_uri()
    template = f"{place}/processed/app_events/year=${{year}}/month=${{month}}/day=${{day}}/hour=${{hour}}/"
    assert parameters["storage.location.template"] == template
    assert parameters["projection.year.range"].startswith("2020,")
    assert int(parameters["projection.year.range"][5:]) > datetime.now(UTC).year
    assert [parameters[f"projection.{key}.digits"] for key in ("year", "month", "day", "hour")] == ["4", "2", "2", "2"]
    assert "projection.hour.type" not in edited(world, "daily_aggregates_with_dimensions")["Parameters"]
    world.mend()
    assert not {name for name in world.glue.calls if "partition" in name}

    world.options["glue_partitions"] = "listed"
    world.settings = lake_helpers.settings_of(world.folder, **world.options)
    world.refresh(keys)
    assert not {name for table in world.glue.tables.values() for name in table["Parameters"] if "projection" in name}
    world.assert_in_step()


def test_the_projected_years_move_on_with_time(world):
    world.settings = lake_helpers.settings_of(world.folder, **world.options, glue_partitions="projected")
    tables = upkeep.tables(world.settings, world.lake, today=date(2028, 2, 29))
    assert tables[units.EVENTS]["Parameters"]["projection.year.range"] == "2020,2029"


def test_the_note_is_bounded_and_a_damaged_one_is_none(world):
    from engagement.catalog import noted

    hours = [HOUR + timedelta(hours=number) for number in range(noted.LONGEST + 10)]
    world.refresh([units.slot_key(units.EVENTS, hour) for hour in hours])
    (path,) = (world.folder / "state" / "cache").glob("catalog-glue-*.json")
    assert path.read_text().count("2026/") == noted.LONGEST
    for text in ("", "[]", '{"tables": 1}', '{"tables": "x", "partitions": {"a": 3}}'):
        path.write_text(text)
        world.refresh([units.slot_key(units.EVENTS, hours[-1])])
    assert world.refresh([units.slot_key(units.EVENTS, hours[-1])]).calls == {}


def test_no_region_is_told_in_one_line(monkeypatch, tmp_path):
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    settings = lake_helpers.settings_of(tmp_path, catalog="glue")
    with pytest.raises(PermanentError, match="no client for Glue: You must specify a region"):
        catalog.refresh(settings, open_lake(settings)[0], keys=[])
