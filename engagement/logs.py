"""Logs for machines: one JSON object a line on stderr, with time, level, event and the process that speaks.

What is logged are names, offsets and counts. No value of an event may be: who logs adds ids of runs, partitions and offsets.
"""

from __future__ import annotations

import sys
from typing import TextIO, cast


class Lossy:
    """A stream that drops what cannot be written: on a full disk, or without a reader, the work goes on without its log."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's, raising nothing."""
        try:
            return self._stream.write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        """As the stream's, raising nothing."""
        try:
            self._stream.flush()
        except OSError:
            return


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
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", Lossy(sys.stderr))),
    )
    structlog.contextvars.bind_contextvars(process=process)
