"""Commands for operators: `exporter` serves the metrics, `monitoring` writes what Prometheus, Alertmanager and Grafana read."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from engagement import settings as settings_module


def exporter(*, once: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Tell Prometheus how old every table's data is, what waits, runs, fails or fills up, until SIGTERM or Ctrl-C.

    Looks at lake, log and Dagster instance every 15 s, at the whole lake every 5 minutes; answers on ENGAGEMENT_EXPORTER_PORT.

    For example:

        engagement exporter
        engagement exporter --once | grep sla_state

    Parameters
    ----------
    once
        Look once, print the metrics and leave; exit 1 where a source could not be asked.
    """
    from engagement.exporter.server import Exporter
    from engagement.logs import to_stderr

    to_stderr("exporter")
    work = Exporter(settings_module.load())
    if once:
        answered = work.look()
        print(work.text(), end="")
        work.close()
        return 0 if answered else 1
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    work.serve()
    work.run(stop)
    return 0


def monitoring(
    folder: Path = Path("monitoring-config"),
    *,
    page: str = "",
    ticket: str = "",
    heartbeat: str = "",
    runbooks: str = "docs/monitoring.md",
    prometheus: str = "http://127.0.0.1:9090",
    alertmanager: str = "127.0.0.1:9093",
) -> None:
    """Write the configuration of Prometheus, Alertmanager and Grafana for these settings into a folder.

    Ports, SLAs and retention come from the settings, so that alerts and dashboards agree with what runs.

    For example:

        engagement monitoring monitoring-config --page https://pager.example/hook
        promtool check config monitoring-config/prometheus.yml

    Parameters
    ----------
    folder
        Where to; what it wrote there before is replaced, other files are left alone.
    page
        Webhook that pages are sent to; without one they are only shown.
    ticket
        Webhook that tickets are sent to.
    heartbeat
        Webhook that is called every minute as long as Prometheus and Alertmanager live: a dead man's switch.
    runbooks
        Where docs/monitoring.md is served, for the links in alerts.
    prometheus
        Where Grafana finds Prometheus.
    alertmanager
        Where Prometheus finds Alertmanager, as host:port.
    """
    from monitoring import written

    settings = settings_module.load()
    for path in written.write(
        settings, folder, page=page, ticket=ticket, heartbeat=heartbeat, runbooks=runbooks, prometheus=prometheus, alertmanager=alertmanager
    ):
        print(path)
    if not page:
        print("no --page: alerts are shown and sent to nobody", file=sys.stderr)
