"""Logs for machines: one JSON object a line on stderr, with time, level, event and the process that speaks.

What is logged are names, offsets and counts. No value of an event may be: who logs adds ids of runs, partitions and offsets.
"""

from __future__ import annotations

import sys


def to_stderr(process: str) -> None:
    """Turn structlog's loggers to JSON lines on stderr, each with `process`."""
    import structlog

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(process=process)
