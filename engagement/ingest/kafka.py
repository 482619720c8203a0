"""The broker, as far as ingest needs it: topic ids, topic settings, records. No decisions are taken here."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import structlog

from engagement.connection import Heard, client
from engagement.errors import PermanentError, TransientError
from engagement.ingest import headers
from engagement.raw.rows import Records
from engagement.settings import Settings

log = structlog.get_logger()
Answer = TypeVar("Answer")

TIMEOUT_SECONDS = 10.0
TRY_SECONDS = 2.0
LARGEST_BYTES = 1_000_000_000
"""A record that grows beyond it when it is decompressed stops its partition: by default 4 kB of zstd were enough for that."""
FULL_QUEUE_MILLIS = 20
"""The client fetches again so soon after its queue was full. By default it rests for a second, and a consumer that catches up
at 200,000 records a second has emptied the queue long before."""
LAST_MILLIS = 253_402_300_799_999
"""End of the year 9999. Times outside of 1970-9999 come from records older than the topic's LogAppendTime; they are cut to it."""


class BrokerUnavailable(TransientError):
    """The broker did not answer."""


class UnknownTopic(BrokerUnavailable):
    """The broker answers, but has no such topic now: deleted, or not made yet."""


class WrongTopic(PermanentError):
    """The topic's settings break the contract; the text says how to change them."""


class Topics:
    """Facts about topics, asked from the broker."""

    def __init__(self, settings: Settings) -> None:
        from confluent_kafka.admin import AdminClient

        self._heard = Heard()
        self._admin = client(AdminClient, settings, {"log_level": 0}, self._heard)

    def ids(self, topics: list[str], timeout: float = TIMEOUT_SECONDS) -> dict[str, str]:
        """Topic -> its id as 32 lower-case hex digits; raises BrokerUnavailable, UnknownTopic."""
        from confluent_kafka import TopicCollection

        def ask(seconds: float) -> dict[str, str]:
            described = self._admin.describe_topics(TopicCollection(topics), request_timeout=seconds)
            return {topic: _hex(future.result().topic_id) for topic, future in described.items()}

        return self._insist(ask, timeout)

    def log_range(self, topic: str, number: int) -> tuple[int, int]:
        """The partition's first offset and its end; raises BrokerUnavailable, UnknownTopic.

        On a connection of its own: on the consumer's, each question waits behind a fetch for half a second.
        """
        from confluent_kafka import TopicPartition
        from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

        partition = TopicPartition(topic, number)

        def ask(seconds: float) -> tuple[int, int]:
            low, high = (
                self._admin.list_offsets({partition: spec}, request_timeout=seconds)[partition]
                for spec in (OffsetSpec.earliest(), OffsetSpec.latest())  # type: ignore[no-untyped-call]
            )
            return low.result().offset, high.result().offset

        return self._insist(ask, TIMEOUT_SECONDS)

    def partitions(self, topic: str) -> int:
        """How many partitions the topic has; raises BrokerUnavailable, UnknownTopic."""
        from confluent_kafka import TopicCollection

        def ask(seconds: float) -> int:
            described = self._admin.describe_topics(TopicCollection([topic]), request_timeout=seconds)
            return len(described[topic].result().partitions)

        return self._insist(ask, TIMEOUT_SECONDS)

    def kept(self, topic: str) -> tuple[str, int]:
        """The topic's cleanup policy, and how long it keeps records in milliseconds (-1: for ever); raises BrokerUnavailable."""
        from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

        def ask(seconds: float) -> tuple[str, int]:
            found = self._admin.describe_configs([resource := ConfigResource(ResourceType.TOPIC, topic)], request_timeout=seconds)
            values = found[resource].result()
            return values["cleanup.policy"].value, int(values["retention.ms"].value)

        return self._insist(ask, TIMEOUT_SECONDS)

    def require_log_append_time(self, topics: list[str]) -> None:
        """Raises WrongTopic where records would carry the producer's clock (R1), BrokerUnavailable."""
        from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

        resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]

        def ask(seconds: float) -> dict[str, str]:
            described = self._admin.describe_configs(resources, request_timeout=seconds)
            return {resource.name: future.result()["message.timestamp.type"].value for resource, future in described.items()}

        for topic, found in self._insist(ask, TIMEOUT_SECONDS).items():
            if found != "LogAppendTime":
                msg = (
                    f"topic {topic} has message.timestamp.type={found}; ingest needs LogAppendTime: run `kafka-configs.sh "
                    f"--alter --entity-type topics --entity-name {topic} --add-config message.timestamp.type=LogAppendTime`"
                )
                raise WrongTopic(msg)

    def _insist(self, ask: Callable[[float], Answer], timeout: float) -> Answer:
        """Ask until the timeout, each time with fresh metadata; raises BrokerUnavailable, UnknownTopic.

        The client sends most questions to the node that its last metadata called the controller, and waits for that one
        until the metadata grow old (5 minutes), although it is dead and others live.
        """
        from confluent_kafka import KafkaError, KafkaException

        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return ask(max(0.1, min(left, TRY_SECONDS)))
            except KafkaException as error:
                timed_out = error.args[0].code() == KafkaError._TIMED_OUT  # noqa: SLF001 - the library's own public name for it
                if not timed_out or left <= TRY_SECONDS:
                    raise _unavailable(error, self._heard.of(self._admin)) from error
            with contextlib.suppress(KafkaException):
                self._admin.list_topics(timeout=TRY_SECONDS)


