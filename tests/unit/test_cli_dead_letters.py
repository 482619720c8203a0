"""`engagement dead-letters` in process: what it prints, what it refuses and how; no broker is there."""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import sys

import pytest
from reject_lake import IDS, World, at, good, replay_of

from engagement import cli
from engagement.cli import dead_letter_output
from engagement.ingest import replay as replaying
from engagement.ingest import tails
from engagement.ingest.letters import Address, Letter, Replays

COMMANDS = ("list", "show", "replay")


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder that is the whole world of the command line; no broker answers."""
    for name in [name for name in os.environ if name.startswith("ENGAGEMENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", str(tmp_path / "lake"))
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{closed_port()}")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def world(here):
    return World(here)


@pytest.fixture
def run(capfdbinary):
    """Runs `engagement dead-letters …`: exit code, stdout, stderr."""

    def call(*arguments):
        capfdbinary.readouterr()
        code = cli.run(["dead-letters", *map(str, arguments)])
        done = capfdbinary.readouterr()
        return code, done.out, done.err.decode()

    return call


@pytest.fixture
def refused(run):
    """Runs what must fail with this code, no output and one line on stderr; that line."""

    def call(code, *arguments):
        found, out, err = run(*arguments)
        assert (found, out) == (code, b""), err
        assert err.startswith("engagement: ")
        assert err.count("\n") == 1, err
        assert "Traceback" not in err
        return err

    return call


def lines(out: bytes) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


# ------------------------------------------------------------------------------------------------ help and wrong use


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_shows_usage_and_examples(run, here, name):
    code, out, err = run(name, "--help")
    text = " ".join(out.decode().split())
    assert (code, err) == (0, "")
    assert f"Usage: engagement dead-letters {name}" in text
    assert f"engagement dead-letters {name}" in text.partition("For example:")[2]
    assert list(here.iterdir()) == []


def test_the_group_names_its_commands(run):
    for arguments in (("--help",), ()):
        code, out, _ = run(*arguments)
        assert code == 0
        assert all(f" {name} " in out.decode() for name in COMMANDS)


ADDRESS = f"{IDS['session']}/0/0"

WRONG = {
    "no such command": (("lst",), ["lst"]),
    "unknown topic": (("list", "--topic", "sesion"), ["sesion", "session", "install", "import"]),
    "unknown reason": (("list", "--reason", "bad_jsn"), ["bad_jsn", "bad_json", "missing[:FIELD]", "too_late"]),
    "a reason without fields": (("list", "--reason", "empty:user_id"), ["empty:user_id"]),
    "a reason without its field": (("list", "--reason", "missing:"), ["missing:"]),
    "no day": (("list", "--from", "yesterday"), ["--from yesterday", "YYYY-MM-DD"]),
    "no such day": (("show", "--to", "2026-02-30"), ["--to 2026-02-30"]),
    "an instant without offset": (("replay", "--from", "2026-11-01T10:00:00"), ["--from", "2026-11-01T10:00:00Z"]),
    "from after to": (("list", "--from", "2026-11-02", "--to", "2026-11-01"), ["--from 2026-11-02", "--to 2026-11-01"]),
    "no coordinates": (("show", "5e/0/0"), ["5e/0/0", "topic_id/partition/offset"]),
    "coordinates and filters": (("show", ADDRESS, "--reason", "empty"), ["not by both"]),
    "coordinates and a time": (("replay", ADDRESS, "--to", "2026-11-01"), ["not by both"]),
    "no limit": (("show", "--limit", "0"), ["--limit 0"]),
    "a payload of many": (("show", "--payload"), ["exactly one"]),
    "a payload as JSON": (("show", ADDRESS, "--payload", "--json"), ["without --json"]),
    "a fix without function": (("replay", "--fix", "fix.py"), ["script.py:function"]),
    "a fix without script": (("replay", "--fix", ":mend"), ["script.py:function"]),
    "a missing script": (("replay", "--fix", "missing.py:mend"), ["missing.py"]),
    "no such function": (("replay", "--fix", "fix.py:mend"), ["no function mend"]),
    "no function": (("replay", "--fix", "fix.py:number"), ["no function number"]),
    "a topic that is not read": (("replay", "--topic", "old"), ["old", "install, session, view_notification"]),
    "another topic than its own": (("replay", ADDRESS, "--topic", "install"), [ADDRESS, "goes back there"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_told_in_one_line_with_exit_code_2(refused, world, here, name):
    world.put([b"{"])
    world.put([b"{"], topic="old")
    (here / "fix.py").write_text("number = 7\n")
    arguments, told = WRONG[name]
    line = refused(2, *arguments)
    assert [word for word in told if word not in line] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_without_a_lake_nothing_is_made(refused, here, name):
    assert "there is no lake" in refused(1, name)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("text", ["raise ValueError('two\\nlines')", "def (", "import nothing_of_this_name", "exit(3)"])
def test_a_script_that_fails_is_one_line(refused, world, here, text):
    world.put([b"{"])
    (here / "fix.py").write_text(text)
    assert "fix.py cannot be loaded: " in refused(1, "replay", "--fix", "fix.py:mend")


# ------------------------------------------------------------------------------------------------ list


def test_an_empty_list_says_so(run, world):
    world.put([good()])
    assert run("list") == (0, b"no dead letters\n", "")
    assert run("list", "--json") == (0, b"", "")


def test_the_list_counts_what_was_rejected_replayed_and_waits(run, world):
    origin, *_ = world.put([b"{", b"{", None, good()])
    world.put([(None, good(), replay_of(origin))], 5)
    code, out, err = run("list", "--json")
    assert (code, err) == (0, "")
    first, second = ({"topic": "session", "reason": reason} for reason in ("bad_json", "empty"))
    assert lines(out) == [
        first | {"count": 2, "oldest": at(0).isoformat(), "newest": at(1).isoformat(), "replayed": 1, "kept": True, "waiting": 1},
        second | {"count": 1, "oldest": at(2).isoformat(), "newest": at(2).isoformat(), "replayed": 0, "kept": True, "waiting": 1},
    ]
    code, out, err = run("list", "--reason", "bad_json")
    assert (code, err) == (0, "")
    cells = re.split(r"\s{2,}", out.decode().strip().splitlines()[-1].strip())
    assert cells == ["session", "bad_json", "2", "1", "1", "2026-11-24 12:00:00", "2026-11-24 12:01:00"]
    assert run("list", "--reason", "too_late")[1] == b"no dead letters\n"


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--from", "2026-11-24", "--to", "2026-11-24"), 4),
        (("--from", "2026-11-25"), 0),
        (("--to", "2026-11-23"), 0),
        (("--from", "2026-11-24T13:01:00+01:00"), 2),
        (("--to", "2026-11-24t12:01:00z"), 2),
        (("--topic", "session"), 3),
        (("--topic", "import"), 1),
        (("--reason", "empty", "--reason", "bad_encoding"), 2),
    ],
    ids=["days", "after", "before", "an instant", "until an instant", "a topic", "imports", "two reasons"],
)
def test_filters_by_time_topic_and_reason(run, world, arguments, count):
    world.put([b"{", None, b"\xff"])
    world.put([b"{"], topic="import")
    assert sum(line["count"] for line in lines(run("list", "--json", *arguments)[1])) == count
    assert len(lines(run("show", "--json", *arguments)[1])) == count


def test_a_family_names_its_topic_under_a_prefix(run, world, monkeypatch):
    monkeypatch.setenv("ENGAGEMENT_TOPIC_PREFIX", "se")
    world.put([b"{"])
    world.put([b"{", b"{"], topic="sesession")
    assert sum(line["count"] for line in lines(run("list", "--json", "--topic", "session")[1])) == 1, "an exact name first"
    assert sum(line["count"] for line in lines(run("list", "--json", "--topic", "sesession")[1])) == 2
    monkeypatch.setenv("ENGAGEMENT_TOPIC_PREFIX", "x-")
    assert run("list", "--topic", "install") == (0, b"no dead letters\n", "")


def test_an_object_that_cannot_be_read_is_named(run, world):
    world.put([b"{"])
    world.put([b"{"], partition=1)
    world.lake.path("raw/session/5e5e5e5e-00001/00000000000000000000.parquet").write_bytes(b"damaged")
    code, out, err = run("list", "--json")
    assert (code, len(lines(out))) == (0, 1)
    assert err.count("\n") == 1
    assert "5e5e5e5e-00001/00000000000000000000.parquet" in err


# ------------------------------------------------------------------------------------------------ show


def test_show_is_readable_and_cannot_touch_the_terminal(run, world):
    nasty = b'\x1b[2J\x07{"\xc3\xbc\n\r\xff\xe2\x80\xae' + b"x" * 1000
    address, _ = world.put([(b"", nasty, [("a", None), ("\x1b", b"[red]")]), (None, b"", ())])
    code, out, err = run("show")
    text = out.decode()
    assert (code, err) == (0, "")
    assert all(char.isprintable() for line in text.splitlines() for char in line)
    newest, oldest = text.split("\n\n")[:2]
    assert newest.splitlines()[1:] == ["  key        null", "  payload    (empty)"]
    heading, *rest = oldest.splitlines()
    assert heading == f"{address}  session  2026-11-24 12:00:00.000  bad_encoding  {len(nasty) + 7:,} bytes  waiting"
    assert rest[:3] == ["  key        (empty)", "  header     a: null", "  header     \\x1b: [red]"]
    assert rest[3].startswith('  payload    \\x1b[2J\\x07{"ü\\n\\r\\xff\\u202exxx')
    assert rest[3].endswith(f"xxx … ({len(nasty):,} bytes)")


def test_show_tells_what_a_replay_replays(run, world):
    (origin,) = world.put([b"{"])
    world.put([(None, b"{", replay_of(origin))], 5)
    newest, oldest = run("show")[1].decode().split("\n\n")[:2]
    assert newest.splitlines()[0].endswith("waiting")
    assert newest.splitlines()[1] == f"  replay of  {origin}"
    assert oldest.splitlines()[0].endswith("replayed")


def test_an_erased_record_is_shown_as_such():
    erased = Letter("session", Address(IDS["session"], 0, 0), at(0), "erased", None, None, None)
    heading, *rest = dead_letter_output.lines(erased, Replays([]))
    assert heading.endswith("erased  0 bytes  erased")
    assert "  headers    not kept" in rest


def test_a_reject_of_an_import_names_its_row_as_the_import_counts_them():
    imported = Letter("import", Address("ab" * 32, 0, 3), at(0), "bad_json", b"{", None, [], source="old.jsonl")
    assert "/3  import row 4 of old.jsonl  " in next(dead_letter_output.lines(imported, Replays([])))


def test_show_limits_to_the_newest_and_json_holds_every_byte(run, world):
    world.put([b"{", b"["])
    (address,) = world.put([(b"\xff", b"\x00\xff", [("a", b"\xfe"), ("a", None)])], 5)
    (found,) = lines(run("show", "--limit", "1", "--json")[1])
    assert (found["coordinates"], found["topic"], found["reason"], found["state"]) == (str(address), "session", "bad_encoding", "waiting")
    assert base64.b64decode(found["payload"]) == b"\x00\xff"
    assert base64.b64decode(found["key"]) == b"\xff"
    assert found["headers"] == [{"name": "a", "value": base64.b64encode(b"\xfe").decode()}, {"name": "a", "value": None}]
    assert lines(run("show", address, "--json")[1]) == [found]


def test_the_payload_alone_goes_to_stdout(run, refused, world):
    binary, null, fine = world.put([bytes(range(256)), None, good()])
    assert run("show", binary, "--payload") == (0, bytes(range(256)), "")
    assert run("show", null, "--payload") == (0, b"", "engagement: the record has no payload (null)\n")
    assert "was not rejected" in refused(1, "show", fine, "--payload")


# ------------------------------------------------------------------------------------------------ replay


def test_replay_without_a_broker_is_one_line(refused, world, monkeypatch):
    monkeypatch.setattr(tails, "ASK_SECONDS", 0.3)
    world.put([b"{"])
    assert os.environ["ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS"] in refused(1, "replay")


def test_nothing_to_replay_needs_no_broker(run, world):
    world.put([good()])
    assert run("replay") == (0, b"no dead letters match: nothing to replay\n", "")


@pytest.fixture
def log(monkeypatch):
    """What is sent, in the broker's place."""
    sent = []

    class Outbox:
        def send(self, message, done):
            sent.append(message)
            done("too large" if message.payload == b"[" else None)

        def close(self):
            pass

    monkeypatch.setattr(replaying, "read_tails", lambda *_: (set(), {"session": 1}))
    monkeypatch.setattr(replaying, "Outbox", lambda _: Outbox())
    return sent


