"""The command `import`: which files are meant, what people and programs are told, and that one bad file stops all."""

from __future__ import annotations

import json
import os

import pytest

from engagement import cli
from engagement.errors import UsageError
from engagement.ingest.history import found, mapping

HEAD = "event_id,user_id,event_type,timestamp"


def lines(count, first=0, **fields):
    return "".join(json.dumps(event(first + number) | fields) + "\n" for number in range(count))


def event(number):
    return {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}",
        "user_id": f"u{number}",
        "event_type": "tap",
        "timestamp": "2025-01-02T03:04:05Z",
    }


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with nothing in it, where the command line finds no lake."""
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here, capsys):  # noqa: ARG001 - it runs there
    def run(*arguments):
        capsys.readouterr()
        code = cli.run(["import", *arguments])
        done = capsys.readouterr()
        return code, done.out, done.err

    return run


def objects(here):
    return sorted(here.glob("**/*.parquet"))


def test_folders_are_read_to_their_depth_in_order_and_what_is_left_out_is_told(here, run):
    (here / "in" / "b").mkdir(parents=True)
    (here / "in" / ".hidden").mkdir()
    for number, name in enumerate(("b/2.jsonl", "b/10.ndjson", "a.jsonl", "c.JSON")):
        (here / "in" / name).write_text(lines(1, number))
    for name in (".a.jsonl", "_SUCCESS", "readme.txt", ".hidden/x.jsonl"):
        (here / "in" / name).write_text("x")
    code, out, err = run("in")
    assert code == 0
    assert [line.split(":")[0] for line in out.splitlines()] == ["in/a.jsonl", "in/c.JSON", "in/b/10.ndjson", "in/b/2.jsonl"]
    told = [line.split(": ")[1] for line in err.splitlines()]
    assert told == [f"skipped in/{name}" for name in (".hidden", ".a.jsonl", "_SUCCESS", "readme.txt")]


def test_a_link_to_a_folder_is_not_followed_and_told(here, run):
    (here / "in").mkdir()
    (here / "in" / "a.jsonl").write_text(lines(1))
    (here / "in" / "loop").symlink_to(here / "in")
    code, out, err = run("in")
    assert (code, out) == (0, "in/a.jsonl: 1 rows, 0 rejected\n")
    assert err.startswith("engagement: skipped in/loop: ")


def test_a_folder_that_cannot_be_read_is_no_folder_without_files(here, run, monkeypatch):
    (here / "in" / "secret").mkdir(parents=True)
    (here / "in" / "a.jsonl").write_text(lines(1))
    real = os.scandir

    def refusing(path="."):
        if str(path).endswith("secret"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert run("in") == (1, "", "engagement: in/secret: Permission denied\n")


def test_a_file_named_twice_is_read_once(here, run):
    (here / "a.jsonl").write_text(lines(1))
    assert run("a.jsonl", ".", "a.jsonl")[1].splitlines() == ["a.jsonl: 1 rows, 0 rejected"]


def test_every_bad_file_is_told_and_no_good_one_goes_in(here, run):
    (here / "good.jsonl").write_text(lines(2))
    (here / "empty.csv").write_text("")
    (here / "bad.parquet").write_text("x")
    code, out, err = run("good.jsonl", "empty.csv", "bad.parquet", "missing.jsonl")
    assert (code, out) == (1, "")
    assert [line.split(":")[1].strip() for line in err.splitlines()] == [
        "empty.csv",
        "bad.parquet",
        "missing.jsonl",
        "nothing was imported",
    ]
    assert not (here / ".engagement").exists()


def test_a_folder_without_files_to_import_is_an_error(here, run):
    (here / "in").mkdir()
    (here / "in" / "x.txt").write_text("x")
    code, out, err = run("in")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1].startswith("engagement: in: no file in this folder is .jsonl")


def test_bad_rows_are_told_with_file_and_row_the_first_of_them(here, run):
    (here / "a.jsonl").write_text(lines(1) + lines(30, 1, user_id=None))
    (here / "b.csv").write_text(HEAD + "\nx,u,tap,2025-01-02T03:04:05Z\n")
    code, out, err = run("a.jsonl", "b.csv")
    assert (code, out.splitlines()) == (
        0,
        ["a.jsonl: 31 rows, 30 rejected (missing:user_id 30)", "b.csv: 1 rows, 1 rejected (bad_value:event_id 1)"],
    )
    assert err.splitlines()[:20] == [f"engagement: a.jsonl: row {number}: missing:user_id" for number in range(2, 22)]
    assert err.splitlines()[20:] == ["engagement: 11 more rejected rows; all of them: engagement dead-letters show --topic import"]


def test_a_dry_run_counts_and_makes_nothing(here, run):
    (here / "a.jsonl").write_text(lines(3) + "{\n")
    assert run("a.jsonl", "--dry-run")[:2] == (0, "a.jsonl: 4 rows, 1 rejected (bad_json 1); dry run: nothing written\n")
    assert sorted(path.name for path in here.rglob("*")) == ["a.jsonl"]
    report = json.loads(run("a.jsonl", "--dry-run", "--json")[1])
    assert (report["dry_run"], report["rows"], report["good"], report["rejects"]) == (True, 4, 3, {"bad_json": 1})


def test_programs_are_told_all_in_one_object(here, run):
    (here / "a.jsonl").write_text(lines(3) + "{\n")
    (here / "b.csv").write_text(HEAD + "\n" + ",".join(event(9).values()) + "\n")
    first, again = (json.loads(run("a.jsonl", "b.csv", "--json")[1]) for _ in range(2))
    assert (first["rows"], first["good"], first["rejects"], first["skipped"]) == (5, 4, {"bad_json": 1}, [])
    assert [(one["path"], one["rows"], one["good"], one["objects_written"]) for one in first["files"]] == [
        ("a.jsonl", 4, 3, 1),
        ("b.csv", 1, 1, 1),
    ]
    assert first["files"][0]["bad_rows"] == [{"row": 4, "reason": "bad_json"}]
    assert [one["objects_written"] for one in again["files"]] == [0, 0]
    assert (again["rows"], again["rejects"]) == (first["rows"], first["rejects"])
    assert len(objects(here)) == 2


def test_all_objects_of_a_run_are_received_at_one_time(here, run):
    import pyarrow.parquet as pq

    for number in range(3):
        (here / f"{number}.jsonl").write_text(lines(2, number * 2))
    run(".")
    assert len({time for path in objects(here) for time in pq.ParquetFile(path).read()["received_at"].to_pylist()}) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "name at least one file or folder"),
        (("a.csv", "--map", "uid"), "expected theirs=ours"),
        (("a.csv", "--map", "=user_id"), "expected theirs=ours"),
        (("a.csv", "--map", "uid=user"), "'user' is no field of an event; nearest: user_id"),
        (("a.csv", "--map", "m=device_info.modle"), "nearest: device_info.model"),
        (("a.csv", "--map", "m=properties."), "is no field of an event"),
        (("a.csv", "--map", "a=user_id", "--map", "a=event_id"), "a is user_id already"),
        (("a.csv", "--map", "user=user_id"), "no file has a column 'user'; nearest: user_id"),
    ],
)
def test_wrong_use_is_told_with_what_is_valid(arguments, words, here, run):
    (here / "a.csv").write_text(HEAD + "\n" + ",".join(event(1).values()) + "\n")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err
    assert objects(here) == []


def test_a_name_that_only_some_files_have_is_renamed_there(here, run):
    (here / "a.csv").write_text(HEAD + "\n" + ",".join(event(1).values()) + "\n")
    (here / "b.csv").write_text(HEAD.replace("user_id", "uid") + "\n" + ",".join(event(2).values()) + "\n")
    assert run("a.csv", "b.csv", "--map", "uid=user_id")[:2] == (0, "a.csv: 1 rows, 0 rejected\nb.csv: 1 rows, 0 rejected\n")


def test_ctrl_c_says_that_the_same_command_goes_on(here, run, monkeypatch, capsys):
    from engagement.raw import files

    def interrupted(*_):
        raise KeyboardInterrupt

    (here / "a.jsonl").write_text(lines(2))
    with monkeypatch.context() as patch:
        patch.setattr(files, "write", interrupted)
        with pytest.raises(SystemExit) as ended:
            run("a.jsonl")
    assert (ended.value.code, *capsys.readouterr()) == (
        130,
        "",
        "engagement: interrupted; the same command goes on where this one stopped\n",
    )
    assert run("a.jsonl")[:2] == (0, "a.jsonl: 2 rows, 0 rejected\n")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jsonl", "jsonl"), ("a.ndjson.gz", "jsonl"), ("a.json.zst", "jsonl"), ("A.CSV", "csv"), ("a.b.csv.gz", "csv"),
        ("a.parquet", "parquet"), ("a.parquet.zst", "parquet"), ("a.gz", None), ("a", None), ("csv", None), ("a.tsv", None),
        ("a.csv.bz2", None),
    ],
)  # fmt: skip
def test_a_files_kind_is_in_its_name(name, kind, tmp_path):
    assert found.kind(tmp_path / name) == kind


def test_valid_names_are_those_of_the_contract():
    assert mapping.parse([f"x{place}={name}" for place, name in enumerate(mapping.VALID)]).of("x0") == "event_id"
    assert mapping.parse(["a=properties.b.c"]).of("a") == "properties.b.c"
    with pytest.raises(UsageError):
        mapping.parse(["a=event_time"])
