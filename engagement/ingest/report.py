"""What the consumer counts and logs: every closed file, fence, drop and trouble with its reason, each trouble once.

No decisions: `consumer.py` calls these where something happened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog

from engagement.ingest import protocol
from engagement.ingest.metrics import Metrics
from engagement.ingest.partition import Key, Partition
from engagement.raw.footers import RawFile

log = structlog.get_logger()


@dataclass(slots=True)
class Report:
    """Logs and metrics of one consumer process."""

    metrics: Metrics
    clock: Callable[[], float]
    _broker_told: str | None = None
    _troubles: dict[Key, str] = field(default_factory=dict)
    """The trouble of a partition that was logged last."""

    def broker(self, trouble: str | None) -> None:
        """Say a trouble of the broker once, and once that it is over."""
        if trouble and not self._broker_told:
            log.warning("broker_away", detail=trouble, action="keeps trying")
        elif self._broker_told and not trouble:
            log.info("broker_back")
        self._broker_told = trouble

    def group(self, what: str, partitions: list[Any], **facts: Any) -> None:
        """Partitions were assigned or revoked."""
        log.info(what, partitions=sorted(f"{item.topic}/{item.partition}" for item in partitions), **facts)

    def positioned(self, key: Key, offset: int) -> None:
        """The client fetches a partition from here on."""
        log.info("positioned", topic=key[0], partition=key[1], offset=offset)

    def lag(self, partition: Partition, start: int, high: int) -> None:
        """How far the lake is behind the log's end `high`, and how old the oldest record is that was read and waits."""
        oldest = partition.buffer.oldest_received / 1e6 if partition.size and partition.buffer else time.time()
        self.metrics.lag.labels(*partition.key).set(max(0, high - start))
        self.metrics.lag_seconds.labels(*partition.key).set(max(0.0, time.time() - oldest))

    def written(self, partition: Partition, raw: RawFile, why: str, duration: float) -> None:
        """A claim was published; `duration` in seconds, encoding included."""
        topic, number = partition.key
        here = {"topic": topic, "partition": number, "start": raw.start, "end": raw.end}
        metrics = self.metrics
        metrics.commits.labels(topic, why).inc()
        if raw.gap:
            metrics.gaps.labels(topic).inc(raw.end - raw.start)
            log.error("gap", **here, meaning="the log no longer had these records")
            return
        metrics.flush_rows.labels(topic).observe(raw.rows)
        metrics.flush_bytes.labels(topic).observe(raw.size)
        metrics.flush_age.labels(topic).observe(self.clock() - partition.since)
        metrics.flush_duration.labels(topic).observe(duration)
        for reason, count in raw.rejects.items():
            metrics.rejects.labels(topic, reason).inc(count)
        for what, count in raw.noticed.items():
            metrics.noticed.labels(topic, what).inc(count)
        log.info("flushed", **here, rows=raw.rows, rejects=sum(raw.rejects.values()), why=why)

    def step(self, partition: Partition, event: protocol.Event, step: protocol.Step) -> None:
        """The protocol took a step; `partition` still is as before it."""
        if step.dropped:
            self._dropped(partition, event, step.dropped)
        elif isinstance(step.state, protocol.Reading) and not isinstance(event, protocol.Took):
            self.metrics.stopped.labels(*partition.key).set(0)
            self._troubles.pop(partition.key, None)

    def forget(self, key: Key) -> None:
        """A partition is no longer ours."""
        self.metrics.forget(*key)
        self._troubles.pop(key, None)

    def _dropped(self, partition: Partition, event: protocol.Event, why: str) -> None:
        topic, number = partition.key
        here = {"topic": topic, "partition": number}
        held = protocol.holds(partition.state) is not None and partition.buffer is not None
        if held:
            self.metrics.dropped.labels(topic, why).inc()
        if why in protocol.FENCES:
            self.metrics.fences.labels(topic, why).inc()
            log.warning(why, **here, dropped=held, meaning="somebody or something else was there first: nothing is written twice")
        elif isinstance(event, protocol.Trouble):
            self.metrics.stopped.labels(topic, number).set(1)
            if self._troubles.get(partition.key) != event.detail:
                log.error("partition_waits", **here, why=why, detail=event.detail, action="keeps trying; the log has what was dropped")
            self._troubles[partition.key] = event.detail
        else:
            log.info(why, **here, dropped=held)
