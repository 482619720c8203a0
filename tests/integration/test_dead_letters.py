"""Dead letters against the real broker: what was rejected comes back byte for byte, and once."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import c_producer
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from helpers import eventually
from ingest_helpers import environment, read_to_the_end, rows_of

from engagement import cli
from engagement.ingest import importer
from engagement.ingest.kafka import Topics
from engagement.ingest.letters import Address, replay_of
from engagement.lake import open_lake
from engagement.raw import files
from engagement.raw.names import REPLAY_HEADER

GOOD = {"event_id": "0f8fad5b-d9cb-469f-a165-70867728950e", "user_id": "u1", "event_type": "tap", "timestamp": None}


def document(**changes) -> bytes:
    fields = GOOD | {"timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())} | changes
    return json.dumps({name: value for name, value in fields.items() if value is not ...}).encode()


def bad_payloads() -> list[tuple[bytes | None, str]]:
    """One record at least of every reason that ingest gives."""
    return [
        (None, "empty"),
        (b"", "empty"),
        (b"{broken", "bad_json"),
        (bytes(range(256)) * 40, "bad_encoding"),
        (b"\x00", "bad_json"),
        (b'{"user_id": "\xff"}', "bad_encoding"),
        (os.urandom(200_000) + b"\xff", "bad_encoding"),
        (document(user_id=...), "missing:user_id"),
        (document(app_version=7), "bad_type:app_version"),
        (document(event_id="no uuid"), "bad_value:event_id"),
        (document(timestamp="2021-01-01T00:00:00Z"), "too_late"),
        (document(timestamp="2199-01-01T00:00:00Z"), "in_future"),
        (document(timestamp="1999-01-01T00:00:00Z"), "before_history_start"),
    ]


KEYS = [None, b"", b"u1", b"\xff\x00\xfe"]
HEADERS = [
    [],
    [("a", b"1"), ("b", None), ("a", None), ("c", b""), ("a", b"2"), ("", b"no name"), ("\N{SNOWMAN}", bytes(range(256)))],
]


def produce(settings, records) -> None:
    """(topic, partition, payload, key, headers) each."""
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all"})
    for topic, partition, payload, key, headers in records:
        producer.produce(topic, payload, key, partition, headers=headers)
    assert producer.flush(60) == 0


def every_reject(settings) -> list[tuple]:
    topics = list(settings.topics)
    kinds = [(payload, key, headers) for payload, _ in bad_payloads() for key in KEYS for headers in HEADERS]
    return [(topics[number % 3], number % settings.topic_partitions, *kind) for number, kind in enumerate(kinds)]


def log_of(settings) -> dict[Address, tuple]:
    """Every record by its address: topic, key, value, headers, all as a plain client gets them."""
    ids = Topics(settings).ids(list(settings.topics))
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "group.id": "test-reader", "enable.auto.commit": False})
    found, left = {}, 0
    for topic in settings.topics:
        for number in range(settings.topic_partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number))
            left += high - low
            consumer.incremental_assign([TopicPartition(topic, number, low)])
    while left:
        for message in consumer.consume(min(left, 1000), 1.0):
            address = Address(ids[message.topic()], message.partition(), message.offset())
            found[address] = (message.topic(), message.key(), message.value(), message.headers() or [])
            left -= 1
    consumer.close()
    return found


@pytest.fixture
def run(kafka_settings, monkeypatch, capfdbinary):
    """Runs `engagement dead-letters ARGUMENTS`: its stdout, or its stderr where it must fail."""
    for name, value in environment(kafka_settings).items():
        if name.startswith("ENGAGEMENT_"):
            monkeypatch.setenv(name, value)

    def call(*arguments, code=0):
        capfdbinary.readouterr()
        found = cli.run(["dead-letters", *map(str, arguments)])
        done = capfdbinary.readouterr()
        assert found == code, done.err.decode()
        return done.err.decode() if code else done.out

    return call


@pytest.fixture
def replay(run):
    """Runs `engagement dead-letters replay` and compares the counts; its report."""

    def call(*arguments, **expected):
        report = json.loads(run("replay", "--json", *arguments))
        counts = {"sent": sum(report["sent"].values())} | {name: report[name] for name in ("already_replayed", "unchanged", "failed")}
        assert counts == {"already_replayed": 0, "unchanged": 0, "failed": 0} | expected
        return report

    return call


def json_lines(out: bytes) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def rejects_of(settings) -> Counter:
    return Counter(row["reject_reason"] for row in rows_of(settings) if row["reject_reason"])


def replays_in(log) -> list[tuple[Address, Address, tuple]]:
    """(origin, address, record) of every record with the header."""
    return [(origin, address, record) for address, record in log.items() if (origin := replay_of(record[3]))]


def test_every_kind_of_reject_comes_back_byte_for_byte_and_once(kafka_settings, run, replay):
    sent = every_reject(kafka_settings)
    produce(kafka_settings, sent)
    read_to_the_end(kafka_settings)
    before = log_of(kafka_settings)
    assert rejects_of(kafka_settings) == Counter(reason for _, reason in bad_payloads() for _ in range(8))

    tallies = json_lines(run("list", "--json"))
    assert sum(tally["count"] for tally in tallies) == sum(tally["waiting"] for tally in tallies) == len(sent)
    report = replay("--dry-run", sent=len(sent))
    assert len(log_of(kafka_settings)) == len(before), "a dry run sends nothing"
    assert sum(report["rejected_again"].values()) == len(sent) - 3 * 8, "the contract alone has nothing against the three times"

    replay(sent=len(sent))
    after = log_of(kafka_settings)
    replays = replays_in(after)
    assert Counter(origin for origin, _, _ in replays) == dict.fromkeys(before, 1), "each once"
    for origin, address, (topic, key, value, headers) in replays:
        own = before[origin]
        assert (topic, key, value, headers[:-1]) == own
        assert headers[-1] == (REPLAY_HEADER, str(origin).encode())
        assert address.partition == origin.partition

    replay(sent=0, already_replayed=len(sent))
    assert len(log_of(kafka_settings)) == len(after), "ingest has not read the replays, the log tells"

    read_to_the_end(kafka_settings)
    replay(sent=0, already_replayed=len(sent), unchanged=len(sent) - 8)
    assert len(log_of(kafka_settings)) == len(after), "those that were rejected again are not sent again as they are"

    rejected = rejects_of(kafka_settings)
    assert rejected["too_late"] == 8, "age is not judged on replays: none of them was rejected twice"
    assert all(count % 16 == 0 for reason, count in rejected.items() if reason != "too_late")
    tallies = json_lines(run("list", "--json"))
    assert sum(tally["replayed"] for tally in tallies) == len(sent)
    assert sum(tally["waiting"] for tally in tallies if tally["reason"] == "too_late") == 0
    assert sum(tally["waiting"] for tally in tallies) == len(sent) - 8


FIX = """
import json

