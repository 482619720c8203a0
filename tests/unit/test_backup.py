"""Backups: what is copied, what never is taken away, and lakes made from them."""

from __future__ import annotations

import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement import cli
from engagement.backup import dagster_home
from engagement.backup.manifest import Held, Manifest, plan
from engagement.backup.restore import restore
from engagement.backup.take import backup
from engagement.errors import PermanentError, UsageError
from engagement.lake import Entry, open_lake
from engagement.tables import finality
from engagement.tables.context import open_tables

NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path):
    """A lake of two raw objects, with a table's object beside them."""
    settings = lake_helpers.settings_of(tmp_path)
    arrive(settings, 0)
    arrive(settings, 1)
    table = settings.lake_path / "processed/app_events/year=2026/month=03/day=11/hour=12/slot-00.parquet"
    table.parent.mkdir(parents=True)
    table.write_bytes(b"made again")
    return settings


def arrive(settings, number):
    with open_tables(settings) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(number, NOON + timedelta(minutes=number))])


def raw_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("raw/**/*.parquet"))}


def elsewhere(tmp_path):
    return lake_helpers.settings_of(tmp_path / "other")


def test_a_backup_holds_the_log_and_no_tables_and_makes_the_same_lake(settings, tmp_path):
    report = backup(settings, str(tmp_path / "backup"))
    assert report.copied_objects == len(list(open_lake(settings)[0].list(""))) - 1
    made = restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    assert made.objects == report.copied_objects - 1, "lake.json apart"
    assert raw_of(elsewhere(tmp_path).lake_path) == raw_of(settings.lake_path) != {}
    assert open_lake(elsewhere(tmp_path))[1] == open_lake(settings)[1]
    assert not (elsewhere(tmp_path).lake_path / "processed").exists()


@pytest.mark.parametrize(("wishes", "comes"), [({}, True), ({"keep_place": "country"}, False)])
def test_tables_of_final_days_come_along_because_nothing_can_make_them_again(wishes, comes, settings, tmp_path):
    """But not into a lake that keeps less of a person: they hold what it must not."""
    record = finality.Finality(final_before=NOON.date() + timedelta(days=1))
    open_lake(settings)[0].put_new(finality.KEY, record.to_json())
    table = next(settings.lake_path.rglob("slot-00.parquet"))
    table.write_bytes(b"PAR1 cannot be made again PAR1")
    backup(settings, str(tmp_path / "backup"))
    new = lake_helpers.settings_of(tmp_path / "other", **wishes)
    restore(new, str(tmp_path / "backup"))
    key = table.relative_to(settings.lake_path)
    assert (new.lake_path / key).exists() is comes
    if comes:
        assert (new.lake_path / key).read_bytes() == table.read_bytes()
    assert finality.read(open_lake(new)[0]) == record


def test_only_what_is_new_is_copied_again(settings, tmp_path):
    first = backup(settings, str(tmp_path / "backup"))
    arrive(settings, 2)
    again = backup(settings, str(tmp_path / "backup"))
    assert (again.copied_objects, again.kept_objects) == (1, first.copied_objects)
    assert backup(settings, str(tmp_path / "backup")).copied_objects == 0


