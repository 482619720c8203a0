"""Everything is made again from a backup: tables row for row in their order (R10), and Dagster goes on where it was."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import erasure_world as world
import lake_helpers
import pytest
from dagster import AssetKey, EventRecordsFilter
from dagster._core.events import DagsterEventType

from engagement.backup import take
from engagement.backup.restore import restore
from engagement.backup.take import backup
from engagement.contract import TimeWindow
from engagement.erasure.forget import forget
from engagement.errors import PermanentError
from engagement.export.person import held
from engagement.ingest.importer import Importer, import_file, inspect
from engagement.lake import open_lake
from engagement.raw import archive, audit, erasures, expiry, files, log, rows
from engagement.raw.chain import resume
from engagement.raw.coverage import Parts
from engagement.raw.index import RawIndex
from engagement.raw.names import topic_chain
from engagement.raw.privacy import KeyMissing, Policy
from engagement.tables import objects
from engagement.tables.context import open_tables
from engagement.waiting import refresh, waits
from engagement_assets.local_runs import LocalRuns, local_instance

LATER = world.START + timedelta(days=9)
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "model.toml"


def settings_of(folder, **wishes):
    return lake_helpers.settings_of(folder, **{"hash_key": world.KEY} | wishes)


class Broker:
    """A broker whose logs end where the lake's chains do."""

    def __init__(self, _settings):
        pass

    def ids(self, topics):
        return {topic: world.TOPIC_ID for topic in topics if topic == "session"}

    def partitions(self, _topic):
        return 2

    def end(self, _topic, _number):
        return 0

    def kept(self, _topics):
        return []


def rows_of(settings):
    """Key -> rows, in their order, of every object of every table."""
    lake, _ = open_lake(settings)
    entries = [entry for folder in ("processed", "aggregated") for entry in lake.list(folder) if entry.key.endswith(".parquet")]
    return {entry.key: objects.read_rows(lake, entry).to_pylist() for entry in entries}


def settle(settings):
    with open_tables(settings) as context:
        assert refresh.until_nothing_waits(context) < 20
        assert not waits.compute(context)


def sent(seed, users, count, first=0):
    """Events within four hours around a midnight, some of them copies, and a reject in eight."""
    chance = random.Random(seed)
    found = []
    for number in range(first, first + count):
        item = world.event(chance.choice(users), world.START + timedelta(minutes=120 + chance.randrange(0, 240, 7)), number)
        found += [item, item] if number % 5 == 0 else [item]
        if number % 8 == 0:
            found.append(world.Sent(b"ann", b'{"user_id": "ann", "event'))
    return found


