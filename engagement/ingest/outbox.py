"""Sending records with every acknowledgement looked at: one idempotent producer, acks of all replicas.

A broker refuses a whole batch for its size, though each record alone may be small enough. What was refused with
its neighbours is sent once more alone before it counts as failed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from engagement.connection import client
from engagement.ingest.kafka import BrokerUnavailable
from engagement.ingest.letters import Message
from engagement.settings import Settings

POLL_SECONDS = 0.2
PARTITIONER = -1
HELD_BYTES = 64 << 20
"""So much may wait to be sent alone; then all that follows is sent alone too."""
SENDING = {
    "compression.type": "zstd",
    "message.max.bytes": 1_000_000_000,
    "queue.buffering.max.kbytes": 262_144,
    "message.timeout.ms": 60_000,
}
"""What a person may set otherwise. A record once came in under the topic's limit, perhaps compressed: the broker judges its size."""

Done = Callable[[str | None], None]
"""Called once a message: None when the broker has it, else what went wrong."""


class Nowhere:
    """The outbox of a dry run."""

    def send(self, message: Message, done: Done) -> None:  # noqa: ARG002 - what the real one does with it is left out
        """Say that it arrived."""
        done(None)

    def close(self) -> None:
        """Nothing waits."""


class Outbox:
    """Sends messages; those of one partition in the order given, unless one is refused."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = self._made()
        self._alone = False
        self._refused: list[tuple[Message, Done]] = []
        self._held = 0
        self._away: str | None = None
        self._acknowledged = 0

    def send(self, message: Message, done: Done) -> None:
        """Hand it over, waiting while the queue is full; raises BrokerUnavailable."""
        if self._held > HELD_BYTES:
            self._send_alone()
        self._produce(message, done)

    def close(self) -> None:
        """Wait for every acknowledgement; raises BrokerUnavailable."""
        self._wait()
        if self._refused:
            self._send_alone()
            self._wait()

    def _made(self, **more: Any) -> Any:
        from confluent_kafka import Producer

        chosen = {name: value for name, value in SENDING.items() if name not in self._settings.kafka}
        return client(Producer, self._settings, {**chosen, "enable.idempotence": True, "acks": "all", **more})

    def _send_alone(self) -> None:
        self._wait()
        refused, self._refused, self._held = self._refused, [], 0
        self._producer, self._alone = self._made(**{"batch.num.messages": 1}), True
        for message, done in refused:
            self._produce(message, done)

    def _produce(self, message: Message, done: Done) -> None:
        from confluent_kafka import KafkaException

        partition = PARTITIONER if message.partition is None else message.partition
        delivered = partial(self._delivered, message, done)
        while True:
            try:
                self._producer.produce(message.topic, message.payload, message.key, partition, delivered, headers=list(message.headers))
            except BufferError:
                if not len(self._producer):
                    done(f"larger than the producer's queue of {SENDING['queue.buffering.max.kbytes']} KiB")
                    return
                self._serve(POLL_SECONDS)
            except KafkaException as error:
                done(error.args[0].str())
                return
            else:
                self._serve(0)
                return

    def _wait(self) -> None:
        while len(self._producer):
            self._serve(POLL_SECONDS)
        self._serve(0)

    def _serve(self, seconds: float) -> None:
        self._producer.poll(seconds)
        if self._away is not None:
            raise BrokerUnavailable(
                f"broker {self._settings.kafka_bootstrap_servers}: {self._away}; {self._acknowledged} records were acknowledged, "
                "run it again for the rest"
            )

    def _delivered(self, message: Message, done: Done, error: Any, _: Any) -> None:
        from confluent_kafka import KafkaError

        if error is None:
            self._acknowledged += 1
            done(None)
        elif error.fatal() or error.code() in {KafkaError._MSG_TIMED_OUT, KafkaError._TRANSPORT}:  # noqa: SLF001 - their public names
            self._away = error.str()
        elif error.code() == KafkaError.MSG_SIZE_TOO_LARGE and not self._alone:
            self._refused.append((message, done))
            self._held += len(message.payload or b"") + len(message.key or b"")
        else:
            done(error.str())
