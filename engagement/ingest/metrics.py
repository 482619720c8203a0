"""What the consumer tells Prometheus, on one port of its own."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from engagement.errors import PermanentError


class Metrics:
    """All series of one consumer process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.records = Counter("engagement_records", "Records read from the log", ["topic"], registry=registry)
        self.rejects = Counter("engagement_rejects", "Records that are no event", ["topic", "reason"], registry=registry)
        self.noticed = Counter(
            "engagement_noticed", "Good rows that are late, on another topic or key", ["topic", "what"], registry=registry
        )
        self.flushes = Counter("engagement_flushes", "Raw objects written", ["topic", "why"], registry=registry)
        self.dropped = Counter("engagement_buffers_dropped", "Buffers given up and read again", ["why"], registry=registry)
        self.gaps = Counter("engagement_gap_offsets", "Offsets the log had lost before they were read", ["topic"], registry=registry)
        self.lag = Gauge(
            "engagement_lag_records", "Records in the log that are not in the lake yet", ["topic", "partition"], registry=registry
        )
        self.stopped = Gauge("engagement_partition_stopped", "1 where a partition cannot go on", ["topic", "partition"], registry=registry)
        self.heartbeat = Gauge("engagement_heartbeat_seconds", "Unix time of the last turn of the loop", registry=registry)

    def serve(self, host: str, port: int) -> None:
        """Answer on http://host:port/metrics; raises PermanentError where the port is taken."""
        try:
            start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            msg = f"metrics port {host}:{port}: {error.strerror}; choose another with ENGAGEMENT_METRICS_PORT"
            raise PermanentError(msg) from error