def mend(payload, key, headers, reason):
    print("seen", reason)
    if reason == "bad_json":
        return payload + b"}"
    if reason == "missing:user_id":
        return json.dumps(json.loads(payload) | {"user_id": "u9"}).encode(), b"u9"
    if reason == "empty":
        return None
    raise ValueError(f"cannot\\nmend {reason}")
"""


def test_a_fix_mends_what_it_can_and_the_rest_stays_a_dead_letter(kafka_settings, run, tmp_path):
    session = f"{kafka_settings.topic_prefix}session"
    broken, nobody, odd = document(user_id="u8")[:-1], document(user_id=...), document(event_type="No Snake")
    produce(kafka_settings, [(session, number % 3, payload, b"u8", []) for number, payload in enumerate([broken, nobody, b"", odd])])
    read_to_the_end(kafka_settings)
    (tmp_path / "fix.py").write_text(FIX)
    fix = ("--fix", f"{tmp_path / 'fix.py'}:mend")
    errors = run("replay", *fix, code=1)
    (line,) = [line for line in errors.splitlines() if "ValueError" in line]
    (held,) = json_lines(run("show", "--json", "--reason", "bad_value"))
    assert line == f"engagement: {held['coordinates']}: the fix raised ValueError: cannot mend bad_value:event_type"
    assert held["state"] == "waiting"
    read_to_the_end(kafka_settings)
    good = [row for row in rows_of(kafka_settings) if not row["reject_reason"]]
    assert sorted(row["user_id"] for row in good) == ["u8", "u9"]
    assert "ValueError" in run("replay", *fix, code=1)
    read_to_the_end(kafka_settings)
    assert len(rows_of(kafka_settings)) == 4 + 2, "the mended ones went in once"
    states = Counter((letter["reason"], letter["state"]) for letter in json_lines(run("show", "--json")))
    assert states == {
        ("bad_json", "replayed"): 1,
        ("missing:user_id", "replayed"): 1,
        ("empty", "waiting"): 1,
        ("bad_value:event_type", "waiting"): 1,
    }


def test_a_replay_that_is_rejected_again_is_mended_in_place_of_its_original(kafka_settings, run, replay, tmp_path):
    session = f"{kafka_settings.topic_prefix}session"
    headers = [("trace", b"1")]
    produce(kafka_settings, [(session, 1, document()[:-1], b"u1", headers)])
    read_to_the_end(kafka_settings)
    replay(sent=1)
    read_to_the_end(kafka_settings)
    first, again = sorted(json_lines(run("show", "--json")), key=lambda letter: letter["received_at"])
    assert (first["state"], again["state"]) == ("replayed", "waiting")
    assert (first["replay_of"], again["replay_of"]) == (None, first["coordinates"])
    (tmp_path / "fix.py").write_text("def close(payload, key, headers, reason):\n    return payload + b'}'\n")
    replay("--fix", f"{tmp_path / 'fix.py'}:close", sent=1, already_replayed=1)
    read_to_the_end(kafka_settings)
    replay("--fix", f"{tmp_path / 'fix.py'}:close", sent=0, already_replayed=2)
    (good,) = [row for row in rows_of(kafka_settings) if not row["reject_reason"]]
    expected = [*headers, (REPLAY_HEADER, first["coordinates"].encode())]
    assert [(header["name"], header["value"]) for header in good["headers"]] == expected, "one replay header, the origin's"
    replay("--again", sent=1, already_replayed=1)
    assert len(log_of(kafka_settings)) == 4


def test_show_gives_the_exact_bytes(kafka_settings, run):
    session = f"{kafka_settings.topic_prefix}session"
    payload = bytes(range(256)) * 4
    produce(kafka_settings, [(session, 0, payload, b"\x00", HEADERS[1]), (session, 1, None, None, [])])
    read_to_the_end(kafka_settings)
    shown = json_lines(run("show", "--json", "--topic", "session"))
    (binary,) = [letter for letter in shown if letter["payload"] is not None]
    (null,) = [letter for letter in shown if letter["payload"] is None]
    assert base64.b64decode(binary["payload"]) == payload
    assert base64.b64decode(binary["key"]) == b"\x00"
    headers = [(header["name"], None if header["value"] is None else base64.b64decode(header["value"])) for header in binary["headers"]]
    assert headers == HEADERS[1]
    assert (null["key"], null["headers"]) == (None, [])
    assert run("show", "--payload", binary["coordinates"]) == payload
    assert run("show", "--payload", null["coordinates"]) == b""
    table = run("show").decode()
    assert all(char.isprintable() for line in table.splitlines() for char in line)


def test_rejects_of_imports_go_to_the_topic_of_their_family(kafka_settings, run, replay, tmp_path):
    lines = [
        document(event_type="install", user_id=""),
        document(event_type="click_notification", app_version=1),
        document(event_id="x"),
        b"{",
    ]
    (tmp_path / "history.jsonl").write_bytes(b"\n".join([document(user_id="fine"), *lines]))
    lake, lake_format = open_lake(kafka_settings)
    importer.import_file(importer.inspect(tmp_path / "history.jsonl"), lake, lake_format, kafka_settings)
    errors = run("replay", code=1)
    (line,) = [line for line in errors.splitlines() if line.startswith("engagement:")]
    assert line.endswith("an imported record that tells no event_type: name its topic by --topic")
    prefix = kafka_settings.topic_prefix
    log = log_of(kafka_settings)
    assert sorted((topic.removeprefix(prefix), value, key) for topic, key, value, _ in log.values()) == sorted(
        zip(("install", "view_notification", "session"), lines[:3], (None, None, None), strict=True)
    )
    assert {len(headers) for _, _, _, headers in log.values()} == {1}
    report = replay("--topic", "session", sent=1, already_replayed=3)
    assert report["sent"] == {f"{prefix}session": 1}
    replay("--topic", "import", sent=0, already_replayed=4)
    read_to_the_end(kafka_settings)
    replay("--topic", "import", sent=0, already_replayed=4)
    shown = json_lines(run("show", "--json", "--topic", "import"))
    assert {letter["source"] for letter in shown} == {"history.jsonl"}
    assert Counter(letter["state"] for letter in shown) == {"replayed": 4}


def test_a_replay_that_is_killed_is_finished_by_the_next_one(kafka_settings, replay, tmp_path):
    session = f"{kafka_settings.topic_prefix}session"
    produce(kafka_settings, [(session, number % 3, b"{%d" % number, b"%d" % number, []) for number in range(3000)])
    read_to_the_end(kafka_settings)
    mark = tmp_path / "mark"
    (tmp_path / "fix.py").write_text(
        "import os, time\nseen = []\n"
        "def pause(payload, key, headers, reason):\n"
        "    seen.append(payload)\n"
        f"    if len(seen) == 1500:\n        open({str(mark)!r}, 'w').close()\n        time.sleep(3600)\n"
        "    return payload\n"
    )
    argv = [sys.executable, "-m", "engagement", "dead-letters", "replay", "--fix", f"{tmp_path / 'fix.py'}:pause"]
    child = subprocess.Popen(argv, env=environment(kafka_settings), stderr=subprocess.PIPE)
    eventually(mark.exists, 60)
    eventually(lambda: len(log_of(kafka_settings)) > 3000, 60)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    sent = len(log_of(kafka_settings)) - 3000
    assert 0 < sent < 3000
    replay(sent=3000 - sent, already_replayed=sent)
    assert Counter(origin for origin, _, _ in replays_in(log_of(kafka_settings))).most_common(1)[0][1] == 1
    assert len(log_of(kafka_settings)) == 6000


def test_two_replays_at_once_send_each_once(kafka_settings):
    session = f"{kafka_settings.topic_prefix}session"
    produce(kafka_settings, [(session, number % 3, b"{%d" % number, None, []) for number in range(500)])
    read_to_the_end(kafka_settings)
    argv = [sys.executable, "-m", "engagement", "dead-letters", "replay", "--json"]
    children = [subprocess.Popen(argv, env=environment(kafka_settings), stdout=subprocess.PIPE) for _ in range(2)]
    reports = [json.loads(child.communicate(timeout=120)[0]) for child in children]
    assert sorted(sum(report["sent"].values()) for report in reports) == [0, 500]
    assert len(log_of(kafka_settings)) == 1000


def test_a_transaction_that_somebody_left_open_hides_no_replay(kafka_settings, replay):
    session = f"{kafka_settings.topic_prefix}session"
    produce(kafka_settings, [(session, 1, b"{", b"u1", [])])
    read_to_the_end(kafka_settings)
    identity = f"left-open-{kafka_settings.topic_prefix}"
    left = Producer({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers, "transactional.id": identity})
    left.init_transactions(30)
    left.begin_transaction()
    left.produce(session, b"of nobody", partition=1)
    assert left.flush(30) == 0
    replay(sent=1)
    replay(sent=0, already_replayed=1)
    left.abort_transaction(30)
    replay(sent=0, already_replayed=1)
    read_to_the_end(kafka_settings)
    replay(sent=0, already_replayed=1, unchanged=1)


def test_what_the_broker_refuses_for_its_size_is_told_and_its_neighbours_are_sent(kafka_settings, run, replay):
    session = f"{kafka_settings.topic_prefix}session"
    small = [(session, 1, b"{" + os.urandom(9000), b"u1", []) for _ in range(40)]
    produce(kafka_settings, [*small[:20], (session, 1, os.urandom(300_000), b"u1", []), *small[20:]])
    read_to_the_end(kafka_settings)
    limit(kafka_settings, session, 50_000)
    lines = run("replay", code=1).splitlines()
    (refused,) = [letter for letter in json_lines(run("show", "--json", "--limit", "100")) if letter["size"] > 100_000]
    assert [line for line in lines if line.startswith("engagement:")] == [
        f"engagement: {refused['coordinates']}: Broker: Message size too large"
    ]
    assert len(replays_in(log_of(kafka_settings))) == 40, "each would fit alone; several in one batch would not"
    limit(kafka_settings, session, 1_000_000)
    replay(sent=1, already_replayed=40)


def test_an_object_that_cannot_be_read_is_made_up_for_by_the_log_as_long_as_it_can(kafka_settings, run, replay):
    session = f"{kafka_settings.topic_prefix}session"
    produce(kafka_settings, [(session, 1, b"{", b"u1", [])])
    read_to_the_end(kafka_settings)
    replay(sent=1)
    read_to_the_end(kafka_settings)
    lake, _ = open_lake(kafka_settings)
    (chain, start), (_, last) = sorted(files.names(lake))
    assert (start, last) == (0, 1)
    lake.path(chain.key(last)).write_bytes(b"damaged")
    replay(sent=0, already_replayed=1)
    admin = AdminClient({"bootstrap.servers": kafka_settings.kafka_bootstrap_servers})
    for future in admin.delete_records([TopicPartition(session, 1, 2)]).values():
        future.result()
    line = run("replay", code=1).splitlines()[-1]
    assert line.startswith(f"engagement: {chain.key(last)} ")
    assert line.endswith("replays may hide there, --again sends anyway")
    replay("--again", sent=1)


def test_ten_megabytes_that_came_in_compressed_go_back_under_the_same_limit(kafka_settings, replay):
    session = f"{kafka_settings.topic_prefix}session"
    payload = b"{" + b"poison " * 1_500_000
    config = {"bootstrap.servers": kafka_settings.kafka_bootstrap_servers, "compression.type": "zstd", "message.max.bytes": 12_000_000}
    producer = Producer(config)
    producer.produce(session, payload, b"u1", 2)
    assert producer.flush(60) == 0
    read_to_the_end(kafka_settings)
    replay(sent=1)
    ((_, _, (_, key, value, headers)),) = replays_in(log_of(kafka_settings))
    assert (key, value, len(headers)) == (b"u1", payload, 1)
    replay(sent=0, already_replayed=1)


def limit(settings, topic, size) -> None:
    """Set a topic's largest batch, and see that it holds."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    for future in admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])]).values():
        future.result()

    def holds():
        found = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)])
        return all(future.result()["max.message.bytes"].value == str(size) for future in found.values())

    eventually(holds)


def test_header_names_that_are_no_text_are_told_not_made_up(kafka_settings, run, tmp_path):
    session = f"{kafka_settings.topic_prefix}session"
    c_producer.send(kafka_settings.kafka_bootstrap_servers, session, 0, [(b"k", document(), [(b"\xff", b"v")])])
    read_to_the_end(kafka_settings)
    (letter,) = json_lines(run("show", "--json"))
    assert (letter["reason"], letter["headers"], letter["state"]) == ("bad_encoding", None, "waiting")
    assert "header names are no text" in run("replay", code=1)
    (tmp_path / "fix.py").write_text("def keep(payload, key, headers, reason):\n    return payload\n")
    assert json.loads(run("replay", "--json", "--fix", f"{tmp_path / 'fix.py'}:keep"))["sent"] == {session: 1}
    read_to_the_end(kafka_settings)
    assert [row["reject_reason"] for row in rows_of(kafka_settings)] == ["bad_encoding", None]
