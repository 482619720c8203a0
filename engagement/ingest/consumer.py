"""The long-running consumer: records of a partition and flush become one raw object, exactly once (R1-R3).

The lake says where to resume, never the group. Whatever goes wrong between reading and a durable object,
the buffer is dropped, the partition looks at the lake again and reads on from there: the log still has it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from engagement.contract import TimeWindow
from engagement.errors import EngagementError, TransientError
from engagement.ingest import kafka
from engagement.ingest.metrics import Metrics
from engagement.ingest.partition import FlushPolicy, Partition
from engagement.lake import AlreadyExists, Lake, LakeFormat
from engagement.raw import chain, files, rows
from engagement.raw.names import topic_chain
from engagement.settings import Settings

log = structlog.get_logger()
Clock = Callable[[], float]

BATCH = 2000
WAIT_SECONDS = 0.25
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 15.0
LAG_SECONDS = 1.0


@dataclass(slots=True)
class Waiting:
    """An assigned partition without a position: when to look at the lake again (clock seconds)."""

    at: float = 0.0
    delay: float = FIRST_RETRY_SECONDS
    told: str | None = None


@dataclass(slots=True)
class Ingest:
    """One consumer process. `run` returns after `stop` is set, or when idle if asked so."""

    settings: Settings
    lake: Lake
    format: LakeFormat
    metrics: Metrics = field(default_factory=Metrics)
    stop: threading.Event = field(default_factory=threading.Event)
    clock: Clock = time.monotonic
    _consumer: Any = None
    _topics: Any = None
    _positioned: dict[tuple[str, int], Partition] = field(default_factory=dict)
    _waiting: dict[tuple[str, int], Waiting] = field(default_factory=dict)
    _delays: dict[tuple[str, int], float] = field(default_factory=dict)
    """Partitions whose last write failed, with the delay that the next failure will cost."""
    _at_end: set[tuple[str, int]] = field(default_factory=set)
    _assigned_once: bool = False
    _measured_at: float = float("-inf")
    _told: str | None = None

    def run(self, *, until_idle: bool = False) -> None:
        """Read, buffer, write, until told to stop; raises WrongTopic for a topic that breaks the contract."""
        self._topics = kafka.Topics(self.settings)
        self._consumer = kafka.consumer(self.settings)
        self._require_topics()
        self._consumer.subscribe(list(self.settings.topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)
        try:
            while not self.stop.is_set():
                self.turn()
                if until_idle and self._is_idle():
                    break
        finally:
            self._flush_all("shutdown")
            self._consumer.close()

    def turn(self) -> None:
        """One turn of the loop: position what waits, read a batch, write what is due."""
        self.metrics.heartbeat.set_to_current_time()
        self._position_waiting()
        self._measure_lag()
        for message in self._consumer.consume(BATCH, WAIT_SECONDS):
            self._take(message)
        policy = FlushPolicy(self.settings.flush_seconds, self.settings.flush_bytes, self.settings.buffer_bytes)
        due = policy.due(list(self._positioned.values()), self.clock())
        if due:
            self._flush(due)

    def _require_topics(self) -> None:
        delay = FIRST_RETRY_SECONDS
        while not self.stop.is_set():
            self.metrics.heartbeat.set_to_current_time()
            try:
                self._topics.require_log_append_time(list(self.settings.topics))
            except TransientError as error:
                self._tell(f"broker {self.settings.kafka_bootstrap_servers}: {error}")
                self.stop.wait(delay)
                delay = min(delay * 2, LAST_RETRY_SECONDS)
            else:
                self._tell(None)
                return

    def _tell(self, trouble: str | None) -> None:
        """Say a trouble of the broker once, and once that it is over."""
        if trouble and not self._told:
            log.warning("broker_away", detail=trouble, action="keeps trying")
        elif self._told and not trouble:
            log.info("broker_back")
        self._told = trouble

    # Assignment. Partitions are taken without a position; the loop gives them one from the lake.

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        consumer.incremental_assign([])
        self._assigned_once = True
        for item in partitions:
            self._waiting[item.topic, item.partition] = Waiting()
        log.info("assigned", partitions=sorted(f"{item.topic}/{item.partition}" for item in partitions))

    def _on_revoke(self, _consumer: Any, partitions: list[Any]) -> None:
        """Still ours: write what is buffered, then let go."""
        mine = [found for item in partitions if (found := self._positioned.get((item.topic, item.partition)))]
        self._flush([(found, "revoked") for found in mine if found.records])
        self._forget(partitions)

    def _on_lost(self, _consumer: Any, partitions: list[Any]) -> None:
        """Somebody else's by now: never written (R3)."""
        for item in partitions:
            lost = self._positioned.get((item.topic, item.partition))
            if lost and lost.records:
                self.metrics.dropped.labels("lost").inc()
        self._forget(partitions)

    def _forget(self, partitions: list[Any]) -> None:
        for item in partitions:
            key = (item.topic, item.partition)
            self._positioned.pop(key, None)
            self._waiting.pop(key, None)
            self._at_end.discard(key)
            for gauge in (self.metrics.stopped, self.metrics.lag):
                with contextlib.suppress(KeyError):
                    gauge.remove(*key)
        log.info("revoked", partitions=sorted(f"{item.topic}/{item.partition}" for item in partitions))

    def _position_waiting(self) -> None:
        now = self.clock()
        for key, waiting in list(self._waiting.items()):
            if waiting.at > now:
                continue
            try:
                self._position(*key)
            except (EngagementError, kafka_errors()) as error:
                self._postpone(key, waiting, str(error))

    def _position(self, topic: str, number: int) -> None:
        from confluent_kafka import TopicPartition

        where = rows.Coordinates(topic, self._topics.ids([topic])[topic], number)
        claims = topic_chain(topic, where.topic_id, number)
        low, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=kafka.TIMEOUT_SECONDS)
        start = chain.resume(files.last_link(self.lake, claims), chain.NO_COVERAGE)
        lost = chain.gap(start, low, high, f"{topic}/{number}")
        if lost is not None:
            files.write_gap(self.lake, claims, lost.start, lost.end)
            self.metrics.gaps.labels(topic).inc(lost.end - lost.start)
            log.error("gap", topic=topic, partition=number, start=lost.start, end=lost.end, meaning="the log no longer had these records")
            start = lost.end
        self._consumer.incremental_assign([TopicPartition(topic, number, start)])
        self._positioned[topic, number] = Partition(where, claims, start)
        del self._waiting[topic, number]
        self.metrics.stopped.labels(topic, number).set(0)
        log.info("positioned", topic=topic, partition=number, offset=start)

    def _postpone(self, key: tuple[str, int], waiting: Waiting, trouble: str) -> None:
        if waiting.told != trouble:
            log.error("partition_waits", topic=key[0], partition=key[1], detail=trouble, action="keeps trying")
        self.metrics.stopped.labels(*key).set(1)
        self._waiting[key] = Waiting(self.clock() + waiting.delay, min(waiting.delay * 2, LAST_RETRY_SECONDS), trouble)

    def _look_again(self, partition: Partition, why: str, trouble: str | None = None) -> None:
        """Drop the buffer and take the position from the lake anew (R3); after a `trouble`, with growing delay."""
        from confluent_kafka import TopicPartition

        key = (partition.where.topic, partition.where.partition)
        delay = self._delays.get(key, FIRST_RETRY_SECONDS) if trouble else 0.0
        if trouble:
            self._delays[key] = min(delay * 2, LAST_RETRY_SECONDS)
        self.metrics.dropped.labels(why).inc()
        self._consumer.incremental_unassign([TopicPartition(*key)])
        self._positioned.pop(key, None)
        self._at_end.discard(key)
        self._waiting[key] = Waiting(self.clock() + delay, max(delay, FIRST_RETRY_SECONDS), trouble)

    def _measure_lag(self) -> None:
        """Records of each partition that are in the log and not in the lake, from what the client last heard."""
        from confluent_kafka import TopicPartition

        if self.clock() - self._measured_at < LAG_SECONDS:
            return
        self._measured_at = self.clock()
        for (topic, number), partition in self._positioned.items():
            _, high = self._consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
            if high >= 0:
                self.metrics.lag.labels(topic, number).set(max(0, high - partition.start))

    # Reading.

    def _take(self, message: Any) -> None:
        from confluent_kafka import KafkaError

        error = message.error()
        if error is None:
            self._tell(None)
            key = (message.topic(), message.partition())
            self._at_end.discard(key)
            partition = self._positioned.get(key)
            if partition is not None:
                partition.add(kafka.record(message), self.clock())
                self.metrics.records.labels(message.topic()).inc()
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the library's own public name for it
            self._at_end.add((message.topic(), message.partition()))
        elif error.code() == KafkaError._AUTO_OFFSET_RESET:  # noqa: SLF001
            self._out_of_range(message)
        else:
            self._tell(error.str())

    def _out_of_range(self, message: Any) -> None:
        """The log lost the offset we wait for: write what is buffered, then look again, which records the gap."""
        partition = self._positioned.get((message.topic(), message.partition()))
        if partition is None:
            return
        self._flush([(partition, "gap")] if partition.records else [])
        if (message.topic(), message.partition()) in self._positioned:
            self._look_again(partition, "out_of_range")

    def _is_idle(self) -> bool:
        return self._assigned_once and not self._waiting and self._at_end >= set(self._positioned)

    # Writing.

    def _flush_all(self, why: str) -> None:
        self._flush([(partition, why) for partition in self._positioned.values() if partition.records])

    def _flush(self, due: list[tuple[Partition, str]]) -> None:
        if not due:
            return
        try:
            ids = self._topics.ids(sorted({partition.where.topic for partition, _ in due}))
        except TransientError as error:
            self._tell(str(error))
            for partition, _ in due:
                self._look_again(partition, "broker_away", str(error))
            return
        for partition, why in due:
            if ids[partition.where.topic] != partition.where.topic_id:
                log.error("topic_recreated", topic=partition.where.topic, partition=partition.where.partition)
                self._look_again(partition, "topic_recreated")
            else:
                self._write(partition, why)

    def _write(self, partition: Partition, why: str) -> None:
        where, settings = partition.where, self.settings
        window = TimeWindow.of(self.format.history_start, settings.clock_skew_seconds, settings.lateness_days)
        batch = rows.build(where, partition.records, window, self.format.slot_minutes, settings.topics[where.topic])
        try:
            raw = files.write(self.lake, partition.chain, partition.start, partition.end, batch)
        except AlreadyExists:
            log.warning(
                "fenced", topic=where.topic, partition=where.partition, start=partition.start, meaning="another writer made this claim"
            )
            self._look_again(partition, "fenced")
            return
        except TransientError as error:
            log.warning(
                "lake_unavailable",
                topic=where.topic,
                partition=where.partition,
                detail=str(error),
                action="stops taking records, keeps trying",
            )
            self._look_again(partition, "lake_unavailable", str(error))
            return
        partition.written()
        self._delays.pop((where.topic, where.partition), None)
        self._report(partition, raw, why)

    def _report(self, partition: Partition, raw: files.RawFile, why: str) -> None:
        from confluent_kafka import TopicPartition

        topic, number = partition.where.topic, partition.where.partition
        self.metrics.flushes.labels(topic, why).inc()
        for reason, count in raw.rejects.items():
            self.metrics.rejects.labels(topic, reason).inc(count)
        for what, count in raw.noticed.items():
            self.metrics.noticed.labels(topic, what).inc(count)
        try:
            self._consumer.commit(offsets=[TopicPartition(topic, number, raw.end)], asynchronous=True)
        except kafka_errors() as error:  # group offsets only serve lag monitoring (R3)
            log.warning("offset_not_committed", topic=topic, partition=number, detail=str(error))
        log.info(
            "flushed",
            topic=topic,
            partition=number,
            start=raw.start,
            end=raw.end,
            rows=raw.rows,
            rejects=sum(raw.rejects.values()),
            why=why,
        )


def kafka_errors() -> type[Exception]:
    """The exception type of the client library, imported when first needed."""
    from confluent_kafka import KafkaException

    error: type[Exception] = KafkaException
    return error