def test_what_was_damaged_or_deleted_in_the_backup_is_copied_again(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    gone, cut = sorted((tmp_path / "backup").rglob("raw/**/*.parquet"))
    gone.unlink()
    cut.write_bytes(b"PAR1")
    assert backup(settings, str(tmp_path / "backup")).copied_objects == 2
    assert raw_of(tmp_path / "backup") == raw_of(settings.lake_path)


def test_what_the_lake_lost_stays_in_the_backup_and_is_told(settings, tmp_path, monkeypatch, capsys):
    backup(settings, str(tmp_path / "backup"))
    kept = raw_of(tmp_path / "backup")
    lost = max(settings.lake_path.rglob("raw/**/*.parquet"))
    lost.unlink()
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert cli.run(["backup", str(tmp_path / "backup")]) == 1
    assert "is gone from the lake; the backup keeps its copy" in capsys.readouterr().err
    assert raw_of(tmp_path / "backup") == kept


def test_a_truncated_object_does_not_replace_its_good_copy(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    kept = raw_of(tmp_path / "backup")
    path = max(settings.lake_path.rglob("raw/**/*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    assert backup(settings, str(tmp_path / "backup")).damaged == [path.relative_to(settings.lake_path).as_posix()]
    assert raw_of(tmp_path / "backup") == kept


def test_a_lake_that_is_gone_empties_no_backup(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    shutil.rmtree(settings.lake_path)
    with pytest.raises(PermanentError, match="there is no lake at"):
        backup(settings, str(tmp_path / "backup"))
    open_lake(settings)
    with pytest.raises(PermanentError, match="is the backup of another lake"):
        backup(settings, str(tmp_path / "backup"))
    assert raw_of(tmp_path / "backup")


def test_a_backup_goes_into_no_lake_and_not_into_its_own(settings, tmp_path):
    for inside in (settings.lake_url, f"{settings.lake_url}/backup", str(tmp_path)):
        with pytest.raises(UsageError, match="that is the lake itself, or one lies in the other"):
            backup(settings, inside)
    open_lake(elsewhere(tmp_path))
    with pytest.raises(PermanentError, match=r"has a lake and no backup\.json"):
        backup(settings, elsewhere(tmp_path).lake_url)


def test_a_killed_backup_goes_on_and_is_no_backup_until_it_is_complete(settings, tmp_path, monkeypatch):
    from engagement.backup import take

    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    monkeypatch.setattr(take, "NOTED_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(dagster_home, "files", die)
        with pytest.raises(Killed):
            backup(settings, str(tmp_path / "backup"))
    with pytest.raises(PermanentError, match="is not complete"):
        restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    assert backup(settings, str(tmp_path / "backup")).copied_objects == 0


def test_a_restore_overwrites_nothing(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    with pytest.raises(PermanentError, match=r"there is a lake at .* already, and nothing is overwritten"):
        restore(settings, str(tmp_path / "backup"))
    stray = elsewhere(tmp_path).lake_path / "raw" / "notes.txt"
    stray.parent.mkdir(parents=True)
    stray.write_text("mine")
    with pytest.raises(PermanentError, match=r"is not empty \(it has raw/notes\.txt\)"):
        restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    assert list(elsewhere(tmp_path).lake_path.rglob("*.parquet")) == []


def test_nobody_opens_a_lake_that_is_half_restored_and_the_restore_goes_on(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    _, last = sorted((tmp_path / "backup").rglob("raw/**/*.parquet"))
    data = last.read_bytes()
    last.write_bytes(data[:-1] + b"?")
    with pytest.raises(PermanentError, match=r"is not what backup\.json says"):
        restore(elsewhere(tmp_path), str(tmp_path / "backup"), dry_run=True)
    assert not elsewhere(tmp_path).lake_path.exists()
    with pytest.raises(PermanentError, match=r"is not what backup\.json says"):
        restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    with pytest.raises(PermanentError, match="is being restored from a backup"):
        open_lake(elsewhere(tmp_path))
    last.write_bytes(data)
    again = restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    assert again.there_already == again.objects - 1, "all but the one that was damaged; lake.json is made last and not counted"
    assert raw_of(elsewhere(tmp_path).lake_path) == raw_of(settings.lake_path)


def test_another_backup_does_not_go_into_half_a_restore(settings, tmp_path):
    backup(settings, str(tmp_path / "backup"))
    lake = elsewhere(tmp_path).lake_path
    lake.mkdir(parents=True)
    (lake / "lake.json").write_text(json.dumps({"format_version": 2, "restoring": "an older one"}))
    with pytest.raises(PermanentError, match="half a restore of another backup"):
        restore(elsewhere(tmp_path), str(tmp_path / "backup"))


def test_no_backup_is_told(tmp_path):
    with pytest.raises(PermanentError, match="there is no backup at"):
        restore(lake_helpers.settings_of(tmp_path), str(tmp_path / "nothing"))


def test_the_commands_tell_what_they_did(settings, tmp_path, monkeypatch, capsys):
    place = str(tmp_path / "backup")

    def run(of, *arguments):
        with monkeypatch.context() as patch:
            for name, value in of.environment().items():
                patch.setenv(name, value)
            code = cli.run([*arguments])
        return code, capsys.readouterr().out

    code, out = run(settings, "backup", place, "--json")
    assert (code, json.loads(out)["copied_objects"]) == (0, 4)
    code, out = run(elsewhere(tmp_path), "restore", place, "--dry-run")
    assert code == 0
    assert "4 objects" in out
    assert out.endswith("all as the manifest says; nothing written\n")
    assert not elsewhere(tmp_path).lake_path.exists()
    code, out = run(elsewhere(tmp_path), "restore", place, "--only", "lake", "--json")
    assert (code, json.loads(out)["objects"], json.loads(out)["dry_run"]) == (0, 3, False)
    assert run(elsewhere(tmp_path), "restore", place)[0] == 1


# What is planned.


def test_a_raw_object_leaves_the_backup_only_when_a_part_covers_it():
    held = {key: Held(1, "", "v") for key in ("raw/a", "raw/b", "archive/p", "processed/t", "state/dagster/runs.db", "same", "newer")}
    wanted = {"same": Entry("same", 1, "v"), "newer": Entry("newer", 1, "w"), "fresh": Entry("fresh", 1, "v")}
    found = plan(wanted, held, dict.fromkeys(held, 1), lambda key: key == "raw/a")
    assert [entry.key for entry in found.copy] == ["newer", "fresh"]
    assert (sorted(found.delete), found.lost) == (["processed/t", "raw/a"], ["archive/p", "raw/b"])


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"backup": 1}', b'{"backup": 9}', b'{"backup": 1, "lake": "", "made_at": "", "complete": 1, "objects": 3}']
)
def test_a_manifest_of_another_shape_is_refused(text):
    with pytest.raises(PermanentError, match=r"not readable|of version 9"):
        Manifest.from_json(text)


def test_a_manifest_reads_back():
    made = Manifest("lake", "2026-03-11T12:00:00+00:00", complete=True, objects={"raw/a": Held(1, "ab", "v")})
    assert Manifest.from_json(made.to_json()) == made


# Dagster's state.


def test_a_database_is_copied_while_somebody_writes_to_it(settings, tmp_path):
    path = dagster_home.home(settings) / "history" / "runs.db"
    path.parent.mkdir(parents=True)
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("pragma journal_mode=wal")
    writer.execute("create table runs (id)")
    writer.execute("insert into runs values (1)")
    writer.execute("begin immediate")
    writer.execute("insert into runs values (2)")
    assert backup(settings, str(tmp_path / "backup")).state_files == 1
    writer.execute("commit")
    assert restore(elsewhere(tmp_path), str(tmp_path / "backup")).state_files == 1
    assert sqlite3.connect(dagster_home.home(elsewhere(tmp_path)) / "history" / "runs.db").execute("select id from runs").fetchall() == [
        (1,)
    ]
    assert backup(settings, str(tmp_path / "backup")).state_files == 1
    writer.close()
    path.unlink()
    assert backup(settings, str(tmp_path / "backup")).state_files == 0, "a run that was deleted leaves the backup"


def test_a_home_with_runs_is_not_overwritten(settings, tmp_path):
    path = dagster_home.home(settings) / "history" / "runs.db"
    path.parent.mkdir(parents=True)
    sqlite3.connect(path).execute("create table runs (id)")
    backup(settings, str(tmp_path / "backup"))
    target = replace(elsewhere(tmp_path), state_dir=settings.state_dir)
    with pytest.raises(PermanentError, match="has Dagster's state already"):
        restore(target, str(tmp_path / "backup"))
    assert not target.lake_path.exists()
    assert restore(target, str(tmp_path / "backup"), only="lake").state_files == 0


def test_a_restore_that_was_killed_behind_the_state_goes_on(settings, tmp_path, monkeypatch):
    path = dagster_home.home(settings) / "history" / "runs.db"
    path.parent.mkdir(parents=True)
    sqlite3.connect(path).execute("create table runs (id)")
    backup(settings, str(tmp_path / "backup"))

    class Killed(BaseException):
        pass

    def killed(*given, real=dagster_home.restore):
        real(*given)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(dagster_home, "restore", killed)
        with pytest.raises(Killed):
            restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    with pytest.raises(PermanentError, match="is being restored"):
        open_lake(elsewhere(tmp_path))
    restore(elsewhere(tmp_path), str(tmp_path / "backup"))
    assert open_lake(elsewhere(tmp_path))[1] == open_lake(settings)[1]
    assert dagster_home.is_there(elsewhere(tmp_path))
