"""Prometheus's rules file and scrape configuration, and their runbooks' addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engagement.settings import Settings
from monitoring.alerts import ALERTS, CONSUMER, EXPORTER, Alert

RUNBOOKS = "docs/monitoring.md"
WATCHDOG = "Watchdog"
"""Fires always: who listens at the other end (a dead man's switch) learns of a dead Prometheus by its silence."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast Prometheus and Alertmanager turn, in seconds. Tests turn faster; `hold` replaces the alerts' own then."""

    scrape: int = 10
    evaluate: int = 10
    group: int = 10
    """What begins within so long after the first alert is silenced by its cause, or told with it."""
    interval: int = 60
    """A change of a group, as that it is over, is told this much later at most."""
    hold: str | None = None


PACE = Pace()


def rules(runbooks: str = RUNBOOKS, pace: Pace = PACE) -> dict[str, Any]:
    """The rules file as a value."""
    found = [_rule(alert, runbooks, pace.hold) for alert in ALERTS]
    watchdog = {
        "alert": WATCHDOG,
        "expr": "vector(1)",
        "labels": {"severity": "none"},
        "annotations": {"summary": "fires always: its absence is the alert"},
    }
    return {"groups": [{"name": "engagement", "interval": f"{pace.evaluate}s", "rules": [*found, watchdog]}]}


def prometheus(settings: Settings, alertmanager: str, pace: Pace = PACE) -> dict[str, Any]:
    """Prometheus's own configuration: our two jobs, our rules, one Alertmanager (`host:port`)."""
    return {
        "global": {"scrape_interval": f"{pace.scrape}s", "evaluation_interval": f"{pace.evaluate}s"},
        "rule_files": ["rules.yml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [f"{settings.host}:{port}"]}]}
            for job, port in ((CONSUMER, settings.metrics_port), (EXPORTER, settings.exporter_port))
        ],
    }


def runbook(name: str, runbooks: str = RUNBOOKS) -> str:
    """Where an alert's runbook is."""
    return f"{runbooks}#{name.lower()}"


def _rule(alert: Alert, runbooks: str, hold: str | None) -> dict[str, Any]:
    keep = hold if hold and alert.hold != "0s" else alert.hold
    return {
        "alert": alert.name,
        "expr": alert.expr,
        **({"for": alert.wait} if alert.wait != "0s" else {}),
        **({"keep_firing_for": keep} if keep != "0s" else {}),
        "labels": {"severity": alert.severity},
        "annotations": {
            "summary": alert.summary,
            "impact": alert.impact,
            "do": alert.first[0],
            "runbook_url": runbook(alert.name, runbooks),
        },
    }
