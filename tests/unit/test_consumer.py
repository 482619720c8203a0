"""The consumer over a broker made of lists: what is written, what is dropped, and where it goes on (R1-R3)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise

import lake_helpers
import pytest
from confluent_kafka import OFFSET_INVALID, KafkaError, KafkaException, TopicPartition

from engagement.ingest import consumer as consumer_module
from engagement.ingest.consumer import ConsumerFailed, Ingest
from engagement.ingest.kafka import BrokerUnavailable, UnknownTopic
from engagement.ingest.partition import Partition
from engagement.ingest.perform import Performer
from engagement.lake import LakeUnavailable, LocalLake, open_lake
from engagement.raw import files
from engagement.raw.names import parse_key, topic_chain
from engagement.raw.privacy import KeyMissing, stored_user_id
from engagement.tables.objects import read_rows

TOPIC, OLD_ID, NEW_ID = "session", "5e" * 16, "0a" * 16
NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
MILLIS = int(NOW.timestamp() * 1000)


@dataclass
class Message:
    """As much of a client library's message as the consumer looks at."""

    at: int
    number: int = 0
    text: bytes = b""
    problem: KafkaError | None = None

    def error(self):
        return self.problem

    def topic(self):
        return TOPIC

    def partition(self):
        return self.number

    def offset(self):
        return self.at

    def timestamp(self):
        return 2, MILLIS

    def key(self):
        return b"u1"

    def value(self):
        return self.text

    def headers(self):
        return None


def event(offset):
    document = {"event_id": f"0f8fad5b-d9cb-469f-a165-{offset:012x}", "user_id": "u1", "event_type": "tap", "timestamp": NOW.isoformat()}
    return json.dumps(document).encode()


@dataclass
class Log:
    """The broker: topic ids, and the records that each partition still holds from `low` on."""

    topic_id: str = OLD_ID
    records: dict[int, list[bytes]] = field(default_factory=lambda: {0: [], 1: []})
    low: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    away: bool = False

    def produce(self, count, number=0):
        for _ in range(count):
            self.records[number].append(event(len(self.records[number])))

    def ids(self, topics):
        if self.away:
            raise BrokerUnavailable("away")
        return dict.fromkeys(topics, self.topic_id)

    def log_range(self, _topic, number):
        if self.away:
            raise BrokerUnavailable("away")
        return self.low[number], len(self.records[number])

    def require_log_append_time(self, _topics):
        pass


@dataclass
class Consumer:
    """Fetches from the positions that it was assigned; remembers what was committed."""

    log: Log
    positions: dict[int, int] = field(default_factory=dict)
    committed: list[tuple[int, int, int]] = field(default_factory=list)
    lake: LocalLake | None = None
    closed: bool = False

    def subscribe(self, _topics, on_assign, on_revoke, on_lost):
        self.callbacks = on_assign, on_revoke, on_lost

    def incremental_assign(self, partitions):
        for item in partitions:
            assert item.offset != OFFSET_INVALID
            assert item.partition not in self.positions
            self.positions[item.partition] = item.offset

    def incremental_unassign(self, partitions):
        self.unassigned = True
        for item in partitions:
            del self.positions[item.partition]

    def get_watermark_offsets(self, partition, cached):
        assert cached
        return self.log.low[partition.partition], len(self.log.records[partition.partition])

    def consume(self, count, _seconds):
        found = []
        for number, position in sorted(self.positions.items()):
            if position < self.log.low[number]:
                found.append(Message(position, number, problem=KafkaError(KafkaError._AUTO_OFFSET_RESET)))
                continue
            values = self.log.records[number][position : position + count]
            found += [Message(position + place, number, value) for place, value in enumerate(values)]
            self.positions[number] = position + len(values)
            if not values:
                found.append(Message(position, number, problem=KafkaError(KafkaError._PARTITION_EOF)))
        return found

    def commit(self, offsets, asynchronous):
        assert asynchronous
        for item in offsets:
            self.committed.append((item.partition, item.offset, len(list(self.lake.list("raw")))))

    def close(self):
        self.closed = True


