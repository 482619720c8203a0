"""Everything a real log can hold, through the real consumer: good + rejected + holes = offsets, nothing stops it.

The named records of `record_cases.py` are sent with every compression, in committed and aborted transactions, and compared
row by row with the log as a plain read_committed client reads it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from datetime import UTC, datetime, timedelta

import c_producer
import pytest
from any_record import Case, assert_row, changed
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from helpers import eventually
from ingest_helpers import environment, ingest, read_to_the_end, rows_of
from record_cases import cases

from engagement.lake import open_lake
from engagement.raw import files
from engagement.stack import processes

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
LARGEST = 12_000_000
LARGE = 1_000_000
EOF = -191
WITH_PEAK = """
import atexit, re, sys
from pathlib import Path
from engagement.cli import main
atexit.register(lambda: print(re.search("VmHWM:.*", Path("/proc/self/status").read_text())[0], file=sys.stderr))
main()
"""
"""The command line, and the largest memory the process had as its last words."""


def alter(settings, topic: str, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    entries = [ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET) for name, value in config.items()]
    for future in admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)]).values():
        future.result()


@pytest.fixture
def topics(kafka_settings) -> list[str]:
    found = list(kafka_settings.topics)
    for topic in found:
        alter(kafka_settings, topic, max_message_bytes=str(LARGEST))
    return found


def producer(settings, codec: str = "none", **more) -> Producer:
    config = {"bootstrap.servers": settings.kafka_bootstrap_servers, "acks": "all", "compression.type": codec, "message.max.bytes": LARGEST}
    return Producer(config | {"queue.buffering.max.kbytes": 1_000_000, **more})


def send(sender: Producer, topic: str, partition: int, records: list[Case]) -> None:
    for case in records:
        sender.produce(topic, case.value, case.key, partition=partition, headers=list(case.headers))
        sender.poll(0)
    assert sender.flush(120) == 0


def plain_log(settings, *, headers: bool = True) -> tuple[dict[tuple, tuple], dict[tuple, int]]:
    """Every committed record by coordinates, and the end of each partition, as a plain client sees them."""
    group = {"group.id": "plain-reader", "enable.auto.commit": False, "isolation.level": "read_committed", "enable.partition.eof": True}
    group["receive.message.max.bytes"] = 1_000_000_000
    consumer = Consumer({"bootstrap.servers": settings.kafka_bootstrap_servers, "auto.offset.reset": "error", **group})
    records, ends = {}, {}
    everything = [TopicPartition(topic, number, 0) for topic in settings.topics for number in range(settings.topic_partitions)]
    consumer.assign(everything)
    while len(ends) < len(everything):
        for message in consumer.consume(100, 10):
            where = (message.topic(), message.partition())
            if message.error():
                assert message.error().code() == EOF
                ends[where] = message.offset()
            else:
                held = tuple(message.headers() or ()) if headers else None
                records[*where, message.offset()] = (message.key(), message.value(), message.timestamp()[1], held)
    consumer.close()
    return records, ends


def run_until_idle(settings, **extra) -> int:
    """The consumer process to the end of the log; the largest memory it had, in MiB."""
    child = subprocess.Popen(
        [sys.executable, "-c", WITH_PEAK, "ingest", "--until-idle"],
        env=environment(settings, **extra),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _, errors = child.communicate(timeout=300)
    finally:
        child.kill()
    assert child.returncode == 0, errors[-3000:]
    peak = next((int(line.split()[1]) >> 10 for line in errors.splitlines() if line.startswith("VmHWM:")), 0)
    print(f"peak memory {peak} MiB, {len(errors.splitlines())} log lines")  # noqa: T201 - seen with -s
    return peak


def assert_the_log(settings, expected: dict[tuple, Case], moment: datetime) -> None:
    """Row by row the log; in each partition good + rejected + holes = offsets."""
    log, ends = plain_log(settings)
    rows = rows_of(settings)
    found = {(row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]): row for row in rows}
    assert len(found) == len(rows) == len(log)
    for where, (key, value, millis, headers) in log.items():
        row, case = found[where], expected[where]
        assert (key, value, headers) == (case.key, case.value, case.headers), "what the test believes to be in the log is there"
        assert row["received_at"] == datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=millis)
        try:
            assert_row(row, case, moment)
        except AssertionError as error:
            error.add_note(case.name)
            raise
    assert found.keys() == expected.keys()
    assert_chains(settings, ends, Counter(where[:2] for where in log))


def assert_chains(settings, ends: dict[tuple, int], records: Counter) -> None:
    """Chains from the first offset to the log's last, without a gap or an overlap; their footers count every record."""
    lake, _ = open_lake(settings)
    links: dict[tuple, list] = {}
    for chain, start in sorted(files.names(lake)):
        links.setdefault((chain.topic, chain.partition), []).append(files.read_footer(lake, chain, start))
    for where, end in ends.items():
        chain = links.get(where, [])
        assert [raw.start for raw in chain] == [0, *(raw.end for raw in chain)][: len(chain)]
        assert all(raw.gap is None for raw in chain)
        good = sum(sum(raw.event_slots.values()) for raw in chain)
        rejected = sum(sum(raw.rejects.values()) for raw in chain)
        assert good + rejected == sum(raw.rows for raw in chain) == records[where]
        assert (chain[-1].end if chain else 0) == end, "holes at the end of the log are claimed too"


