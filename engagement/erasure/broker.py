"""The broker, as far as erasure asks it: which topics live, how far their logs reach, how long they keep what we cannot erase."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from engagement.ingest.kafka import Topics, UnknownTopic
from engagement.settings import Settings

DAY_MILLIS = 86_400_000


class KafkaBroker:
    """`fences.Broker` of these settings."""

    def __init__(self, settings: Settings) -> None:
        self._topics = Topics(settings)

    def ids(self, topics: list[str]) -> Mapping[str, str]:
        """As Broker.ids: topics that are gone are left out."""
        found: dict[str, str] = {}
        for topic in topics:
            with suppress(UnknownTopic):
                found |= self._topics.ids([topic])
        return found

    def partitions(self, topic: str) -> int:
        """As Broker.partitions."""
        return self._topics.partitions(topic)

    def end(self, topic: str, number: int) -> int:
        """As Broker.end."""
        return self._topics.log_range(topic, number)[1]

    def kept(self, topics: list[str]) -> list[str]:
        """What the topics still hold of erased users, a line each: Kafka has no way to take single records out."""
        return [_told(topic, *self._topics.kept(topic)) for topic in sorted(topics)]


def _told(topic: str, policy: str, millis: int) -> str:
    if "compact" in policy.split(","):
        return f"topic {topic} is compacted: send a record without value under the user's id as key, or it keeps the last one for ever"
    if millis < 0:
        return f"topic {topic} keeps records for ever (retention.ms=-1): set a retention, or the user stays in it"
    return f"topic {topic} keeps records for {millis / DAY_MILLIS:.1f} days (retention.ms): until then the user's are in it"
