"""How every Kafka client is made, and why a broker cannot be reached.

The client library tells causes aside, while the request itself only "timed out": they are caught here and said
in one line. What does not belong here: whether to try again, and what is asked.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

from engagement.errors import PermanentError
from engagement.settings import Settings

TELLING = ("_AUTHENTICATION", "_SSL", "_RESOLVE")
"""A wrong password, a certificate that is not trusted, a name that nobody knows: waiting alone does not mend them."""

_HANDSHAKE = "in state SSL_HANDSHAKE"
"""The first refusal of a certificate comes as a mere loss of the connection."""

_WHERE = re.compile(r"^\S+://\S+/\S+: ")
_WHEN = re.compile(r" \(after \d+ms in state .*\)$")


class ClientRefused(PermanentError):
    """The client library takes a property not, or not this value."""


class Heard:
    """What a client said of its connections; pass it to `client`. It hears only while the client polls."""

    def __init__(self) -> None:
        self.cause: str | None = None

    def __call__(self, error: Any) -> None:
        """One error of the client; those that only say "away" are no cause."""
        if error.name() in TELLING or _HANDSHAKE in error.str():
            self.cause = _WHEN.sub("", _WHERE.sub("", error.str()))

    def of(self, client: Any) -> str | None:
        """The cause heard since the last call."""
        client.poll(0)
        return self.take()

    def take(self) -> str | None:
        """As `of`, from inside a client's own callback."""
        cause, self.cause = self.cause, None
        return cause


def client(kind: Any, settings: Settings, properties: dict[str, Any] | None = None, heard: Callable[[Any], None] | None = None) -> Any:
    """A client of this kind with the settings' properties, and these over them; raises ClientRefused.

    Its own log lines are swallowed: every error reaches us as a value and is told once.
    """
    from confluent_kafka import KafkaException

    listening = {"error_cb": heard} if heard else {}
    try:
        return kind(settings.kafka_config(**(properties or {}), **listening), logger=_silent())
    except KafkaException as error:
        raise ClientRefused(f"ENGAGEMENT_KAFKA__ settings: {error.args[0].str()}") from error


def _silent() -> logging.Logger:
    logger = logging.getLogger("engagement.librdkafka")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False
    return logger
