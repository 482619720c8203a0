"""Imports are chains: the same bytes make the same claims, whatever the file is called and however often it is killed."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime

import lake_helpers
import pytest

from engagement.ingest import importer
from engagement.ingest.importer import BadFile
from engagement.lake import LakeUnavailable, LocalLake, open_lake
from engagement.raw import files
from engagement.raw.names import import_chain
from engagement.raw.privacy import stored_user_id
from engagement.tables.objects import read_rows

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)


def line(number, **fields):
    document = {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}",
        "user_id": f"u{number}",
        "event_type": "tap",
        "timestamp": "2025-01-02T03:04:05Z",
    }
    return json.dumps(document | fields).encode()


def lines(count, end=b"\n"):
    return b"".join(line(number) + end for number in range(count))


@pytest.fixture
def run(tmp_path):
    """Writes a file and imports it as the command does."""
    settings = lake_helpers.settings_of(tmp_path)

    def run(data, name="a.jsonl"):
        path = tmp_path / name
        path.write_bytes(data)
        lake, lake_format = open_lake(settings)
        result = importer.import_file(importer.inspect(path), lake, lake_format, settings, NOW)
        return result.rows, result.rejected, result.written

    return run


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path / "lake")


@pytest.fixture
def three_rows_an_object(monkeypatch):
    monkeypatch.setattr(importer, "ROWS_PER_OBJECT", 3)


def objects(lake):
    return {entry.key: entry.version for entry in lake.list("raw")}


def rows_of(lake):
    import pyarrow.parquet as pq

    return [row for key in objects(lake) for row in pq.ParquetFile(lake.path(key)).read().to_pylist()]


def test_a_file_becomes_one_chain_named_by_its_hash(run, lake):
    import hashlib

    data = lines(2)
    assert run(data) == (2, 0, 1)
    digest = hashlib.sha256(data).hexdigest()
    assert list(objects(lake)) == [f"raw/import/{digest}-00000/00000000000000000000.parquet"]
    found = rows_of(lake)
    assert [(row["kafka_topic"], row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"]) for row in found] == [
        ("import", digest, 0, 0),
        ("import", digest, 0, 1),
    ]
    assert {row["received_at"] for row in found} == {NOW}
    assert [row["user_id"] for row in found] == ["u0", "u1"]
    footer = files.read_footer(lake, import_chain(digest), 0)
    assert (footer.start, footer.end, footer.source) == (0, 2, "a.jsonl")


def test_gzip_gives_the_same_claims_as_plain(run, lake):
    assert run(lines(2)) == (2, 0, 1)
    before = objects(lake)
    assert run(gzip.compress(lines(2)), "a.jsonl.gz") == (2, 0, 0)
    assert objects(lake) == before


@pytest.mark.usefixtures("three_rows_an_object")
def test_the_same_bytes_again_change_nothing_even_under_another_name(run, lake):
    assert run(lines(7)) == (7, 0, 3)
    before = objects(lake)
    assert run(lines(7)) == (7, 0, 0)
    assert run(lines(7), "other.jsonl") == (7, 0, 0)
    assert objects(lake) == before


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 7])
@pytest.mark.usefixtures("three_rows_an_object")
def test_rows_are_cut_into_objects_without_loss_and_in_order(count, run, lake):
    result = run(lines(count))
    assert result == (count, 0, -(-count // 3))
    assert [row["kafka_offset"] for row in rows_of(lake)] == list(range(count))
    assert [row["user_id"] for row in rows_of(lake)] == [f"u{number}" for number in range(count)]


@pytest.mark.parametrize("killed_after", [0, 1, 2])
@pytest.mark.usefixtures("three_rows_an_object")
def test_a_killed_import_resumes_its_chain(killed_after, run, lake, monkeypatch):
    real, calls = files.write, iter(range(99))

    def dying(*args):
        if next(calls) == killed_after:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(files, "write", dying)
    with pytest.raises(KeyboardInterrupt):
        run(lines(7))
    before = objects(lake)
    assert len(before) == killed_after
    starts = []
    monkeypatch.setattr(files, "write", lambda *args: (starts.append(args[2]), real(*args))[1])
    assert run(lines(7), "renamed.jsonl") == (7, 0, 3 - killed_after)
    assert starts == [0, 3, 6][killed_after:], "what stands is not tried again"
    assert before.items() <= objects(lake).items()
    assert [row["kafka_offset"] for row in rows_of(lake)] == list(range(7))


@pytest.mark.usefixtures("three_rows_an_object")
def test_a_lake_that_fails_in_the_middle_can_be_tried_again(run, lake, monkeypatch):
    real, calls = LocalLake.put_new, iter(range(99))

    def failing(self, key, data):
        if key.startswith("raw") and next(calls) == 1:
            raise LakeUnavailable("full")
        return real(self, key, data)

    monkeypatch.setattr(LocalLake, "put_new", failing)
    with pytest.raises(LakeUnavailable):
        run(lines(7))
    assert run(lines(7)) == (7, 0, 2)
    assert [row["kafka_offset"] for row in rows_of(lake)] == list(range(7))


@pytest.mark.usefixtures("three_rows_an_object")
def test_another_import_of_the_same_bytes_at_the_same_time_is_no_error(run, lake, monkeypatch):
    """The other one writes everything right after this one has looked."""
    real = files.last_link

    def looking(lake_, chain):
        found = real(lake_, chain)
        monkeypatch.setattr(files, "last_link", real)
        run(lines(7), "other.jsonl")
        return found

    monkeypatch.setattr(files, "last_link", looking)
    assert run(lines(7)) == (7, 0, 0)
    assert [row["kafka_offset"] for row in rows_of(lake)] == list(range(7))


def test_bad_rows_become_rejects_with_their_line_and_the_rest_goes_in(run, lake):
    data = line(0) + b"\n\n{broken\n" + line(3, user_id=7) + b"\n" + line(4)
    assert run(data) == (5, 3, 1)
    found = rows_of(lake)
    assert [(row["kafka_offset"], row["reject_reason"], row["payload"]) for row in found] == [
        (0, None, None),
        (1, "empty", b""),
        (2, "bad_json", b"{broken"),
        (3, "bad_type:user_id", line(3, user_id=7)),
        (4, None, None),
    ]


def test_no_line_is_too_late_but_history_start_and_future_count(run, lake):
    times = ["2020-01-01T00:00:00Z", "2019-12-31T23:59:59Z", "2026-03-11T10:05:00Z", "2026-03-11T10:05:00.000001Z"]
    run(b"\n".join(line(number, timestamp=time) for number, time in enumerate(times)))
    assert [row["reject_reason"] for row in rows_of(lake)] == [None, "before_history_start", None, "in_future"]


def test_line_ends_of_windows_are_no_part_of_a_row(run):
    assert run(lines(2, b"\r\n")) == (2, 0, 1)


def test_a_file_without_a_last_line_end_is_whole(run):
    assert run(lines(3)[:-1]) == (3, 0, 1)


TRUNCATED = gzip.compress(b"".join(line(number, user_id=str(number * 7919)) + b"\n" for number in range(500)))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jsonl.gz", TRUNCATED[:-9], "a.jsonl.gz: "),
        ("a.jsonl.gz", TRUNCATED[: len(TRUNCATED) // 2], "a.jsonl.gz: "),
        ("a.jsonl.gz", TRUNCATED[:100] + b"\x00" * 50 + TRUNCATED[150:], "a.jsonl.gz: "),
        ("a.jsonl.gz", lines(2), "a.jsonl.gz: "),
        ("a.jsonl.gz", b"", "a.jsonl.gz: empty"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "a.jsonl.gz: empty"),
        ("a.jsonl", b"", "a.jsonl: empty"),
        ("a.jsonl", gzip.compress(lines(2)), "not JSON lines"),
        ("a.csv", b"event_id,user_id\n1,2\n", "no column event_type, timestamp among event_id, user_id"),
        ("a.json", b'["a list"]\n', "not JSON lines"),
        ("a.parquet", b"PAR1\x00\x15PAR1", "no Parquet file, or a truncated one"),
    ],
)
@pytest.mark.usefixtures("three_rows_an_object")
def test_a_file_that_cannot_be_imported_leaves_nothing(name, data, words, run, lake):
    with pytest.raises(BadFile) as error:
        run(data, name)
    assert words in str(error.value)
    assert objects(lake) == {}


@pytest.mark.parametrize("name", ["missing.jsonl", "missing.csv.gz", "missing.parquet", "missing"])
def test_a_missing_file_is_named(name, tmp_path):
    with pytest.raises(BadFile, match=rf"{name}: No such file"):
        importer.inspect(tmp_path / name)


@pytest.mark.parametrize("first", [b"[" * 100_000, b"9" * 10_000, b"\xff", b'"\\ud800"'])
def test_a_hostile_first_line_is_a_bad_row_of_a_good_file(first, run):
    assert run(first + b"\n" + line(1)) == (2, 1, 1)


def test_an_import_into_a_lake_of_pseudonyms_writes_no_id(tmp_path):
    settings = lake_helpers.settings_of(tmp_path, user_ids="hashed", keep_bytes="none", hash_key="a key of at least sixteen")
    path = tmp_path / "a.jsonl"
    path.write_bytes(lines(3) + b"{")
    lake, lake_format = open_lake(settings)
    importer.import_file(importer.inspect(path), lake, lake_format, settings, NOW)
    (entry,) = lake.list("raw")
    rows = read_rows(lake, entry).to_pylist()
    assert [row["user_id"] for row in rows] == [*(stored_user_id(settings, f"u{number}") for number in range(3)), None]
    assert (rows[3]["reject_reason"], rows[3]["payload"]) == ("bad_json", None)