def test_the_summary_says_what_became_of_each(run, world, here, log):
    origin, *_ = world.put([b"{", b"{}", None])
    world.put([(None, good(), replay_of(origin))], 5)
    (here / "fix.py").write_text("def mend(payload, *_):\n    print('seen')\n    return payload\n")
    code, out, err = run("replay", "--fix", "fix.py:mend", "--dry-run")
    assert (code, err, log) == (0, "seen\nseen\n", [])
    assert out.decode().splitlines() == [
        "would replay 1 of 3 dead letters (session 1); 1 replayed before, 1 left alone by the fix",
        "1 of them will be rejected again: missing:event_id 1",
    ]
    code, out, err = run("replay", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "dry_run": False, "selected": 3, "sent": {"session": 2}, "already_replayed": 1, "unchanged": 0, "skipped_by_fix": 0,
        "erased": 0, "failed": 0, "rejected_again": {"missing:event_id": 1, "empty": 1},
    }  # fmt: skip
    assert [message.payload for message in log] == [b"{}", None]


def test_a_fix_is_a_script_like_any_other(run, world, here, log, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    world.put([b"{"])
    (here / "scripts").mkdir()
    (here / "scripts" / "neighbour.py").write_text("BYTES = b'{}'\n")
    (here / "scripts" / "fix.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport neighbour\n"
        "@dataclass\nclass Mended:\n    payload: bytes\n"
        "class Mender:\n    def __call__(self, payload, key, headers, reason):\n        return Mended(neighbour.BYTES).payload\n"
        "mend = Mender()\n"
    )
    code, _, err = run("replay", "--fix", "scripts/fix.py:mend")
    assert (code, err) == (0, "")
    assert [message.payload for message in log] == [b"{}"]


def test_failures_are_one_line_each_up_to_a_bound_and_the_exit_code_is_1(run, world, log):
    addresses = world.put([b"["] * 25 + [b"{"])
    code, out, err = run("replay")
    assert code == 1
    assert out.startswith(b"replayed 1 of 26 dead letters (session 1); 25 failed\n")
    assert err.splitlines() == [*(f"engagement: {address}: too large" for address in addresses[:20]), "engagement: … and 5 more"]
    assert len(log) == 26


def test_a_named_topic_takes_its_own_letters_and_those_that_have_none(run, world, log):
    world.put([b"{s"])
    world.put([b"{i"], topic="install")
    world.put([b'{"event_type": "install"}'], topic="import")
    world.put([b"{o"], topic="old")
    code, out, _ = run("replay", "--topic", "session", "--json")
    assert (code, json.loads(out)["sent"]) == (0, {"session": 3})
    assert {(message.topic, message.payload[1:2]) for message in log} == {("session", b"s"), ("session", b'"'), ("session", b"o")}
    log.clear()
    code, out, _ = run("replay", "--topic", "import", "--json")
    assert (code, json.loads(out)["sent"]) == (0, {"install": 1})


def test_the_coordinates_alone_are_sent(run, world, log):
    _, second = world.put([b"{", b"{}"])
    assert json.loads(run("replay", second, "--topic", "session", "--json")[1])["selected"] == 1
    assert [message.payload for message in log] == [b"{}"]