@dataclass
class World:
    """An Ingest with its broker, lake and clock."""

    ingest: Ingest
    log: Log
    consumer: Consumer
    lake: LocalLake
    now: list[float]

    def assign(self, *numbers):
        self.ingest._on_assign(self.consumer, [TopicPartition(TOPIC, number) for number in numbers])

    def turn(self, seconds=0.0):
        self.now[0] += seconds
        self.ingest.turn()

    def chain(self, number=0, topic_id=OLD_ID):
        return topic_chain(TOPIC, topic_id, number)

    def objects(self, number=0, topic_id=OLD_ID):
        """(start, end, rows, gap) of each object of a partition."""
        starts = [parse_key(entry.key)[1] for entry in self.lake.list(self.chain(number, topic_id).folder)]
        found = [files.read_footer(self.lake, self.chain(number, topic_id), start) for start in starts]
        return [(raw.start, raw.end, raw.rows, raw.gap) for raw in found]

    def state(self, number=0):
        return self.ingest._partitions[TOPIC, number].state

    def dropped(self, why):
        return self.ingest.metrics.registry.get_sample_value("engagement_buffers_dropped_total", {"topic": TOPIC, "why": why})

    def another_writes(self, end, number=0):
        """A zombie, or our successor, writes from the same place on."""
        from engagement.contract import TimeWindow
        from engagement.raw import rows

        last = files.last_link(self.lake, self.chain(number))
        start = last.end if last else 0
        records = [rows.Record(offset, NOW, b"u1", self.log.records[number][offset]) for offset in range(start, end)]
        window = TimeWindow.of(self.ingest.format.history_start, 300, 30)
        files.write(self.lake, self.chain(number), start, end, rows.build(rows.Coordinates(TOPIC, OLD_ID, number), records, window, 60))


@pytest.fixture
def world(tmp_path, monkeypatch):
    return world_of(lake_helpers.settings_of(tmp_path), monkeypatch)


def world_of(settings, monkeypatch):
    lake, lake_format = open_lake(settings)
    log, now = Log(), [0.0]
    found = Consumer(log, lake=lake)
    monkeypatch.setattr(consumer_module.kafka, "Topics", lambda _settings: log)
    monkeypatch.setattr(consumer_module.kafka, "consumer", lambda _settings, _protocol: found)
    monkeypatch.setattr(consumer_module, "PAUSE_SECONDS", 0)
    ingest = Ingest(settings, lake, lake_format, clock=lambda: now[0])
    ingest._consumer, ingest._performer = found, Performer(log, lake, ingest.clock)
    return World(ingest, log, found, lake, now)


def test_every_record_is_written_after_the_flush_time_and_the_group_offset_follows_the_file(world):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    assert world.objects() == []
    assert world.consumer.committed == []
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None)]
    assert world.consumer.committed == [(0, 3, 1)]  # one object stood in the lake when the offset was committed
    world.log.produce(2)
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None), (3, 5, 2, None)]
    assert world.consumer.committed[-1] == (0, 5, 2)


def test_in_a_lake_of_pseudonyms_no_id_is_written_and_without_the_key_nothing_is(tmp_path, monkeypatch):
    settings = lake_helpers.settings_of(tmp_path, user_ids="hashed", keep_bytes="none", hash_key="a key of at least sixteen")
    world = world_of(settings, monkeypatch)
    world.log.records[0] = [event(0), b'{"user_id": "u1"']
    world.assign(0)
    world.turn()
    world.turn(60)
    (entry,) = world.lake.list("raw")
    good, bad = read_rows(world.lake, entry).to_pylist()
    assert good["user_id"] == stored_user_id(settings, "u1") != "u1"
    assert (bad["reject_reason"], bad["payload"], bad["key"]) == ("bad_json", None, None)
    with pytest.raises(KeyMissing):
        world_of(lake_helpers.settings_of(tmp_path), monkeypatch)


def test_a_partition_goes_on_where_the_lake_ends_whatever_the_group_says(world):
    world.log.produce(5)
    world.another_writes(3)
    world.assign(0)
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None), (3, 5, 2, None)]


