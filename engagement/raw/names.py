"""Keys of raw objects. The name is the claim (R2): it depends on the chain and the expected next offset alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

RAW = "raw"
IMPORT_TOPIC = "import"
REPLAY_HEADER = "engagement-replay-of"
"""Header of a replayed dead letter: `topic_id/partition/offset` of the record that was rejected."""
_KEY = re.compile(r"raw/(?P<topic>[^/]+)/(?P<id>[0-9a-f]{8}|[0-9a-f]{64})-(?P<partition>\d{5,})/(?P<start>\d{20})\.parquet")


@dataclass(frozen=True, slots=True, order=True)
class Chain:
    """One sequence of raw objects: a topic partition of one topic id, or one imported file.

    `topic_id` is the first 8 hex digits of the broker's topic id, for imports the whole SHA-256.
    """

    topic: str
    topic_id: str
    partition: int

    @property
    def folder(self) -> str:
        """Folder of the chain's objects."""
        return f"{RAW}/{self.topic}/{self.topic_id}-{self.partition:05d}"

    @property
    def label(self) -> str:
        """Short text form, used as a key in footers; `Chain.parse` reads it."""
        return f"{self.topic}/{self.topic_id}-{self.partition:05d}"

    @staticmethod
    def parse(label: str) -> Chain:
        """The chain of a label."""
        topic, _, rest = label.rpartition("/")
        topic_id, _, partition = rest.rpartition("-")
        return Chain(topic, topic_id, int(partition))

    def key(self, start: int) -> str:
        """Key of the object that claims the records from offset `start`."""
        return f"{self.folder}/{start:020d}.parquet"


def topic_chain(topic: str, topic_id: str, partition: int) -> Chain:
    """Chain of a Kafka partition; `topic_id` is all 32 hex digits."""
    return Chain(topic, topic_id[:8], partition)


def import_chain(sha256: str) -> Chain:
    """Chain of an imported file with this hash of its uncompressed bytes."""
    return Chain(IMPORT_TOPIC, sha256, 0)


def is_import(label: str) -> bool:
    """Whether a chain's label is that of an imported file: no log is behind it."""
    return label.startswith(f"{IMPORT_TOPIC}/")


def parse_key(key: str) -> tuple[Chain, int] | None:
    """Chain and start offset of a raw key; None for anything else that lies there."""
    found = _KEY.fullmatch(key)
    if found is None:
        return None
    return Chain(found["topic"], found["id"], int(found["partition"])), int(found["start"])
