"""What the consumer tells Prometheus, on one port of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from engagement.errors import PermanentError

HANGS_AFTER_SECONDS = 60.0
PARTITION = ("topic", "partition")


class Heartbeat(Collector):
    """Unix time of the last turn of the loop; the series is missing while the process hangs, so that absence pages."""

    def __init__(self) -> None:
        self.last = 0.0

    def beat(self) -> None:
        """The loop turned."""
        self.last = time.time()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The series, if the loop turned lately."""
        if time.time() - self.last < HANGS_AFTER_SECONDS:
            yield GaugeMetricFamily("engagement_heartbeat_seconds", "Unix time of the last turn of the loop", self.last)


class Metrics:
    """All series of one consumer process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.heartbeat = Heartbeat()
        registry.register(self.heartbeat)

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"engagement_{name}", meaning, labels, registry=registry)

        def gauge(name: str, meaning: str) -> Gauge:
            return Gauge(f"engagement_{name}", meaning, PARTITION, registry=registry)

        def histogram(name: str, meaning: str, *buckets: float) -> Histogram:
            return Histogram(f"engagement_{name}", meaning, ["topic"], buckets=buckets, registry=registry)

        self.records = counter("records", "Records read from the log", "topic")
        self.rejects = counter("rejects", "Records that are no event", "topic", "reason")
        self.noticed = counter("noticed", "Good rows that are late, on another topic or key", "topic", "what")
        self.commits = counter("commits", "Raw objects written, by what closed them", "topic", "why")
        self.fences = counter("fences", "Claims given up because somebody or something was there first", "topic", "why")
        self.dropped = counter("buffers_dropped", "Buffers given up and read again from the log", "topic", "why")
        self.gaps = counter("gap_offsets", "Offsets the log had lost before they were read", "topic")
        self.flush_rows = histogram("flush_rows", "Rows of a raw object", 10, 100, 1e3, 1e4, 1e5, 1e6)
        self.flush_bytes = histogram("flush_bytes", "Bytes of a raw object", 1e4, 1e5, 1e6, 4e6, 1.6e7, 6.4e7)
        self.flush_age = histogram("flush_age_seconds", "Time the oldest record of a raw object waited", 1, 5, 10, 30, 60, 120, 300)
        self.flush_duration = histogram("flush_duration_seconds", "Time to encode and publish a raw object", 0.01, 0.05, 0.2, 1, 5, 30)
        self.buffered = Gauge("engagement_buffered_bytes", "Bytes of records held in memory", registry=registry)
        self.lag = gauge("lag_records", "Records in the log that are not in the lake yet")
        self.lag_seconds = gauge("lag_seconds", "Age of the oldest record that was read and is not in the lake yet")
        self.stopped = gauge("partition_stopped", "1 where a partition cannot go on")

    def forget(self, topic: str, partition: int) -> None:
        """Drop the gauges of a partition that is no longer ours."""
        for series in (self.lag, self.lag_seconds, self.stopped):
            series.remove_by_labels({"topic": topic, "partition": str(partition)})

    def serve(self, host: str, port: int) -> None:
        """Answer on http://host:port/metrics; raises PermanentError where the port is taken."""
        serve(self.registry, host, port, "ENGAGEMENT_METRICS_PORT")


def serve(registry: CollectorRegistry, host: str, port: int, setting: str) -> None:
    """Answer on http://host:port/metrics; raises PermanentError, naming the setting, where the port is taken."""
    try:
        start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise PermanentError(f"metrics port {host}:{port}: {error.strerror}; choose another with {setting}") from error
