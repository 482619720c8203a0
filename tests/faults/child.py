"""One ingest process under the harness: the real consumer over a faulty lake, told by lines on its stdin what to do.

Commands are JSON lines: `{"arm": point, "do": …, "seconds": …}` for the next time it comes to the point (with `"key"`:
of that object), `{"disarm": true}`, `{"go_on": true}` for one that holds. All it says are JSON lines on stderr: the
product's own log, and `reached`, `claimed`, `refused` from here. SIGTERM ends it as it ends the product's command;
SIGUSR1 makes it say where it is.

    python -m faults.child [overwrites] [until-idle]
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import structlog

from engagement import settings as settings_module
from engagement.ingest.consumer import Ingest
from engagement.lake import open_lake
from faults.faulty_lake import FaultyLake

ERRORS = {"error": errno.EIO, "full": errno.ENOSPC}
HOLD_SECONDS = 300.0

log = structlog.get_logger()


class Orders:
    """What the harness wants to happen at which point; each order is carried out once."""

    def __init__(self) -> None:
        self._armed: dict[str, dict[str, Any]] = {}
        self._go_on = threading.Event()

    def listen(self) -> None:
        """Take commands until the harness is gone; then there is nothing to live for."""
        for line in sys.stdin:
            command = json.loads(line)
            if "arm" in command:
                self._go_on.clear()
                self._armed[command["arm"]] = command
                log.info("armed", point=command["arm"])
            elif "disarm" in command:
                self._armed.clear()
                log.info("disarmed")
            else:
                self._go_on.set()
        os._exit(3)

    def reach(self, point: str, key: str) -> None:
        """The lake is at a point: do what was ordered for it."""
        order = self._armed.get(point)
        if order is None or order.get("key", key) != key:
            return
        del self._armed[point]
        log.info("reached", point=point, key=key, do=order["do"])
        if order["do"] in ERRORS:
            number = ERRORS[order["do"]]
            raise OSError(number, os.strerror(number))
        self._go_on.wait(HOLD_SECONDS if order["do"] == "hold" else order["seconds"])


def fail_footers(reach: Callable[[str, str], None]) -> None:
    """Footers are read by the Parquet library itself, past the lake."""
    real = pq.read_metadata

    def read_metadata(path: Path) -> Any:
        reach("footer", str(path))
        return real(path)

    pq.read_metadata = read_metadata


def main() -> None:
    structlog.configure(
        processors=[structlog.processors.add_log_level, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    settings = settings_module.load()
    lake, lake_format = open_lake(settings)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    faulthandler.register(signal.SIGUSR1)
    orders = Orders()
    threading.Thread(target=orders.listen, daemon=True).start()
    fail_footers(orders.reach)
    log.info("ready")
    faulty = FaultyLake(lake.root, orders.reach, log.info, overwrites="overwrites" in sys.argv)
    Ingest(settings, faulty, lake_format, stop=stop).run(until_idle="until-idle" in sys.argv)


if __name__ == "__main__":
    main()