def test_a_fenced_writer_drops_its_buffer_and_takes_the_position_anew(world):
    world.log.produce(5)
    world.assign(0)
    world.turn()
    world.another_writes(2)
    world.turn(60)
    assert world.objects() == [(0, 2, 2, None)]
    assert world.dropped("fenced") == 1
    assert world.consumer.committed == []
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 2, 2, None), (2, 5, 3, None)]


class FailingPuts:
    """The lake cannot be written while `broken`."""

    def __init__(self, monkeypatch):
        self.broken, real = True, LocalLake.put_new

        def put_new(lake, key, data):
            if self.broken:
                raise LakeUnavailable("disk full")
            return real(lake, key, data)

        monkeypatch.setattr(LocalLake, "put_new", put_new)


def test_a_lake_that_cannot_be_written_drops_the_buffer_and_nothing_is_committed(world, monkeypatch):
    lake = FailingPuts(monkeypatch)
    world.log.produce(3)
    world.assign(0)
    world.turn()
    world.turn(60)
    assert world.dropped("lake_unavailable") == 1
    assert world.consumer.positions == {}
    world.turn(0.4)
    assert world.consumer.positions == {}, "waits first"
    lake.broken = False
    world.turn(0.1)
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None)]
    assert world.consumer.committed == [(0, 3, 1)]


def test_a_lake_that_cannot_be_read_is_asked_again_with_growing_bounded_delay(world, monkeypatch):
    asked = []

    def last_link(_lake, _chain):
        asked.append(world.now[0])
        raise LakeUnavailable("gone")

    monkeypatch.setattr(files, "last_link", last_link)
    world.assign(0)
    for _ in range(600):
        world.turn(0.125)
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses[:7] == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0]
    assert world.ingest.metrics.registry.get_sample_value("engagement_partition_stopped", {"topic": TOPIC, "partition": "0"}) == 1
    monkeypatch.undo()


def test_a_lake_that_can_be_read_but_not_written_is_tried_with_growing_delay(world, monkeypatch):
    FailingPuts(monkeypatch)
    world.log.produce(3)
    world.assign(0)
    delays = []
    for _ in range(3):
        while not world.consumer.positions:
            world.turn(0.25)
        world.turn(60)
        delays.append(world.state().not_before - world.now[0])
    assert delays == sorted(set(delays)), "the partition waits longer each time"


def test_one_partition_in_trouble_does_not_hold_up_the_others(world, monkeypatch):
    real = files.last_link
    monkeypatch.setattr(
        files, "last_link", lambda lake, chain: real(lake, chain) if chain.partition else (_ for _ in ()).throw(LakeUnavailable("x"))
    )
    world.log.produce(2, 0)
    world.log.produce(2, 1)
    world.assign(0, 1)
    world.turn()
    world.turn(60)
    assert world.objects(1) == [(0, 2, 2, None)]
    assert world.objects(0) == []


def test_a_topic_made_anew_before_the_put_gets_nothing_of_the_old_buffer(world):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    world.log.topic_id, world.log.records[0] = NEW_ID, []
    world.log.produce(1)
    world.turn(60)
    assert (world.objects(), world.objects(topic_id=NEW_ID)) == ([], [])
    assert world.dropped("topic_recreated") == 1
    assert world.consumer.committed == []
    world.turn()
    world.turn(60)
    assert (world.objects(), world.objects(topic_id=NEW_ID)) == ([], [(0, 1, 1, None)])


def test_a_broker_that_does_not_answer_before_the_put_drops_the_buffer(world):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    world.log.away = True
    world.turn(60)
    assert world.objects() == []
    assert world.dropped("broker_away") == 1
    world.turn(10)
    world.log.away = False
    for _ in range(3):
        world.turn(61)
    assert world.objects() == [(0, 3, 3, None)]


