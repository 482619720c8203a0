"""Writes the configuration of Prometheus, Alertmanager and Grafana for the settings that run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engagement.settings import Settings
from monitoring import dashboards, routes, rules

HEADER = "# Written by `engagement monitoring`; docs/monitoring.md says what it means.\n"


def write(
    settings: Settings, folder: Path, *, page: str = "", ticket: str = "", heartbeat: str = "", runbooks: str = rules.RUNBOOKS,
    prometheus: str = "http://127.0.0.1:9090", alertmanager: str = "127.0.0.1:9093", pace: rules.Pace = rules.PACE,
) -> list[Path]:  # fmt: skip
    """Write all files below the folder and return their paths. The webhooks are where pages, tickets and heartbeats go."""
    values: dict[str, Any] = {
        "prometheus.yml": rules.prometheus(settings, alertmanager, pace),
        "rules.yml": rules.rules(runbooks, pace),
        "alertmanager.yml": routes.alertmanager(page, ticket, heartbeat, pace),
        **{f"grafana/provisioning/{name}": value for name, value in dashboards.provisioning(prometheus).items()},
    }
    texts = {name: HEADER + _yaml(value) for name, value in values.items()}
    texts |= {f"grafana/dashboards/{name}.json": dashboards.made(name) for name in dashboards.DASHBOARDS}
    paths = []
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    return paths


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, sort_keys=False, width=1000, allow_unicode=True)
    return text
