"""Records without end: numbered, good and bad, with headers, and transactions of which some are aborted.

What the broker acknowledged is kept, offsets only: the log itself says what each record is.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import KafkaException, Producer

from engagement.settings import Settings

ROUND_SECONDS = 0.1
RECORDS_A_ROUND = 4
"""Of each topic."""
TRANSACTION_EVERY = 12
"""Rounds."""
TRANSACTIONS = {"transactional.id": "faults", "transaction.timeout.ms": 10000}
GOOD, BAD = b"good", b"bad"
EXPECT = "expect"

_silent = logging.getLogger("faults.librdkafka")
_silent.addHandler(logging.NullHandler())
_silent.propagate = False


def record(number: int, chance: random.Random, timestamp: str) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Value, key, headers of one record; the header `expect` says whether it is an event."""
    user = f"u{chance.randrange(200)}"
    event: dict[str, Any] = {
        "event_id": f"00000000-0000-4000-8000-{number:012d}",
        "user_id": user,
        "event_type": "tap",
        "timestamp": timestamp,
    }
    event["properties"] = {"screen": "héllo", "n": number}
    key: bytes | None = user.encode()
    headers: list[tuple[str, bytes | None]] = [("n", b"%d" % number)]
    if number % 5 == 0:
        headers += [("twice", b"1"), ("twice", None), ("", b"\xff\x00")]
    value: bytes | None = json.dumps(event).encode()
    match number % 23:
        case 3:
            value = b"{broken"
        case 7:
            value = None
        case 11:
            value = b"\xff\xfe not UTF-8"
        case 13:
            value, key = json.dumps(event | {"timestamp": "not a time"}).encode(), None
        case 17:
            value, key = b"", b""
        case 19:
            value = json.dumps({name: text for name, text in event.items() if name != "event_id"}).encode()
        case _:
            return value, key, [*headers, (EXPECT, GOOD)]
    return value, key, [*headers, (EXPECT, BAD)]


class Traffic:
    """Produces from `start` to `stop`, through every restart of the broker."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self.acknowledged: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.aborted = 0
        """Records sent in transactions that were then aborted."""
        self._topics = list(settings.topics)
        self._servers = settings.kafka_bootstrap_servers
        self._chance = random.Random(seed)
        self._number = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Every record that is still under way is in the log afterwards."""
        self._stop.set()
        self._thread.join()
        if self._failure:
            raise self._failure

    def _run(self) -> None:
        try:
            producer = self._producer(**{"acks": "all", "enable.idempotence": True, "linger.ms": 5})
            transactional = None
            rounds = 0
            while not self._stop.wait(ROUND_SECONDS):
                for _ in range(RECORDS_A_ROUND):
                    self._send(producer, self._on_delivery)
                producer.poll(0)
                rounds += 1
                if rounds % TRANSACTION_EVERY == 0:
                    transactional = self._transaction(transactional, abort=rounds % (3 * TRANSACTION_EVERY) != 0)
            assert producer.flush(60) == 0
            self._producer(**TRANSACTIONS).init_transactions(60)  # ends what the last one may have left open
        except BaseException as error:  # noqa: BLE001 - told by `stop`, in the thread of the test
            self._failure = error

    def _producer(self, **extra: Any) -> Producer:
        return Producer({"bootstrap.servers": self._servers, "log_level": 0, "reconnect.backoff.max.ms": 500, **extra}, logger=_silent)

    def _send(self, producer: Producer, on_delivery: Any = None) -> None:
        for topic in self._topics:
            timestamp = datetime.now(UTC).isoformat()
            value, key, headers = record(self._number, self._chance, timestamp)
            producer.produce(topic, value, key, headers=headers, on_delivery=on_delivery)
            self._number += 1

    def _on_delivery(self, error: Any, message: Any) -> None:
        assert error is None, error
        self.acknowledged[message.topic(), message.partition()].append(message.offset())

    def _transaction(self, producer: Producer | None, *, abort: bool) -> Producer | None:
        """One small transaction; whatever the broker's restart does to it, what is committed is in the log."""
        try:
            if producer is None:
                producer = self._producer(**TRANSACTIONS)
                producer.init_transactions(10)
            producer.begin_transaction()
            for _ in range(2):
                self._send(producer)
            producer.flush(5)
            if abort:
                producer.abort_transaction(10)
                self.aborted += 2 * len(self._topics)
            else:
                producer.commit_transaction(10)
        except KafkaException:  # a new one with the same id ends what the old one left open
            with contextlib.suppress(KafkaException):
                if producer is not None:
                    producer.purge()
            return None
        return producer