def numbered(topic: str, partition: int, records: list[Case], first: int = 0) -> dict[tuple, Case]:
    return {(topic, partition, first + place): case for place, case in enumerate(records)}


def test_every_named_record_with_every_compression_is_one_row(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    everything = cases(moment)
    small = [case for case in everything if case.value is None or len(case.value) < LARGE]
    expected: dict[tuple, Case] = {}
    for place, codec in enumerate(CODECS):
        topic, partition = topics[place % 3], place // 3
        sent = everything if codec == "none" else small
        send(producer(kafka_settings, codec), topic, partition, sent)
        expected |= numbered(topic, partition, sent)
    run_until_idle(kafka_settings)
    assert_the_log(kafka_settings, expected, moment)


def test_records_of_transactions_are_read_when_committed_and_never_when_aborted(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    everything = [case for case in cases(moment) if case.value is None or len(case.value) < LARGE]
    topic, offset, holes, expected = topics[0], 0, 0, {}
    sender = producer(kafka_settings, "lz4", **{"transactional.id": topic})
    sender.init_transactions(60)
    for place in range(0, len(everything), 200):
        part = everything[place : place + 200]
        for outcome in ("abort", "commit"):
            sender.begin_transaction()
            send(sender, topic, 1, part)
            if outcome == "commit":
                sender.commit_transaction(60)
                expected |= numbered(topic, 1, part, offset)
            else:
                sender.abort_transaction(60)
                holes += len(part)
            offset += len(part) + 1
            holes += 1
    sender.begin_transaction()
    send(sender, topic, 2, everything[:50])
    sender.abort_transaction(60)  # a partition with nothing but holes
    read_to_the_end(kafka_settings)
    assert_the_log(kafka_settings, expected, moment)
    _, ends = plain_log(kafka_settings)
    assert ends[topic, 1] == len(expected) + holes
    assert ends[topic, 2] == 51
    lake, _ = open_lake(kafka_settings)
    claimed = sorted(files.names(lake))
    read_to_the_end(kafka_settings)  # nothing is left to claim, holes at the end neither
    assert sorted(files.names(lake)) == claimed
    send(producer(kafka_settings), topic, 1, everything[:3])
    send(producer(kafka_settings), topic, 2, everything[:3])
    expected |= numbered(topic, 1, everything[:3], offset) | numbered(topic, 2, everything[:3], 51)
    read_to_the_end(kafka_settings)
    assert_the_log(kafka_settings, expected, moment)


def test_an_open_transaction_holds_up_neither_the_end_nor_what_comes_after_it(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    topic, good = topics[0], Case("good", changed(moment), {})
    send(producer(kafka_settings), topic, 0, [good] * 3)
    sender = producer(kafka_settings, **{"transactional.id": topic})
    sender.init_transactions(60)
    sender.begin_transaction()
    send(sender, topic, 0, [good] * 2)
    send(producer(kafka_settings), topic, 0, [good] * 4)
    read_to_the_end(kafka_settings)
    expected = numbered(topic, 0, [good] * 3)
    assert_the_log(kafka_settings, expected, moment)
    sender.abort_transaction(60)
    read_to_the_end(kafka_settings)
    assert_the_log(kafka_settings, expected | numbered(topic, 0, [good] * 4, 5), moment)


def test_poison_records_of_10_mb_in_a_row_stop_nothing_and_fill_no_memory(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    topic, good = topics[1], Case("good", changed(moment), {})
    poison = [Case(f"poison {number}", b"\xff" + os.urandom(10_000_000), "bad_encoding") for number in range(3)]
    sent = [case for number in range(32) for case in (poison[number % 3], good)]
    send(producer(kafka_settings), topic, 0, sent)
    peak = run_until_idle(kafka_settings, ENGAGEMENT_BUFFER_BYTES=str(128 << 20))
    assert_the_log(kafka_settings, numbered(topic, 0, sent), moment)
    assert 0 < peak < 1200, "a flush holds its 64 MB about five times; all 320 MB at once would be twice the limit"


def test_four_kilobytes_that_grow_to_130_mb_stop_nothing(kafka_settings):
    topic, moment = next(iter(kafka_settings.topics)), datetime.now(UTC).replace(microsecond=0)
    good, bomb = Case("good", changed(moment), {}), Case("bomb", b"x" * 130_000_000, "bad_json")
    roomy = {"message.max.bytes": 1_000_000_000, "batch.size": 1_000_000_000}
    send(producer(kafka_settings, "zstd", **roomy), topic, 0, [good, bomb, good])
    run_until_idle(kafka_settings)
    assert_the_log(kafka_settings, numbered(topic, 0, [good, bomb, good]), moment)


def test_header_names_that_are_no_text_reject_the_record_and_stop_nothing(kafka_settings, topics):
    """The good ones before them matter: in a loop that runs for long the interpreter no longer checks what the client returns."""
    moment = datetime.now(UTC).replace(microsecond=0)
    topic, value, fine = topics[2], changed(moment), (b"fine", b"\xff")
    odd = [[(b"\xff\xfe", b"1")], [fine, (b"\xed\xa0\x80", b"1")], [(b"n\x80", b"1"), fine], [(b"\xff", b"1"), fine, (b"\xfe", b"1")]]
    headers = [held for bad in odd for held in [*[[fine]] * 100, bad, []]]
    c_producer.send(kafka_settings.kafka_bootstrap_servers, topic, 0, [(b"u1", value, held) for held in headers])
    run_until_idle(kafka_settings)
    rows = sorted(rows_of(kafka_settings), key=lambda row: row["kafka_offset"])
    assert len(rows) == len(headers)
    for row, held in zip(rows, headers, strict=True):
        if held in odd:
            assert (row["reject_reason"], row["payload"], row["key"]) == ("bad_encoding", value, b"u1")
        else:
            assert row["reject_reason"] is None
            assert row["headers"] == [{"name": name.decode(), "value": data} for name, data in held]
    _, ends = plain_log(kafka_settings, headers=False)
    assert_chains(kafka_settings, ends, Counter({(topic, 0): len(headers)}))


def test_times_from_before_the_topic_had_log_append_time_stop_nothing(kafka_settings, topics):
    """`kafka-configs.sh --alter` is what our refusal advises; the records before it keep whatever time their sender gave."""
    topic, value = topics[0], changed(datetime.now(UTC).replace(microsecond=0))
    alter(kafka_settings, topic, message_timestamp_type="CreateTime", message_timestamp_after_max_ms=str(2**63 - 1))
    sender = producer(kafka_settings)
    for millis in (1, 2**62, 253_402_300_800_000, 2**63 - 1, -1, -(10**15)):
        sender.produce(topic, value, b"u1", partition=0, timestamp=millis)
    assert sender.flush(60) == 0
    alter(kafka_settings, topic, message_timestamp_type="LogAppendTime")
    send(sender, topic, 0, [Case("good", value, {})])
    read_to_the_end(kafka_settings)
    rows = sorted(rows_of(kafka_settings), key=lambda row: row["kafka_offset"])
    assert [row["kafka_offset"] for row in rows] == list(range(7))
    assert rows[-1]["reject_reason"] is None
    assert all(row["payload"] == value for row in rows if row["reject_reason"])


def test_all_tables_are_made_of_any_records(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    everything = cases(moment)
    send(producer(kafka_settings, "zstd"), topics[1], 0, everything)
    run_until_idle(kafka_settings)
    argv = [sys.executable, "-m", "engagement", "refresh"]
    done = subprocess.run(argv, env=environment(kafka_settings), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    sql = "SELECT count(*) AS n, count(DISTINCT (event_id, event_time)) AS k FROM events"
    argv = [sys.executable, "-m", "engagement", "query", "--format", "json", sql]
    done = subprocess.run(argv, env=environment(kafka_settings), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    good = {(row["event_id"].lower(), row["event_time"]) for row in rows_of(kafka_settings) if row["reject_reason"] is None}
    assert json.loads(done.stdout) == [{"n": len(good), "k": len(good)}]


def lags(port: int) -> list[float]:
    """Lag of each partition as the consumer tells it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return []
    return [float(line.split()[-1]) for line in lines if line.startswith("engagement_lag_records{")]


def test_lag_becomes_nothing_behind_the_markers_of_transactions(kafka_settings, topics):
    (port,) = processes.free_ports("127.0.0.1", 1)
    moment = datetime.now(UTC).replace(microsecond=0)
    topic, good = topics[0], Case("good", changed(moment), {})
    child = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1", ENGAGEMENT_METRICS_PORT=str(port))
    try:
        sender = producer(kafka_settings, **{"transactional.id": topic})
        sender.init_transactions(60)
        for finish in (sender.commit_transaction, sender.abort_transaction):
            sender.begin_transaction()
            send(sender, topic, 0, [good] * 5)
            finish(60)
        eventually(lambda: len(rows_of(kafka_settings)) == 5, 60)
        eventually(lambda: lags(port) == [0.0] * 9, 60)
    finally:
        child.terminate()
        child.communicate(timeout=60)
    assert_the_log(kafka_settings, numbered(topic, 0, [good] * 5), moment)


def test_a_running_consumer_goes_on_after_poison(kafka_settings, topics):
    moment = datetime.now(UTC).replace(microsecond=0)
    topic, good = topics[0], Case("good", changed(moment), {})
    poison = Case("poison", b"[" * 10_000_000, "bad_json")
    child = ingest(kafka_settings, ENGAGEMENT_FLUSH_SECONDS="1")
    try:
        sent: list[Case] = []
        for _ in range(3):
            part = [poison, good, poison]
            send(producer(kafka_settings, "gzip"), topic, 0, part)
            sent += part
            eventually(lambda: len(rows_of(kafka_settings)) == len(sent), 60)  # noqa: B023 - waited for at once
    finally:
        child.terminate()
        child.communicate(timeout=60)
    assert child.returncode == 0
    assert_the_log(kafka_settings, numbered(topic, 0, sent), moment)
