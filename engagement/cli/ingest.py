"""The command `ingest`: fills the raw log from Kafka."""

from __future__ import annotations

import gc
import signal
import threading
from typing import Annotated

from cyclopts import Parameter

from engagement import settings as settings_module
from engagement.lake import open_lake


def ingest(*, until_idle: Annotated[bool, Parameter(negative="")] = False) -> None:
    """Read the three topics and write raw Parquet, exactly once, until SIGTERM or Ctrl-C.

    Then it writes what it holds, commits and leaves. Logs are JSON lines on stderr; metrics answer on
    ENGAGEMENT_METRICS_PORT.

    For example:

        engagement ingest
        ENGAGEMENT_FLUSH_SECONDS=10 engagement ingest --until-idle

    Parameters
    ----------
    until_idle
        Leave when every partition has been read to its end.
    """
    from engagement.ingest.consumer import Ingest
    from engagement.logs import to_stderr

    to_stderr("ingest")
    settings = settings_module.load()
    lake, lake_format = open_lake(settings)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    gc.freeze()
    gc.set_threshold(100_000)  # batches of thousands of messages live for a moment and form no cycles
    work = Ingest(settings, lake, lake_format, stop=stop)
    if not until_idle:
        work.metrics.serve(settings.host, settings.metrics_port)
    work.run(until_idle=until_idle)