def aged(folder, **wishes):
    """A lake with a past: made in pieces, with copies, rejects, an import, archive parts, expired raw objects and an erased user."""
    settings = settings_of(folder, **wishes)
    file = folder / "history.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"\n".join(item.value for item in sent(8, ("dan", "ann"), 12, 50) if item.value) + b"\n{")
    lake, lake_format = open_lake(settings)
    import_file(inspect(file), lake, lake_format, settings, LATER)
    arrive(settings, sent(1, ("ann", "ben", "cid"), 16))
    assert archive.archive(lake, now=LATER + timedelta(days=2), after=timedelta(0), hash_keys=settings.hash_keys).parts
    arrive(settings, sent(2, ("ann", "ben", "cid"), 8, 20), partition=1)
    settle(settings)
    arrive(settings, sent(3, ("ann", "ben", "cid"), 8, 30))
    assert expiry.expire(lake, grace=timedelta(0), now=datetime.now(UTC) + timedelta(days=2)).objects
    forget(settings, ["ben"], broker=Broker)
    settle(settings)
    return settings


def arrive(settings, records, partition=0):
    """One flush, under the policy of the lake."""
    lake, lake_format = open_lake(settings)
    chain = topic_chain("session", world.TOPIC_ID, partition)
    last = files.last_link(lake, chain)
    start = resume(last, Parts(lake).of(chain))
    window = TimeWindow.of(lake_format.history_start, 10**9, None)
    made = rows.Rows(rows.Coordinates("session", world.TOPIC_ID, partition), window, 60, policy=Policy.of(settings, lake_format))
    received = world.START + timedelta(days=3)
    made.add(rows.Records.of(rows.Record(start + place, received, item.key, item.value) for place, item in enumerate(records)))
    files.write(lake, chain, start, start + len(records), made.batch(), erasures=erasures.read(lake, settings.hash_keys))


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    return aged(tmp_path_factory.mktemp("old"), model=str(EXAMPLE))


def test_a_lake_made_from_a_backup_has_the_same_tables_row_for_row(old, tmp_path):
    backup(old, str(tmp_path / "backup"))
    new = settings_of(tmp_path / "new", model=str(EXAMPLE))
    restore(new, str(tmp_path / "backup"))
    found = log.look(open_lake(new)[0])
    assert found.parts, "the archive came along"
    assert found.raw, "and what it does not cover"
    settle(new)
    made = rows_of(new)
    assert made == rows_of(old)
    assert sum(len(found) for key, found in made.items() if "app_events" in key) > 30
    assert "taps" in next(found for key, found in made.items() if "/sessions/" in key)[0], "the declared model is in them"
    index = RawIndex(open_lake(new)[0])
    assert not audit.audit(index).findings
    index.close()


def test_the_next_record_and_the_erased_user_find_their_place_in_the_new_lake(old, tmp_path):
    """Where a chain goes on, who is erased, and what an import has are the same in both."""
    backup(old, str(tmp_path / "backup"))
    new = settings_of(tmp_path / "new", model=str(EXAMPLE))
    restore(new, str(tmp_path / "backup"))

    def places(settings):
        lake, lake_format = open_lake(settings)
        source = inspect(old.lake_path.parent / "history.jsonl")
        listed = erasures.read(lake, settings.hash_keys)
        return (
            places_of(settings),
            Importer(settings, lake, lake_format, LATER).end(source),
            [listed.holds(user) for user in ("ben", "ann")],
            listed.length,
        )

    assert places(new) == places(old)
    assert places(new)[2] == [True, False]


def test_lake_backup_and_new_lake_may_lie_on_s3(old, s3_server, tmp_path, monkeypatch):
    s3_server.bucket("backups")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    place = f"s3://backups/{tmp_path.name}"
    at = {"aws_endpoint_url": s3_server.endpoint, "hash_key": world.KEY, "state_dir": tmp_path / "state"}
    first = backup(replace(old, **at), f"{place}/one")
    new = replace(old, **at, lake_url=f"{place}/lake")
    assert restore(new, f"{place}/one", only="lake").objects == first.copied_objects - 1
    backup(new, f"{place}/two")
    here = settings_of(tmp_path / "here", aws_endpoint_url=s3_server.endpoint)
    restore(here, f"{place}/two")
    found = [
        {entry.key: objects.read_rows(lake, entry) for entry in log.look(lake).objects} for lake in (open_lake(old)[0], open_lake(here)[0])
    ]
    assert found[0] == found[1]
    assert held_of(new, "ann")["records"] == held_of(old, "ann")["records"] != []
    assert backup(new, f"{place}/two").copied_objects == 0
    with pytest.raises(PermanentError, match=r"there is a lake at .* already"):
        restore(new, f"{place}/one", only="lake")


def coordinates(settings):
    """Place in the log -> row, of every record; twice the same place fails."""
    lake, _ = open_lake(settings)
    found = [row for entry in log.look(lake).objects for row in objects.read_rows(lake, entry).to_pylist()]
    made = {(row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"]): row for row in found}
    assert len(made) == len(found)
    return made


def places_of(settings):
    """Where both chains of the log go on (R3)."""
    lake, _ = open_lake(settings)
    chains = [topic_chain("session", world.TOPIC_ID, number) for number in range(2)]
    return [resume(files.last_link(lake, chain), Parts(lake).of(chain)) for chain in chains]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_before_between_and_during_backups_the_last_one_holds_the_log(seed, tmp_path, monkeypatch):
    settings = settings_of(tmp_path / "old")
    chance = random.Random(seed)
    lake, _ = open_lake(settings)
    numbers = iter(range(1000))

    def arrive_():
        arrive(settings, [world.event("ann", world.START, next(numbers)) for _ in range(3)], partition=chance.randrange(2))

    def archive_():
        archive.archive(lake, now=LATER, after=timedelta(0), hash_keys=settings.hash_keys)

    def expire_():
        expiry.expire(lake, grace=timedelta(0), now=datetime.now(UTC) + timedelta(days=2))

    def vanish_():
        archive_()
        expire_()

    moves = [arrive_, arrive_, arrive_, archive_, expire_]

    class Killed(BaseException):
        pass

    def bytes_of(*given, real=take.bytes_of):
        if chance.random() < 0.3:
            chance.choice([arrive_, vanish_])()
        if chance.random() < 0.1:
            raise Killed
        return real(*given)

    arrive_()
    with monkeypatch.context() as patch:
        patch.setattr(take, "bytes_of", bytes_of)
        for _ in range(25):
            chance.choice(moves)()
            if chance.random() < 0.4:
                with contextlib.suppress(Killed):
                    backup(settings, str(tmp_path / "backup"))
    assert not backup(settings, str(tmp_path / "backup")).lost
    new = settings_of(tmp_path / "new")
    restore(new, str(tmp_path / "backup"))
    assert coordinates(new) == coordinates(settings)
    assert len(coordinates(new)) == next(numbers)
    assert places_of(new) == places_of(settings), "the consumer goes on at the same place"


# A new lake that is cut otherwise, or keeps less of a person.


def remade(old, tmp_path, **wishes):
    backup(old, str(tmp_path / "backup"))
    new = settings_of(tmp_path / "new", **wishes)
    restore(new, str(tmp_path / "backup"))
    settle(new)
    return new


def test_the_gap_of_sessions_may_be_another_in_the_new_lake(old, tmp_path):
    """The way to change what is fixed for a lake's life: the log does not depend on it."""
    new = remade(old, tmp_path, session_gap_seconds=60, session_mode="client")
    assert (open_lake(new)[1].session_gap_seconds, open_lake(new)[1].session_mode) == (60, "client")
    assert len(lake_helpers.sessions(new)) > len(lake_helpers.sessions(old))


NEXT = "another key for a rotation"
HASHED = {"user_ids": "hashed", "keep_bytes": "none", "keep_place": "country", "keep_locale": "none"}
COUNTS = "SELECT * FROM daily_aggregates_with_dimensions ORDER BY ALL"


def texts_of(settings):
    lake, _ = open_lake(settings)
    found = log.look(lake)
    return "".join(repr(objects.read_rows(lake, entry).to_pylist()) for entry in found.objects)


def test_a_lake_of_plain_ids_becomes_one_of_pseudonyms_and_then_one_under_a_new_key(old, tmp_path):
    """Every number stays, no id does, who is erased stays erased, and a person is found under the new pseudonym."""
    plain = {name: len(found) for name, found in held_of(old, "ann").items()}
    before = replace(old, model="")
    for place, key in (("hashed", world.KEY), ("rotated", f"{world.KEY},{NEXT}")):
        new = remade(before, tmp_path / place, hash_key=key, **HASHED)
        assert lake_helpers.table(new, COUNTS) == lake_helpers.table(before, COUNTS)
        assert not [name for name in ("ann", "cid", "dan") if f"'{name}'" in texts_of(new) or f'"{name}"' in texts_of(new)]
        assert {name: len(found) for name, found in held_of(new, "ann").items()} == plain | {"rejects": 0}
        arrive(new, [world.event("ben", world.START, 99), world.event("ann", world.START, 98)], partition=1)
        assert not held_of(new, "ben")["records"]
        assert len(held_of(new, "ann")["records"]) == plain["records"] + 1
        plain["records"] += 1
        settle(new)
        plain |= {name: len(found) for name, found in held_of(new, "ann").items() if name != "rejects"}
        before = new


def held_of(settings, user):
    found = {}
    for portion in held(settings, user):
        found.setdefault(portion.where, []).extend(portion.rows)
    return found


def test_what_is_not_kept_cannot_come_back_and_another_key_is_refused(old, tmp_path):
    backup(remade(old, tmp_path, hash_key=world.KEY, **HASHED), str(tmp_path / "hashed"))
    for wishes, why in (
        ({"user_ids": "plain"}, "the backup keeps hashed"), ({"keep_place": "city"}, "the backup keeps country"),
        ({"slot_minutes": 30}, "log is cut by 60"),
    ):  # fmt: skip
        with pytest.raises(PermanentError, match=why):
            restore(settings_of(tmp_path / "not", **wishes), str(tmp_path / "hashed"))
    with pytest.raises(KeyMissing, match="does not begin with the key"):
        restore(settings_of(tmp_path / "not", hash_key=NEXT), str(tmp_path / "hashed"))
    assert not (tmp_path / "not" / "lake").exists()


# Dagster's state.


def materialized(instance):
    filters = EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, AssetKey("events"))
    return [(record.run_id, record.partition_key) for record in instance.get_event_records(filters)]


def test_dagsters_runs_and_materializations_are_there_and_nothing_is_done_twice(tmp_path, monkeypatch):
    """The state folder is lost and the lake is not: the instance of the backup goes on with it."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    settings = settings_of(tmp_path)
    arrive(settings, [world.event("ann", world.START, 1)])
    with local_instance(settings) as instance:
        assert list(LocalRuns(settings, instance).refresh())
        runs, made = sorted(run.run_id for run in instance.get_runs()), materialized(instance)
        backup(settings, str(tmp_path / "backup"))  # while the instance is open
        snapshots = [instance.get_job_snapshot(run.job_snapshot_id) for run in instance.get_runs()]
        assert world.KEY not in repr(snapshots), "runs and backups of them hold no secret"
    before = rows_of(settings)
    new = replace(settings, state_dir=tmp_path / "another state")
    assert restore(new, str(tmp_path / "backup"), only="state").state_files >= len(runs)
    with local_instance(new) as instance:
        assert (sorted(run.run_id for run in instance.get_runs()), materialized(instance)) == (runs, made)
        assert list(LocalRuns(new, instance).refresh()) == []
        arrive(settings, [world.event("ann", world.START + timedelta(minutes=1), 2)])
        assert list(LocalRuns(new, instance).refresh()), "what is new is done as ever"
        assert {run.run_id for run in instance.get_runs()} > set(runs)
    assert len(made) == 1
    events = {key: len(found) for key, found in rows_of(new).items() if "app_events" in key}
    assert events == {key: 2 for key in before if "app_events" in key}
