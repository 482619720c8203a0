"""Times of the consumer group short enough for a test: what the broker must allow, what the processes ask for."""

from __future__ import annotations

SESSION_MS = 3000
STALL_MS = {"classic": 6000, "consumer": 15000}
"""After so long without a poll the client leaves its group. Under `consumer` this must be longer than a question to a broker
that is away: librdkafka 2.16.0 may come back from it with a request that the broker refuses for good."""
HEARTBEAT_MS = 400

BROKER = {
    "group.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": SESSION_MS,
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.heartbeat.interval.ms": HEARTBEAT_MS,
    "group.consumer.min.heartbeat.interval.ms": 100,
}
"""Under the `consumer` protocol the broker alone decides about these times."""


def environment(protocol: str) -> dict[str, str]:
    """Settings of the processes; `protocol` is `classic` or `consumer`."""
    times = {"session.timeout.ms": SESSION_MS, "heartbeat.interval.ms": HEARTBEAT_MS}
    kafka = {"max.poll.interval.ms": STALL_MS[protocol], "reconnect.backoff.max.ms": 500}
    kafka |= times if protocol == "classic" else {"group.protocol": protocol}
    asked = {f"ENGAGEMENT_KAFKA__{name.replace('.', '__')}": str(value) for name, value in kafka.items()}
    return asked | {"ENGAGEMENT_FLUSH_SECONDS": "1", "ENGAGEMENT_METRICS_PORT": "0"}
