"""What is handed out about a person: everything of theirs, nothing of anybody else."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement import cli
from engagement.contract import TimeWindow
from engagement.export.person import held
from engagement.lake import open_lake
from engagement.raw import archive, files, rows
from engagement.raw.names import topic_chain
from engagement.raw.privacy import KeyMissing, Policy
from engagement.tables.context import open_tables
from engagement.waiting import refresh

NOON = datetime(2026, 3, 11, 12, tzinfo=UTC)
TOPIC = ("session", "5e" * 16, 0)
KEY = "a key of at least sixteen characters"
WISHES = {"plain": {}, "hashed": {"user_ids": "hashed", "keep_bytes": "all", "hash_key": KEY}}


def event(number, user, **changes) -> bytes:
    return lake_helpers.payload(lake_helpers.screen_view(number, NOON + timedelta(minutes=number), user_id=user, **changes))


def write(settings, *records) -> None:
    """One flush: (payload, key) or (payload, key, headers) each."""
    lake, lake_format = open_lake(settings)
    chain = topic_chain(*TOPIC)
    last = files.last_link(lake, chain)
    start = last.end if last else 0
    made = rows.Rows(
        rows.Coordinates(*TOPIC), TimeWindow.of(lake_format.history_start, 300, None), 60, "session", Policy.of(settings, lake_format)
    )
    made.add(
        rows.Records.of(
            rows.Record(start + n, NOON + timedelta(hours=1), key, value, *more) for n, (value, key, *more) in enumerate(records)
        )
    )
    files.write(lake, chain, start, start + len(records), made.batch())


@pytest.fixture(params=WISHES)
def settings(tmp_path, request):
    """A lake where u1 has two events in the tables, one (a copy) in raw alone, one not refreshed yet, and three rejects."""
    settings = lake_helpers.settings_of(tmp_path, **WISHES[request.param])
    mine, theirs = event(0, "u1"), event(1, "u11")
    write(settings, (mine, b"u1"), (theirs, b"u11"), (mine, b"u1"), (event(2, "u1"), b"u1"), (b"{u1", b"u1"), (b"{u1", b"u2"))
    with open_tables(settings) as context:
        refresh.hours(context, [NOON])
    bad = json.dumps({"user_id": "u1", "event_type": "tap"}).encode()
    write(settings, (event(3, "u1"), b"other", [("app", b"u1")]), (bad, None), (b"{", None, [("user", b"u1")]), (b"\xff", b"u11"))
    return settings


def found(settings, user="u1"):
    return {name: [row for portion in held(settings, user) if portion.where == name for row in portion.rows] for name in NAMES}


NAMES = ("records", "rejects", "events", "session_fragments", "user_activity", "sessions")


def test_all_of_a_person_is_found_and_nothing_of_anybody_else(settings):
    rows_ = found(settings)
    assert {name: len(rows_[name]) for name in NAMES} == {
        "records": 4, "rejects": 3, "events": 2, "session_fragments": 1, "user_activity": 1, "sessions": 1,
    }  # fmt: skip
    assert [row["kafka_offset"] for row in rows_["records"]] == [0, 2, 3, 6]
    assert [row["kafka_offset"] for row in rows_["rejects"]] == [4, 7, 8]
    assert {row["user_id"] for name in NAMES if name != "rejects" for row in rows_[name]} == {
        Policy.of(settings, open_lake(settings)[1]).stored("u1")
    }
    assert len(found(settings, "u11")["records"]) == 1
    assert not any(found(settings, "nobody").values())


def test_records_that_are_archived_are_handed_out_once(settings):
    before = found(settings)
    lake, _ = open_lake(settings)
    report = archive.archive(lake, now=datetime.now(UTC) + timedelta(days=2), after=timedelta(0), hash_keys=settings.hash_keys)
    assert report.objects == len(list(lake.list("raw"))) == 2
    write(settings, (event(4, "u1"), b"u1"))
    after = found(settings)
    assert [row["kafka_offset"] for row in after["records"]] == [*(row["kafka_offset"] for row in before["records"]), 10]
    assert after["rejects"] == before["rejects"]


def test_a_lake_of_pseudonyms_hands_out_nothing_without_its_key(tmp_path):
    write(lake_helpers.settings_of(tmp_path, **WISHES["hashed"]), (event(0, "u1"), b"u1"))
    with pytest.raises(KeyMissing, match="set ENGAGEMENT_HASH_KEY"):
        list(held(lake_helpers.settings_of(tmp_path), "u1"))


def test_an_object_that_cannot_be_read_is_told_and_not_passed_over(settings):
    path = next((settings.lake_path / "raw").rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(Exception, match="cannot be read"):
        list(held(settings, "u1"))


def run(settings, monkeypatch, *arguments):
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    return cli.run(["export", *arguments])


def test_the_command_prints_one_json_object_a_row(settings, monkeypatch, capsys):
    assert run(settings, monkeypatch, "u1") == 0
    out, err = capsys.readouterr()
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["table"] for line in lines] == ["records"] * 4 + ["rejects"] * 3 + list(NAMES[2:3]) * 2 + list(NAMES[3:])
    assert lines[4] | {"payload": "{u1", "key": "u1"} == lines[4]
    assert err == "export: 4 records, 3 rejects, 2 events, 1 session_fragments, 1 user_activity, 1 sessions\n"


def test_nothing_held_is_no_line_and_no_failure(settings, monkeypatch, capsys):
    assert run(settings, monkeypatch, "nobody") == 0
    assert capsys.readouterr() == ("", "export: nothing is held about this user\n")


def test_a_folder_gets_a_file_a_table_and_a_manifest_that_proves_them(settings, monkeypatch, tmp_path, capsys):
    out = tmp_path / "person"
    assert run(settings, monkeypatch, "u1", "--out", str(out)) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert {path.name for path in out.iterdir()} == {*manifest["files"], "manifest.json"}
    for name, facts in manifest["files"].items():
        data = (out / name).read_bytes()
        assert facts == {"rows": data.count(b"\n"), "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        assert (out / name).stat().st_mode & 0o077 == 0
    assert run(settings, monkeypatch, "u2", "--out", str(out)) == 1
    assert "is not empty" in capsys.readouterr().err


def test_bytes_that_are_no_text_are_in_base64():
    from engagement.cli.export import as_json

    assert as_json({"payload": b"\xff", "key": "ü".encode(), "headers": [{"name": "a", "value": b"\xfe"}], "n": None}) == {
        "payload_base64": base64.b64encode(b"\xff").decode(), "key": "ü",
        "headers": [{"name": "a", "value_base64": base64.b64encode(b"\xfe").decode()}], "n": None,
    }  # fmt: skip
