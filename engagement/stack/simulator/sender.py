"""The thin shell between records and Kafka: sends, counts what the broker acknowledged, never gives up on a broker that is away.

Decides nothing about content. Pacing compares each record's own due time with the clock, so it cannot drift.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer

from engagement.connection import Heard, client
from engagement.errors import PermanentError, TransientError
from engagement.stack.simulator.faults import GROUPS

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Iterator

    from engagement.settings import Settings
    from engagement.stack.simulator.wire import Record

ASK_SECONDS = 5.0
FIRST_RETRY_SECONDS = 0.5
LAST_RETRY_SECONDS = 15.0
POLL_SECONDS = 0.2
POLL_EVERY = 500
LAST_FLUSH_SECONDS = 10.0
TOPIC_TRIES = 4


class NotSendableError(PermanentError):
    """The broker refuses what is sent, or does not know the topic."""


class UnsentError(TransientError):
    """Told to stop while records still waited for a broker that is away."""


@dataclass(slots=True)
class Report:
    """Acknowledged records."""

    by_topic: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """What the command prints: faults summed as its options name them, and each kind by itself."""
        faults = dict.fromkeys(GROUPS.values(), 0)
        for kind, number in self.kinds.items():
            faults[GROUPS[kind]] += number
        return {
            "events": self.by_topic.total(),
            "by_topic": dict(sorted(self.by_topic.items())),
            "faults": faults,
            "fault_kinds": dict(sorted(self.kinds.items())),
        }


class Sender:
    """One idempotent producer. `say` tells a person one line; `stop` ends everything early."""

    def __init__(self, settings: Settings, *, stop: threading.Event, say: Callable[[str], None], ask_seconds: float = ASK_SECONDS) -> None:
        self.report = Report()
        self._servers, self._stop, self._say = settings.kafka_bootstrap_servers, stop, say
        self._topics = {family: topic for topic, family in settings.topics.items()}
        self.report.by_topic.update(dict.fromkeys(self._topics.values(), 0))
        self._ask_seconds = ask_seconds
        self._away = False
        self._heard = Heard()
        self._refused: str | None = None
        self._since_poll = 0
        self._producer = client(
            Producer,
            settings,
            {"enable.idempotence": True, "acks": "all", "linger.ms": 20, "compression.type": "lz4", "message.timeout.ms": 0},
            heard=self._on_error,
        )

    def wait_for_topics(self) -> None:
        """Return when the broker answers and has the topics, or when told to stop; raises NotSendableError without topics."""
        delay, without_topics = FIRST_RETRY_SECONDS, 0
        while not self._stop.is_set():
            try:
                missing = set(self._topics.values()) - set(self._producer.list_topics(timeout=self._ask_seconds).topics)
            except KafkaException as error:
                self._tell_away(self._heard.of(self._producer) or error.args[0].str())
            else:
                if not missing:
                    return
                without_topics += 1
                if without_topics == TOPIC_TRIES:
                    msg = f"no topic {', '.join(sorted(missing))} on {self._servers}: run `engagement topics` first"
                    raise NotSendableError(msg)
            self._stop.wait(delay)
            delay = min(delay * 2, LAST_RETRY_SECONDS)

    def send(self, record: Record) -> None:
        """Hand a record to the producer; waits while its queue is full; raises NotSendableError."""
        while not self._stop.is_set():
            try:
                self._producer.produce(
                    self._topics[record.topic_family], record.value, record.key, on_delivery=partial(self._on_delivered, record.fault)
                )
            except BufferError:
                self.idle(POLL_SECONDS)
                continue
            break
        self._since_poll += 1
        if self._since_poll >= POLL_EVERY:
            self.idle(0)

    def idle(self, seconds: float) -> None:
        """Serve acknowledgements for at most so long; raises NotSendableError for a record refused for good."""
        self._since_poll = 0
        self._producer.poll(seconds)
        self._raise_refused()

    def close(self) -> None:
        """Wait until all is acknowledged; after `stop` only for a while, then raises UnsentError."""
        deadline: float | None = None
        while left := len(self._producer):
            if self._stop.is_set():
                deadline = deadline or time.monotonic() + LAST_FLUSH_SECONDS
                if time.monotonic() >= deadline:
                    msg = f"{left} records were never acknowledged by {self._servers} and are dropped"
                    raise UnsentError(msg)
            self._producer.flush(POLL_SECONDS)
        self._raise_refused()

    def _raise_refused(self) -> None:
        if self._refused is not None:
            raise NotSendableError(self._refused)

    def _on_delivered(self, fault: str | None, error: Any, message: Any) -> None:
        if error is not None:
            self._refused = f"topic {message.topic()}: {error.str()}"
            return
        if self._away:
            self._away = False
            self._say(f"{self._servers} answers again")
        self.report.by_topic[message.topic()] += 1
        if fault is not None:
            self.report.kinds[fault] += 1

    def _on_error(self, error: Any) -> None:
        self._heard(error)
        if error.fatal():
            self._refused = error.str()
        elif error.code() == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001 - the public name of this code
            self._tell_away(self._heard.take() or error.str())

    def _tell_away(self, reason: str) -> None:
        if not self._away:
            self._away = True
            self._say(f"no broker at {self._servers} ({reason}); trying until it answers")


def paced(
    records: Iterable[Record], wait: Callable[[float], None], stop: threading.Event, clock: Callable[[], datetime] | None = None
) -> Iterator[Record]:
    """The records, each when it is due by the clock; what is overdue at once. Ends when told to stop."""
    clock = clock or _now
    for record in records:
        while not stop.is_set() and (ahead := (record.due_at - clock()).total_seconds()) > 0:
            wait(min(ahead, POLL_SECONDS))
        if stop.is_set():
            return
        yield record


def _now() -> datetime:
    return datetime.now(UTC)
