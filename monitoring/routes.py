"""Alertmanager's configuration: pages and tickets to one address each, and which alerts silence which."""

from __future__ import annotations

from typing import Any

from monitoring.alerts import ALERTS
from monitoring.rules import PACE, WATCHDOG, Pace


def alertmanager(page: str = "", ticket: str = "", heartbeat: str = "", pace: Pace = PACE) -> dict[str, Any]:
    """The configuration as a value. The arguments are the webhooks that pages, tickets and the dead man's switch are sent to."""
    return {
        "route": {
            "receiver": "nobody",
            "group_by": ["alertname"],
            "group_wait": f"{pace.group}s",
            "group_interval": f"{pace.interval}s",
            "repeat_interval": "4h",
            "routes": [
                {"receiver": "heartbeat", "matchers": [f'alertname="{WATCHDOG}"'], "repeat_interval": "1m", "group_interval": "1m"},
                {"receiver": "page", "matchers": ['severity="page"']},
                {"receiver": "ticket", "matchers": ['severity="ticket"'], "group_wait": f"{pace.interval}s", "repeat_interval": "24h"},
            ],
        },
        "receivers": [
            {"name": "nobody"},
            _receiver("page", page),
            _receiver("ticket", ticket),
            _receiver("heartbeat", heartbeat),
        ],
        "inhibit_rules": [
            {"source_matchers": [f'alertname="{alert.name}"'], "target_matchers": [f'alertname=~"{"|".join(alert.silences)}"']}
            for alert in ALERTS
            if alert.silences
        ],
    }


def _receiver(name: str, url: str) -> dict[str, Any]:
    return {"name": name, **({"webhook_configs": [{"url": url, "send_resolved": name != "heartbeat"}]} if url else {})}