CLASSIC_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy")
"""Properties that belong to the group protocol before KIP-848: who sets one wants that protocol."""


def group_protocols(settings: Settings) -> list[str]:
    """How the group may share its partitions, best first: KIP-848, and the protocol before it for brokers that lack that.

    Who sets `group.protocol`, or a property of the old one, has chosen. A static member takes the old one: a broker lets
    it take its name back at once after a kill, under KIP-848 only after the session timeout.
    """
    if "group.protocol" in settings.kafka:
        return [settings.kafka["group.protocol"]]
    if settings.consumer_instance or any(name in settings.kafka for name in CLASSIC_ONLY):
        return ["classic"]
    return ["consumer", "classic"]


def consumer(settings: Settings, protocol: str) -> Any:
    """A consumer that never commits by itself and never jumps over lost offsets by itself.

    With ENGAGEMENT_CONSUMER_INSTANCE it is a static member: a restart within the session timeout moves nothing.
    Raises ClientRefused.
    """
    from confluent_kafka import Consumer

    own = {
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "error",
        "enable.partition.eof": True,
        "isolation.level": "read_committed",
        "queued.max.messages.kbytes": 65536,
        "fetch.queue.backoff.ms": FULL_QUEUE_MILLIS,
        "receive.message.max.bytes": LARGEST_BYTES,
        "group.id": settings.consumer_group,
        "group.protocol": protocol,
        **({"group.instance.id": settings.consumer_instance} if settings.consumer_instance else {}),
        **({"partition.assignment.strategy": "cooperative-sticky"} if protocol == "classic" else {}),
    }
    return client(Consumer, settings, own)


def commit(consumer: Any, topic: str, number: int, end: int) -> None:
    """Tell the group how far the lake is; only for those who watch its lag (R3), so a failure is told and no more."""
    from confluent_kafka import KafkaException, TopicPartition

    try:
        consumer.commit(offsets=[TopicPartition(topic, number, end)], asynchronous=True)
    except KafkaException as error:
        log.warning("offset_not_committed", topic=topic, partition=number, detail=error.args[0].str())


def known_end(consumer: Any, topic: str, number: int) -> int:
    """The log's end as the client last heard it; negative where it has not heard yet."""
    from confluent_kafka import TopicPartition

    _, high = consumer.get_watermark_offsets(TopicPartition(topic, number), cached=True)
    return int(high)


def is_end_of_log(message: Any) -> bool:
    """Whether the client reports that it met a partition's end, in place of a record."""
    from confluent_kafka import KafkaError

    return bool(message.error().code() == KafkaError._PARTITION_EOF)  # noqa: SLF001 - the library's own public name for it


def is_damaged(error: Any) -> bool:
    """Whether the client cannot read what the broker sends of one partition: it can get no further there, others can."""
    from confluent_kafka import KafkaError

    return error.code() in (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError.INVALID_MSG, KafkaError.MSG_SIZE_TOO_LARGE)  # noqa: SLF001


def is_fatal(error: Any) -> bool:
    """Whether the client does nothing any more after this error; the event that says so is not marked as fatal itself."""
    from confluent_kafka import KafkaError

    return bool(error.fatal() or error.code() == KafkaError._FATAL)  # noqa: SLF001 - the library's own public name for it


def is_name_taken(error: Any) -> bool:
    """Whether another process joined under this member's instance name."""
    from confluent_kafka import KafkaError

    return error.code() in (KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID) or "FENCED_INSTANCE_ID" in error.str()


def records(messages: Sequence[Any]) -> Records:
    """Consumed messages of one partition, in their order, as columns."""
    import numpy as np

    received = np.clip([millis for _, millis in (message.timestamp() for message in messages)], 0, LAST_MILLIS) * 1000
    return Records(
        [message.offset() for message in messages],
        received.tolist(),
        [message.key() for message in messages],
        [message.value() for message in messages],
        headers.of(messages),
    )


def _unavailable(error: Any, cause: str | None) -> BrokerUnavailable:
    from confluent_kafka import KafkaError

    found = error.args[0]
    kind = UnknownTopic if found.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC) else BrokerUnavailable  # noqa: SLF001
    return kind(cause or found.str())


def _hex(topic_id: Any) -> str:
    bits = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return "".join(f"{half % (1 << 64):016x}" for half in bits)