def test_a_broker_that_is_away_is_waited_for_once_a_turn_not_once_a_partition(world, monkeypatch):
    """The question waits ten seconds; eighteen of them in a row and the group takes the consumer for dead."""
    for number in (0, 1):
        world.log.produce(2, number)
    world.assign(0, 1)
    world.turn()
    monkeypatch.setattr(consumer_module, "RECHECK_SECONDS", float("inf"))
    asked = []

    def ids(_topics):
        asked.append(world.now[0])
        raise BrokerUnavailable("away")

    monkeypatch.setattr(world.log, "ids", ids)
    for _ in range(10):
        world.turn(60)
    assert len(asked) >= 9
    assert len(asked) == len(set(asked))


def test_a_topic_that_is_gone_does_not_hold_up_the_others(world, monkeypatch):
    world.ingest._partitions["other", 0] = Partition(("other", 0))
    world.log.produce(2)
    world.assign(0)
    real = world.log.ids
    gone = UnknownTopic("no such topic")
    monkeypatch.setattr(world.log, "ids", lambda topics: real(topics) if topics == [TOPIC] else (_ for _ in ()).throw(gone))
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 2, 2, None)]


def test_lost_partitions_are_never_written(world):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    world.ingest._on_lost(world.consumer, [TopicPartition(TOPIC, 0)])
    world.turn(60)
    world.ingest._leave(list(world.ingest._partitions), "shutdown")
    assert world.objects() == []
    assert world.consumer.committed == []
    assert world.dropped("lost") == 1


def test_revoked_partitions_are_written_and_let_go_and_the_others_stay(world):
    for number in (0, 1):
        world.log.produce(3, number)
    world.assign(0, 1)
    world.turn()
    world.ingest._on_revoke(world.consumer, [TopicPartition(TOPIC, 0)])
    assert (world.objects(0), world.objects(1)) == ([(0, 3, 3, None)], [])
    assert world.consumer.committed == [(0, 3, 1)]
    world.log.produce(1, 0)
    world.turn(60)
    assert (world.objects(0), world.objects(1)) == ([(0, 3, 3, None)], [(0, 3, 3, None)])


def test_a_record_that_was_fetched_before_the_revocation_is_not_taken(world):
    world.log.produce(1)
    world.assign(0)
    world.turn()
    world.ingest._on_lost(world.consumer, [TopicPartition(TOPIC, 0)])
    world.ingest._take([Message(1, 0, event(1))])
    world.turn(60)
    assert world.objects() == []


def test_revoked_and_lost_partitions_are_unassigned_here_and_only_those_that_the_client_has(world, monkeypatch):
    """The client library would unassign all of them after the callback, and fail for one that waits for a position."""
    world.assign(0, 1)
    monkeypatch.setattr(files, "last_link", lambda *_: (_ for _ in ()).throw(LakeUnavailable("gone")))
    world.turn()
    for callback in (world.ingest._on_revoke, world.ingest._on_lost):
        world.consumer.unassigned = False
        callback(world.consumer, [TopicPartition(TOPIC, 0), TopicPartition(TOPIC, 1)])
        assert world.consumer.unassigned


def test_offsets_at_the_end_of_the_log_that_hold_no_record_are_claimed_too(world):
    """Markers of transactions: without a claim, lag would never be 0 and a later cut of the log would look like a loss."""
    world.log.produce(3)
    world.assign(0)
    world.turn()
    end = Message(5, 0, problem=KafkaError(KafkaError._PARTITION_EOF))
    world.ingest._take([end])
    world.turn(60)
    assert world.objects() == [(0, 5, 3, None)]
    world.ingest._take([Message(7, 0, problem=end.problem)])
    world.turn(60)
    assert world.objects() == [(0, 5, 3, None), (5, 7, 0, None)]
    world.ingest._take([Message(7, 0, problem=end.problem)])
    world.turn(60)
    assert len(world.objects()) == 2


def test_a_topic_made_anew_under_an_idle_reader_is_noticed_without_a_record(world):
    world.log.produce(2)
    world.assign(0)
    world.turn()
    world.turn(60)
    world.log.topic_id = NEW_ID
    world.turn(consumer_module.RECHECK_SECONDS)
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 2, 2, None)]
    assert world.objects(topic_id=NEW_ID) == [(0, 2, 2, None)]


