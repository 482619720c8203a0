"""The long-running consumer: records of a partition and flush become one raw object, exactly once (R1-R3).

A thin shell: `protocol` decides, `perform` acts, here is the loop around them: what the group assigns, what
the client fetches, when buffers are full, what is counted and told. The lake says where to resume, never the
group. Whatever goes wrong between reading and a durable object, the buffer is dropped and read again: the log
still has it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import structlog

from engagement.contract import TimeWindow
from engagement.errors import PermanentError, TransientError
from engagement.ingest import kafka, protocol
from engagement.ingest.metrics import Metrics
from engagement.ingest.partition import Buffer, FlushPolicy, Key, Partition, news
from engagement.ingest.perform import Performer
from engagement.ingest.protocol import FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS, Protocol, Reading
from engagement.ingest.report import Report
from engagement.lake import Lake, LakeFormat
from engagement.raw import erasures
from engagement.raw.chain import AheadOfLog
from engagement.raw.privacy import Policy
from engagement.raw.rows import Coordinates, Rows
from engagement.settings import Settings

log = structlog.get_logger()

PAUSE_SECONDS = 0.1
"""Rest after the client's queue was emptied."""
FIRST_BATCH, LAST_BATCH = 100, 2000
BATCH_BYTES = 16 << 20
"""What one fetch from the client's queue may bring: the number of messages asked for follows their size."""
CLIENTS = 5
"""So many clients in a row may fail before they were assigned anything."""
MEASURE_SECONDS = 1.0
RECHECK_SECONDS = 15.0


class ConsumerFailed(PermanentError):
    """Another process took this member's name, or the broker refuses one client after the other."""


class ClientFailed(TransientError):
    """The client library does nothing any more; a new client may."""


