"""Several consumers of one group, and topics that change under them: every record once, and nothing moves that need not."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions
from helpers import eventually
from ingest_helpers import FAST_CLASSIC, assert_exactly_the_log, has_leaders, ingest, log_of, produce, records_read, rows_of, settings_of

from engagement.lake import open_lake
from engagement.raw import files
from engagement.raw.names import Chain
from engagement.settings import Settings
from engagement.stack import jars, processes, topics
from engagement.stack.broker import Broker

PROTOCOLS = {"consumer": {"ENGAGEMENT_KAFKA__group__protocol": "consumer"}, "classic": FAST_CLASSIC}
NEVER = "3600"
"""Seconds until buffers are old enough: nothing is written but what a rebalance or the end asks for."""


@dataclass
class Member:
    """One consumer process, its log as it goes, and its metrics."""

    settings: Settings
    log: Path
    extra: dict[str, str]
    port: int = field(default_factory=lambda: processes.free_ports("127.0.0.1", 1)[0])
    child: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.child = ingest(self.settings, log=self.log, ENGAGEMENT_METRICS_PORT=str(self.port), **self.extra)

    def events(self, *names: str) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines()
        return [event for line in lines if line.startswith("{") and (event := json.loads(line))["event"] in names]

    def holds(self) -> set[str]:
        """Partitions it has now, as its log tells."""
        held: set[str] = set()
        for event in self.events("assigned", "revoked"):
            held = held | set(event["partitions"]) if event["event"] == "assigned" else held - set(event["partitions"])
        return held

    def positioned(self) -> list[str]:
        """Each time that a partition was given a position; one that kept its buffer has one."""
        return [f"{event['topic']}/{event['partition']}" for event in self.events("positioned")]

    def read(self) -> int:
        return records_read(self.port)

    def leave(self) -> None:
        eventually(lambda: self.events("assigned"))  # before that it may have no handler for the signal
        self.child.send_signal(signal.SIGTERM)
        assert self.child.wait(60) == 0, self.log.read_text()


@dataclass
class Crew:
    """The members that one test starts; whatever happens, none outlives it."""

    settings: Settings
    folder: Path
    members: list[Member] = field(default_factory=list)

    def join(self, flush: str = "1", **extra: str) -> Member:
        extra = {"ENGAGEMENT_FLUSH_SECONDS": flush, **extra}
        self.members.append(Member(self.settings, self.folder / f"member-{len(self.members)}.log", extra))
        return self.members[-1]


@pytest.fixture
def crew(kafka_settings: Settings, tmp_path: Path) -> Iterator[Crew]:
    made = Crew(kafka_settings, tmp_path)
    yield made
    for member in made.members:
        member.child.kill()
        member.child.wait()


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> dict[str, str]:
    return PROTOCOLS[request.param]


def flow(settings: Settings, first: int, stop: threading.Event) -> threading.Thread:
    """Records from this number on, some hundred a second, until told to stop."""

    def run() -> None:
        number = first
        while not stop.wait(0.1):
            produce(settings, number, 20)
            number += 20

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread


def chains_of(settings: Settings) -> dict[Chain, list[tuple[int, int]]]:
    """Start and end of each object, by chain, in order."""
    lake, _ = open_lake(settings)
    found: dict[Chain, list[tuple[int, int]]] = {}
    for chain, start in sorted(files.names(lake)):
        found.setdefault(chain, []).append((start, files.read_footer(lake, chain, start).end))
    return found


def partitions_of(settings: Settings) -> set[str]:
    return {f"{topic}/{number}" for topic in settings.topics for number in range(settings.topic_partitions)}


def written_by(member: Member) -> int:
    return sum(event["rows"] for event in member.events("flushed"))


def test_partitions_that_do_not_move_keep_their_buffer_while_another_joins_and_leaves(crew: Crew, protocol: dict[str, str]) -> None:
    settings = crew.settings
    first = crew.join(NEVER, **protocol)
    eventually(lambda: first.holds() == partitions_of(settings), 60)
    stop = threading.Event()
    thread = flow(settings, 0, stop)
    eventually(lambda: first.read() > 500, 60)
    assert not chains_of(settings), "all of it is buffered"
    second = crew.join(NEVER, **protocol)
    eventually(lambda: second.holds() and second.holds() | first.holds() == partitions_of(settings), 60)
    moved, kept = second.holds(), first.holds()
    assert moved
    assert kept
    assert not moved & kept
    eventually(lambda: second.read() > 100, 60)
    second.leave()
    eventually(lambda: first.holds() == moved | kept, 60)
    eventually(lambda: len(first.positioned()) == 9 + len(moved), 60)
    stop.set()
    thread.join(60)
    everything = len(log_of(settings))
    eventually(lambda: first.read() + written_by(second) == everything, 60)
    first.leave()

    found = {f"{chain.topic}/{chain.partition}": objects for chain, objects in chains_of(settings).items()}
    assert {name for name, objects in found.items() if len(objects) == 1} == kept, "one buffer from the first record to the last"
    assert {name: first.positioned().count(name) for name in kept} == dict.fromkeys(kept, 1)
    assert not first.events("fenced", "lost", "partition_waits")
    assert not second.events("fenced", "lost", "partition_waits")
    assert_exactly_the_log(settings)


def test_a_broker_without_the_new_protocol_gets_classic_members(tmp_path: Path) -> None:
    assert jars.main([]) == 0
    with Broker(tmp_path / "kafka", properties={"group.coordinator.rebalance.protocols": "classic"}) as broker:
        settings = settings_of(broker.bootstrap, tmp_path, topic_partitions=2)
        topics.ensure(settings)
        eventually(lambda: has_leaders(settings))
        produce(settings, 0, 100)
        child = ingest(settings, "--until-idle", log=tmp_path / "ingest.log")
        assert child.wait(120) == 0, (tmp_path / "ingest.log").read_text()
        assert "group_protocol" in (tmp_path / "ingest.log").read_text(), "said, not silent"
        assert_exactly_the_log(settings)


def test_a_static_member_that_is_killed_and_comes_back_disturbs_nobody(crew: Crew) -> None:
    settings = crew.settings
    patient = {"ENGAGEMENT_KAFKA__session__timeout__ms": "45000"}
    first = crew.join(ENGAGEMENT_CONSUMER_INSTANCE="one", **patient)
    eventually(lambda: first.holds() == partitions_of(settings), 60)
    second = crew.join(ENGAGEMENT_CONSUMER_INSTANCE="two", **patient)
    eventually(lambda: second.holds() and second.holds() | first.holds() == partitions_of(settings), 60)
    stop = threading.Event()
    thread = flow(settings, 0, stop)
    eventually(lambda: len(chains_of(settings)) == 9, 60)
    quiet = len(second.events("assigned", "revoked"))
    theirs, lives = first.holds(), len(first.events("assigned"))
    first.child.kill()
    first.child.wait()
    written = written_by(second)
    eventually(lambda: written_by(second) > written)
    first.start()
    eventually(lambda: len(first.positioned()) == 9 + len(theirs), 60)
    assert [set(event["partitions"]) for event in first.events("assigned")[lives:]] == [theirs]
    stop.set()
    thread.join(60)
    everything = len(log_of(settings))
    eventually(lambda: len(rows_of(settings)) == everything, 60, 0.5)
    assert len(second.events("assigned", "revoked")) == quiet, "no rebalance at the other"
    for member in crew.members:
        member.leave()
    assert_exactly_the_log(settings)


def test_partitions_added_to_a_topic_are_read_from_their_first_record(crew: Crew, protocol: dict[str, str]) -> None:
    settings = crew.settings
    topic = next(iter(settings.topics))
    member = crew.join(**protocol, ENGAGEMENT_KAFKA__topic__metadata__refresh__interval__ms="1000")
    eventually(lambda: member.holds() == partitions_of(settings), 60)
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    eventually(lambda: has_leaders(settings, 5, [topic]))
    produce(settings, 0, 500)
    eventually(lambda: {f"{topic}/3", f"{topic}/4"} <= member.holds(), 60)
    everything = len(log_of(settings))
    eventually(lambda: len(rows_of(settings)) == everything, 60, 0.5)
    member.leave()
    starts = {chain.partition: objects[0][0] for chain, objects in chains_of(settings).items() if chain.topic == topic}
    assert starts == dict.fromkeys(range(5), 0)
    assert_exactly_the_log(settings)


def recreate(settings: Settings) -> None:
    """Every topic deleted and made anew, empty and with another id."""
    admin = AdminClient({"bootstrap.servers": settings.kafka_bootstrap_servers})
    for future in admin.delete_topics(list(settings.topics), operation_timeout=30).values():
        future.result(30)
    eventually(lambda: not set(settings.topics) & set(admin.list_topics(timeout=10).topics))
    topics.ensure(settings)
    eventually(lambda: has_leaders(settings))


def assert_two_chains(settings: Settings, old: dict[Any, Any], new: dict[Any, Any]) -> None:
    """The predecessor's records and the successor's, each complete under a topic id of its own, from offset 0 without a hole."""
    ids: dict[str, set[str]] = {}
    found: dict[str, dict[Any, Any]] = {}
    rows = rows_of(settings)
    for row in rows:
        ids.setdefault(row["kafka_topic"], set()).add(row["kafka_topic_id"])
        headers = {header["name"]: header["value"] for header in row["headers"]}
        found.setdefault(row["kafka_topic_id"], {})[row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]] = headers
    assert sum(len(records) for records in found.values()) == len(rows) == len(old) + len(new)
    for topic, pair in ids.items():
        assert len(pair) == 2
        wanted = [{place: record[3] for place, record in log.items() if place[0] == topic} for log in (old, new)]
        assert sorted((found[topic_id] for topic_id in pair), key=len) == wanted
    for objects in chains_of(settings).values():
        assert [start for start, _ in objects] == [0, *(end for _, end in objects[:-1])]


def test_a_topic_made_anew_under_a_running_consumer_is_another_topic(crew: Crew, protocol: dict[str, str]) -> None:
    settings = crew.settings
    member = crew.join(**protocol, ENGAGEMENT_KAFKA__topic__metadata__refresh__interval__ms="1000")
    produce(settings, 0, 100)
    old = log_of(settings)
    eventually(lambda: len(rows_of(settings)) == len(old), 60, 0.5)
    recreate(settings)
    produce(settings, 1000, 300)
    new = log_of(settings)
    assert {place: record[3] for place, record in new.items() if place in old} != {place: record[3] for place, record in old.items()}
    eventually(lambda: len(rows_of(settings)) == len(old) + len(new), 90, 0.5)
    member.leave()
    assert_two_chains(settings, old, new)


def test_a_topic_made_anew_while_no_consumer_runs_is_another_topic(crew: Crew) -> None:
    settings = crew.settings
    produce(settings, 0, 100)
    old = log_of(settings)
    crew.join()
    eventually(lambda: len(rows_of(settings)) == len(old), 60, 0.5)
    crew.members[0].leave()
    recreate(settings)
    produce(settings, 1000, 300)
    new = log_of(settings)
    crew.join()
    eventually(lambda: len(rows_of(settings)) == len(old) + len(new), 60, 0.5)
    crew.members[1].leave()
    assert_two_chains(settings, old, new)


def test_what_was_only_buffered_of_a_topic_made_anew_is_never_written_as_its_successors(crew: Crew, protocol: dict[str, str]) -> None:
    """Under the classic protocol nobody tells the member, and the client fetches on at the old offsets: only the flush finds out."""
    settings = crew.settings
    member = crew.join(NEVER, **protocol, ENGAGEMENT_KAFKA__topic__metadata__refresh__interval__ms="1000")
    produce(settings, 0, 100)
    eventually(lambda: member.read() == 300, 60)
    recreate(settings)
    produce(settings, 1000, 200)
    eventually(lambda: member.read() > 300, 60)
    member.leave()
    gone = [event for event in member.events("lost") if event["dropped"]]  # the client may look just while the topics are away
    assert gone or member.events("topic_recreated", "partition_waits")
    crew.join()
    everything = len(log_of(settings))
    eventually(lambda: len(rows_of(settings)) >= everything, 60, 0.5)
    crew.members[1].leave()
    assert_exactly_the_log(settings)


@pytest.mark.parametrize("flush", ["3", NEVER])
def test_partitions_that_were_lost_are_never_written(crew: Crew, protocol: dict[str, str], flush: str) -> None:
    """Stopped longer than its session, with records buffered: whether they are due at once when it wakes or not."""
    settings = crew.settings
    zombie = crew.join(flush, **protocol)
    eventually(lambda: zombie.holds() == partitions_of(settings), 60)
    successor = crew.join(**protocol)
    eventually(lambda: successor.holds() and successor.holds() | zombie.holds() == partitions_of(settings), 60)
    theirs = zombie.holds()
    before = zombie.read()
    produce(settings, 0, 300)
    eventually(lambda: zombie.read() > before, 60)
    zombie.child.send_signal(signal.SIGSTOP)
    produce(settings, 300, 300)
    eventually(lambda: successor.holds() == partitions_of(settings), 60)
    everything = len(log_of(settings))
    eventually(lambda: len(rows_of(settings)) == everything, 60, 0.5)
    zombie.child.send_signal(signal.SIGCONT)
    eventually(lambda: zombie.events("lost", "fenced"), 60)
    if flush == NEVER:  # nothing was due, so nothing was tried: the buffers went when the group said so
        lost = {f"{event['topic']}/{event['partition']}" for event in zombie.events("lost") if event["dropped"]}
        assert lost
        assert lost <= theirs
        assert not zombie.events("fenced", "flushed")
    produce(settings, 600, 100)
    if flush == NEVER:
        zombie.leave()  # back in the group it would keep what it reads
    everything = len(log_of(settings))
    eventually(lambda: len(rows_of(settings)) == everything, 60, 0.5)
    for member in crew.members:
        member.leave()
    assert_exactly_the_log(settings)