def test_an_object_that_vanishes_between_listing_and_reading_is_no_end(world, monkeypatch):
    world.log.produce(4)
    world.another_writes(2)
    real, misses = files.read_footer, [FileNotFoundError("archived and expired")]
    monkeypatch.setattr(files, "read_footer", lambda *found: (_ for _ in ()).throw(misses.pop()) if misses else real(*found))
    world.assign(0)
    world.turn()
    assert not misses
    assert world.consumer.positions == {0: 4}


def test_a_partition_revoked_while_it_waits_is_forgotten(world, monkeypatch):
    monkeypatch.setattr(files, "last_link", lambda *_: (_ for _ in ()).throw(LakeUnavailable("gone")))
    world.assign(0)
    world.turn()
    world.ingest._on_revoke(world.consumer, [TopicPartition(TOPIC, 0)])
    monkeypatch.undo()
    world.turn(60)
    assert world.consumer.positions == {}


def test_a_gap_before_the_first_look_is_recorded_as_an_object_without_rows(world):
    world.log.produce(9)
    world.log.low[0] = 4
    world.assign(0)
    world.turn()
    assert world.objects() == [(0, 4, 0, (0, 4))]
    world.turn(60)
    assert world.objects() == [(0, 4, 0, (0, 4)), (4, 9, 5, None)]
    assert world.ingest.metrics.registry.get_sample_value("engagement_gap_offsets_total", {"topic": TOPIC}) == 4


def test_a_gap_under_way_comes_after_what_was_read_before_it(world):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    world.log.produce(6)
    world.log.low[0] = 5
    world.turn()
    assert world.objects() == [(0, 3, 3, None), (3, 5, 0, (3, 5))]
    world.turn()
    world.turn(60)
    assert world.objects()[-1] == (5, 9, 4, None)


def test_a_lake_ahead_of_the_log_stops_that_partition_and_no_other(world):
    for number in (0, 1):
        world.log.produce(5, number)
    world.another_writes(5)
    world.log.records[0] = world.log.records[0][:2]
    world.assign(0, 1)
    world.turn()
    world.turn(60)
    assert world.consumer.positions == {1: 5}
    assert world.objects(1) == [(0, 5, 5, None)]
    assert "the log ends at 2" in world.ingest._report._troubles[TOPIC, 0]


def test_bad_records_are_written_too_and_counted(world):
    world.log.records[0] = [b"{", event(1), b""]
    world.assign(0)
    world.turn()
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None)]
    sample = world.ingest.metrics.registry.get_sample_value
    assert sample("engagement_rejects_total", {"topic": TOPIC, "reason": "bad_json"}) == 1
    assert sample("engagement_rejects_total", {"topic": TOPIC, "reason": "empty"}) == 1
    assert sample("engagement_commits_total", {"topic": TOPIC, "why": "age"}) == 1


def test_shutdown_writes_what_is_held_and_leaves(world, monkeypatch):
    world.log.produce(3)
    real = world.ingest.turn

    def two_turns():
        world.assign(*([0] if not world.ingest._assigned_once else []))
        real()
        if world.consumer.positions:
            world.ingest.stop.set()

    monkeypatch.setattr(Ingest, "turn", lambda _self: two_turns())
    world.ingest.run()
    assert world.consumer.closed
    assert world.objects() == [(0, 3, 3, None)]
    assert world.consumer.committed == [(0, 3, 1)]


def test_until_idle_leaves_at_the_end_of_every_partition(world, monkeypatch):
    for number in (0, 1):
        world.log.produce(4, number)
    monkeypatch.setattr(consumer_module, "LAST_BATCH", 3)
    monkeypatch.setattr(Consumer, "subscribe", lambda *_args, **_names: world.assign(0, 1))
    world.ingest.run(until_idle=True)
    assert (world.objects(0), world.objects(1)) == ([(0, 4, 4, None)], [(0, 4, 4, None)])
    assert world.consumer.closed