def boot_clock() -> float:
    """Seconds that pass while the process is stopped and while the machine sleeps: claims grow old then too (R3)."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(slots=True)
class Ingest:
    """One consumer process. `run` returns after `stop` is set, or when idle if asked so."""

    settings: Settings
    lake: Lake
    format: LakeFormat
    metrics: Metrics = field(default_factory=Metrics)
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = boot_clock
    _consumer: Any = None
    _performer: Performer = field(init=False)
    _report: Report = field(init=False)
    _protocol: Protocol = field(init=False)
    _policy: FlushPolicy = field(init=False)
    _window: TimeWindow = field(init=False)
    _privacy: Policy = field(init=False)
    _partitions: dict[Key, Partition] = field(default_factory=dict)
    _batch: int = FIRST_BATCH
    _drained: bool = False
    _assigned_once: bool = False
    _measured_at: float = float("-inf")
    _rechecked_at: float = float("-inf")

    def __post_init__(self) -> None:
        settings = self.settings
        self._report = Report(self.metrics, self.clock)
        self._protocol = Protocol(settings.raw_grace_minutes * 60)
        self._privacy = Policy.of(settings, self.format)
        self._policy = FlushPolicy(settings.flush_seconds, settings.flush_bytes, settings.buffer_bytes)
        self._window = TimeWindow.of(self.format.history_start, settings.clock_skew_seconds, settings.lateness_days)

    def run(self, *, until_idle: bool = False) -> None:
        """Read, buffer, write, until told to stop; raises WrongTopic for a topic that breaks the contract, ConsumerFailed."""
        import pyarrow.compute
        import pyarrow.parquet

        pyarrow.array([""])  # the first one loads pandas: all of it before the group counts on us, or the first batch would wait

        erasures.read(self.lake, self.settings.hash_keys)  # without the key nothing could be written: told now, not at the first flush
        topics = kafka.Topics(self.settings)
        self._require_topics(topics)
        protocols = kafka.group_protocols(self.settings)
        failures = 0
        while not self.stop.is_set():
            try:
                self._run(topics, protocols[0], until_idle=until_idle)
            except ClientFailed as error:
                failures = 0 if self._assigned_once else failures + 1
                if not self._assigned_once and len(protocols) > 1:
                    log.warning("group_protocol", tried=protocols.pop(0), detail=str(error), action=f"goes on with {protocols[0]}")
                elif failures < CLIENTS:
                    log.warning("client_failed", detail=str(error), action="starts a new one, from what the lake has")
                    self.stop.wait(FIRST_RETRY_SECONDS * 2**failures)
                else:
                    raise ConsumerFailed(f"the broker refuses this consumer: {error}") from error
            else:
                return

    def _run(self, topics: kafka.Topics, group_protocol: str, *, until_idle: bool) -> None:
        """Read with one client until told to stop or idle; raises ClientFailed when it gives up."""
        self._consumer = kafka.consumer(self.settings, group_protocol)
        self._performer = Performer(topics, self.lake, self.clock, self.settings.hash_keys)
        self._assigned_once = False
        self._consumer.subscribe(list(self.settings.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self.stop.is_set():
                self.turn()
                if until_idle and self._is_idle():
                    break
            self._leave(self._partitions, "shutdown")
        finally:
            for key in self._partitions:
                self._report.forget(key)
            self._partitions.clear()
            self._consumer.close()

    def turn(self) -> None:
        """One turn of the loop: position what has no position, read a batch, write what is due."""
        self.metrics.heartbeat.beat()
        for partition in list(self._partitions.values()):
            self._drive(partition)
        self._recheck()
        self._measure()
        self._take(self._fetched())
        for partition, why in self._policy.due(self._partitions.values(), self.clock()):
            self._advance(partition, protocol.Close(why))
            self._drive(partition)

    def _require_topics(self, topics: kafka.Topics) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self.stop.is_set():
            self.metrics.heartbeat.beat()
            try:
                topics.require_log_append_time(list(self.settings.topics))
            except TransientError as error:
                self._report.broker(f"broker {self.settings.kafka_bootstrap_servers}: {error}")
                self.stop.wait(delay)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
            else:
                self._report.broker(None)
                return

    # Assignment. Partitions are taken without a position; the loop gives them one from the lake. The client is told at once
    # what it has and has not: else it would do so itself after the callback, and fail for a partition that waits for a position.

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        consumer.incremental_assign([])
        self._assigned_once = True
        for item in partitions:
            self._partitions[item.topic, item.partition] = Partition((item.topic, item.partition))
        self._report.group("assigned", partitions)

    def _on_revoke(self, _consumer: Any, partitions: list[Any]) -> None:
        """Still ours: write what is buffered, then let go."""
        self._performer.begin_turn()
        self._leave([(item.topic, item.partition) for item in partitions], "revoked")
        self._consumer.incremental_unassign([])
        self._report.group("revoked", partitions)

    def _on_lost(self, _consumer: Any, partitions: list[Any]) -> None:
        """Somebody else's by now: never written (R3)."""
        for item in partitions:
            if partition := self._partitions.get((item.topic, item.partition)):
                self._advance(partition, protocol.Lost())
        self._consumer.incremental_unassign([])
        self._report.group("revoked", partitions, lost=True)

    def _leave(self, keys: Iterable[Key], why: str) -> None:
        for partition in [self._partitions[key] for key in keys if key in self._partitions]:
            self._advance(partition, protocol.Close(why, leave=True))
            if partition.key in self._partitions:
                self._drive(partition)

    # The protocol.

    def _drive(self, partition: Partition) -> None:
        """Do what the protocol wants of a partition until it waits: for records, for a later try, or for nothing any more."""
        while partition.key in self._partitions:
            state = partition.state
            if isinstance(state, protocol.Looking) and state.not_before > self.clock():
                return
            action = self._protocol.wants(state)
            if action is None:
                return
            self._advance(partition, self._perform(partition, action))

    def _recheck(self) -> None:
        """Ask whether the topics are still the same: one made anew that is just as long sends nothing, and a flush may be far away."""
        if self.clock() - self._rechecked_at < RECHECK_SECONDS:
            return
        self._rechecked_at = self.clock()
        self._performer.begin_turn()
        for partition in list(self._partitions.values()):
            if isinstance(partition.state, Reading):
                event = self._performer.ask_topic(partition.key[0])
                if isinstance(event, protocol.TopicIs):
                    self._advance(partition, event)

    def _perform(self, partition: Partition, action: protocol.Action) -> protocol.Event:
        topic, number = partition.key
        match action:
            case protocol.AskTopic():
                return self._performer.ask_topic(topic)
            case protocol.ListRaw(topic_id):
                return self._performer.list_raw(topic, number, topic_id)
            case protocol.ListArchive(topic_id):
                return self._performer.list_archive(topic, number, topic_id)
            case protocol.AskLog():
                return self._performer.ask_log(topic, number)
            case protocol.Put():
                return self._put(partition, action)

    def _put(self, partition: Partition, claim: protocol.Put) -> protocol.Event:
        topic, number = partition.key
        started = time.monotonic()
        batch = partition.buffer.batch() if partition.buffer and not claim.gap else None
        event, raw = self._performer.put(topic, number, claim, batch)
        if raw is not None and isinstance(state := partition.state, protocol.Claiming):
            self._report.written(partition, raw, state.closing.why, time.monotonic() - started)
            kafka.commit(self._consumer, topic, number, raw.end)
        return event

    def _advance(self, partition: Partition, event: protocol.Event) -> None:
        """Take the protocol's step, and make buffer and client follow the state."""
        before = partition.state
        try:
            step = self._protocol.advance(before, event)
        except AheadOfLog as error:
            event = protocol.Trouble("ahead_of_log", self.clock(), str(error))
            step = self._protocol.advance(before, event)
        self._report.step(partition, event, step)
        if step.state is None:
            self._fetch(partition, None)
            del self._partitions[partition.key]
            self._report.forget(partition.key)
            return
        partition.state = step.state
        if protocol.holds(step.state) is None:
            partition.buffer = None
            self._fetch(partition, None)
        elif isinstance(step.state, Reading) and step.state.start == step.state.end:
            partition.buffer = None
            self._fetch(partition, step.state.start)

    def _fetch(self, partition: Partition, start: int | None) -> None:
        """Let the client fetch from `start`, unless it does already; None: not at all."""
        from confluent_kafka import TopicPartition

        if start is None and partition.fetching:
            self._consumer.incremental_unassign([TopicPartition(*partition.key)])
        elif start is not None and not partition.fetching:
            self._consumer.incremental_assign([TopicPartition(*partition.key, start)])
            self._report.positioned(partition.key, start)
        partition.fetching = start is not None

    # Reading.

    def _fetched(self) -> list[Any]:
        """What the client's queue holds, at most a batch.

        The client never waits for more: while it did, it would fetch on, and a batch of ten-megabyte records would fill
        memory without a bound. The queue itself is bounded.
        """
        if self._drained:
            self.stop.wait(PAUSE_SECONDS)
        messages: list[Any] = self._consumer.consume(self._batch, 0)
        self._drained = len(messages) < self._batch
        return messages

    def _take(self, messages: list[Any]) -> None:
        self._performer.begin_turn()
        found: dict[Key, list[Any]] = {}
        troubles = []
        for message in messages:
            if message.error() is None:
                found.setdefault((message.topic(), message.partition()), []).append(message)
            else:
                troubles.append(message)
        count = len(messages) - len(troubles)
        messages.clear()
        if found:
            size = sum(self._add(key, found.pop(key)) for key in list(found))
            self._report.broker(None)
            self._batch = max(1, min(LAST_BATCH, BATCH_BYTES * count // size))
        for message in sorted(troubles, key=kafka.is_end_of_log, reverse=True):  # an end was met before whatever moves the partition
            self._meet(message)

    def _add(self, key: Key, messages: list[Any]) -> int:
        """Buffer records of one partition; returns their size in bytes."""
        records = kafka.records(messages)
        messages.clear()  # they hold the bytes a second time
        partition = self._partitions.get(key)
        if partition is not None and isinstance(state := partition.state, Reading):
            records = news(records, state.end)
            if records:
                self._buffer(partition, state).add(records)
                self.metrics.records.labels(key[0]).inc(len(records))
                self._advance(partition, protocol.Took(records.offsets[-1] + 1))
        return records.size or 1

    def _buffer(self, partition: Partition, state: Reading) -> Buffer:
        if partition.buffer is None:
            topic, number = partition.key
            where = Coordinates(topic, state.topic_id, number)
            rows = Rows(where, self._window, self.format.slot_minutes, self.settings.topics[topic], self._privacy)
            partition.buffer = Buffer(rows, self.clock())
        return partition.buffer

    def _reach_end(self, partition: Partition, end: int) -> None:
        """The log's last offsets may hold no records, but markers of transactions and what was aborted: claimed as well.

        Else lag would never be 0, and once the log is cut there, a gap would be recorded where nothing was lost.
        """
        partition.end_of_log = end
        if isinstance(state := partition.state, Reading) and end > state.end:
            self._buffer(partition, state)
            self._advance(partition, protocol.Took(end))

    def _meet(self, message: Any) -> None:
        """What the client reports in place of a record."""
        from confluent_kafka import KafkaError

        error = message.error()
        partition = self._partitions.get((message.topic(), message.partition()))
        if kafka.is_end_of_log(message):
            if partition is not None:
                self._reach_end(partition, message.offset())
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            if partition is not None and isinstance(partition.state, Reading):
                self._advance(partition, protocol.OutOfRange())
                self._drive(partition)
        elif partition is not None and kafka.is_damaged(error):
            self._advance(partition, protocol.Close("damaged"))
            self._drive(partition)
            if partition.key in self._partitions:
                self._advance(partition, protocol.Trouble("log_unreadable", self.clock(), error.str()))
        elif kafka.is_name_taken(error):
            raise ConsumerFailed(f"another consumer runs under the same ENGAGEMENT_CONSUMER_INSTANCE: give each its own ({error.str()})")
        elif kafka.is_fatal(error):
            raise ClientFailed(error.str())
        else:
            self._report.broker(error.str())

    def _is_idle(self) -> bool:
        return self._assigned_once and all(
            isinstance(partition.state, Reading) and partition.end_of_log >= partition.state.end for partition in self._partitions.values()
        )

    def _measure(self) -> None:
        """Lag of each partition, from what the client last heard and what is buffered."""
        if self.clock() - self._measured_at < MEASURE_SECONDS:
            return
        self._measured_at = self.clock()
        self.metrics.buffered.set(sum(partition.size for partition in self._partitions.values()))
        for partition in self._partitions.values():
            if isinstance(state := partition.state, Reading):
                self._report.lag(partition, state.start, kafka.known_end(self._consumer, *partition.key))
