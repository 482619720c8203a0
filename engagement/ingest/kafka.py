"""The broker, as far as ingest needs it: topic ids, topic settings, records. No decisions are taken here."""

from __future__ import annotations

from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.raw.rows import Record, from_millis
from engagement.settings import Settings

TIMEOUT_SECONDS = 10.0


class BrokerUnavailable(TransientError):
    """The broker did not answer, or does not know the topic yet."""


class WrongTopic(PermanentError):
    """The topic's settings break the contract; the text says how to change them."""


class Topics:
    """Facts about topics, asked from the broker."""

    def __init__(self, settings: Settings) -> None:
        from confluent_kafka.admin import AdminClient

        self._admin = AdminClient(settings.kafka_config(log_level=0), logger=silent())

    def ids(self, topics: list[str], timeout: float = TIMEOUT_SECONDS) -> dict[str, str]:
        """Topic -> its id as 32 lower-case hex digits; raises BrokerUnavailable."""
        from confluent_kafka import KafkaException, TopicCollection

        try:
            described = self._admin.describe_topics(TopicCollection(topics), request_timeout=timeout)
            return {topic: _hex(future.result().topic_id) for topic, future in described.items()}
        except KafkaException as error:
            raise BrokerUnavailable(error.args[0].str()) from error

    def require_log_append_time(self, topics: list[str]) -> None:
        """Raises WrongTopic where records would carry the producer's clock (R1), BrokerUnavailable."""
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import ConfigResource, ResourceType  # type: ignore[attr-defined]

        try:
            resources = [ConfigResource(ResourceType.TOPIC, topic) for topic in topics]
            for resource, future in self._admin.describe_configs(resources, request_timeout=TIMEOUT_SECONDS).items():
                found = future.result()["message.timestamp.type"].value
                if found != "LogAppendTime":
                    msg = (
                        f"topic {resource.name} has message.timestamp.type={found}; ingest needs LogAppendTime: run `kafka-configs.sh "
                        f"--alter --entity-type topics --entity-name {resource.name} --add-config message.timestamp.type=LogAppendTime`"
                    )
                    raise WrongTopic(msg)
        except KafkaException as error:
            raise BrokerUnavailable(error.args[0].str()) from error


def consumer(settings: Settings) -> Any:
    """A consumer that never commits by itself and never jumps over lost offsets by itself."""
    from confluent_kafka import Consumer

    return Consumer(
        settings.kafka_config(
            **{
                "group.id": settings.consumer_group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,
                "partition.assignment.strategy": "cooperative-sticky",
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": 65536,
            }
        ),
        logger=silent(),
    )


def record(message: Any) -> Record:
    """A consumed message as a Record."""
    _, millis = message.timestamp()
    headers = tuple((name, value) for name, value in message.headers() or ())
    return Record(message.offset(), from_millis(millis), message.key(), message.value(), headers)


def _hex(topic_id: Any) -> str:
    bits = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return "".join(f"{half % (1 << 64):016x}" for half in bits)


def silent() -> Any:
    """A logger that swallows librdkafka's own lines: every error reaches us as a value and is told once."""
    import logging

    logger = logging.getLogger("engagement.librdkafka")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