def test_what_comes_before_a_batch_that_cannot_be_read_is_written_and_the_partition_waits(world):
    world.log.produce(3)
    world.assign(0, 1)
    world.turn()
    world.ingest._take([Message(3, 0, problem=KafkaError(KafkaError._BAD_COMPRESSION))])
    assert world.objects() == [(0, 3, 3, None)]
    assert world.consumer.positions == {1: 0}
    assert world.ingest.metrics.registry.get_sample_value("engagement_partition_stopped", {"topic": TOPIC, "partition": "0"}) == 1


def fatal(code=KafkaError._FATAL):
    return Message(0, problem=KafkaError(code, "Fatal error: Broker: Invalid request", fatal=True))


def failing_first(world, monkeypatch, *failures):
    """The client's first fetches bring these messages instead of records."""
    left, real = list(failures), Consumer.consume
    monkeypatch.setattr(Consumer, "consume", lambda consumer, *args: [left.pop(0)] if left else real(consumer, *args))
    monkeypatch.setattr(Consumer, "close", lambda consumer: consumer.positions.clear())
    monkeypatch.setattr(world.ingest.stop, "wait", lambda _seconds: None)
    return left


def test_a_client_that_gives_up_is_replaced_by_one_that_goes_on_from_the_lake(world, monkeypatch):
    """librdkafka may end a KIP-848 member for good after a stall (`Invalid request`); nothing that was buffered is lost."""
    world.log.produce(3)
    monkeypatch.setattr(Consumer, "subscribe", lambda *_args, **_names: world.assign(0))
    failing_first(world, monkeypatch, fatal())
    world.ingest.run(until_idle=True)
    assert world.objects() == [(0, 3, 3, None)]


def test_a_broker_without_kip_848_gets_the_older_protocol(world, monkeypatch):
    asked = []
    monkeypatch.setattr(consumer_module.kafka, "consumer", lambda _settings, protocol: asked.append(protocol) or world.consumer)
    monkeypatch.setattr(Consumer, "subscribe", lambda *_args, **_names: world.assign(0) if len(asked) > 1 else None)
    failing_first(world, monkeypatch, fatal())
    world.ingest.run(until_idle=True)
    assert asked == ["consumer", "classic"]


def test_clients_that_fail_one_after_the_other_end_the_process(world, monkeypatch):
    monkeypatch.setattr(Consumer, "subscribe", lambda *_args, **_names: None)
    failing_first(world, monkeypatch, *[fatal()] * 20)
    with pytest.raises(ConsumerFailed, match="Invalid request"):
        world.ingest.run()


def test_a_name_that_another_process_took_ends_this_one_at_once(world, monkeypatch):
    monkeypatch.setattr(Consumer, "subscribe", lambda *_args, **_names: world.assign(0))
    left = failing_first(world, monkeypatch, *[fatal(KafkaError.FENCED_INSTANCE_ID)] * 2)
    with pytest.raises(ConsumerFailed, match="ENGAGEMENT_CONSUMER_INSTANCE"):
        world.ingest.run()
    assert len(left) == 1


def test_a_crash_before_the_commit_loses_and_doubles_nothing(world, monkeypatch):
    """The file is there, the group offset is not: the next process goes on from the file."""
    world.log.produce(3)
    world.assign(0)
    world.turn()
    monkeypatch.setattr(Consumer, "commit", lambda *_args, **_names: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        world.turn(60)
    monkeypatch.undo()
    successor = Ingest(world.ingest.settings, world.lake, world.ingest.format, clock=lambda: world.now[0])
    successor._consumer = Consumer(world.log, lake=world.lake)
    successor._performer = Performer(world.log, world.lake, successor.clock)
    again = World(successor, world.log, successor._consumer, world.lake, world.now)
    world.log.produce(1)
    again.assign(0)
    again.turn()
    again.turn(60)
    assert again.objects() == [(0, 3, 3, None), (3, 4, 1, None)]


def test_a_commit_that_fails_does_not_end_the_consumer(world, monkeypatch):
    world.log.produce(3)
    world.assign(0)
    world.turn()
    monkeypatch.setattr(Consumer, "commit", lambda *_args, **_names: (_ for _ in ()).throw(KafkaException(KafkaError(KafkaError._STATE))))
    world.turn(60)
    assert world.objects() == [(0, 3, 3, None)]
