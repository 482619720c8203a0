"""Alerts and series as the guide shows them: docs/monitoring.md holds this text between its marks, a test keeps it in step."""

from __future__ import annotations

from engagement.exporter.series import SERIES
from engagement.freshness import sla
from engagement.ingest.metrics import Metrics
from monitoring.alerts import ALERTS, Alert

PARTS = ("slas", "runbooks", "series")


def with_markdown(page: str) -> str:
    """The page with the present text between its marks."""
    for name, text in zip(PARTS, (_slas(), _runbooks(), _series()), strict=True):
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = page.partition(begin)
        page = f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}"
    return page


def consumer_series() -> dict[str, str]:
    """Series of the consumer by the name that Prometheus stores -> meaning."""
    found = {}
    for family in Metrics().registry.collect():
        suffix = {"counter": "_total", "histogram": "_bucket"}.get(family.type, "")
        found[family.name + suffix] = family.documentation
    return {"engagement_heartbeat_seconds": "Unix time of the last turn of the loop; missing while it hangs", **found}


def _slas() -> str:
    lines = ["| layer | assets | data older than: warn, fail | made longer ago than: warn, fail |", "|---|---|---|---|"]
    for layer, bounds in sla.LAYERS.items():
        assets = ", ".join(f"`{asset}`" for asset, found in sla.ASSETS.items() if found == layer)
        data = "none of its own" if bounds.warn is None else f"{_span(bounds.warn)}, {_span(bounds.fail)}"
        lines.append(f"| {layer} | {assets} | {data} | {_span(bounds.made_warn)}, {_span(bounds.made_fail)} |")
    return "\n".join(lines) + "\n"


def _span(span: object) -> str:
    seconds = int(span.total_seconds())  # type: ignore[attr-defined]
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def _runbooks() -> str:
    return "\n".join(_runbook(alert) for alert in ALERTS)


def _runbook(alert: Alert) -> str:
    causes = "\n".join(f"- {cause}" for cause in alert.causes)
    commands = "\n".join(alert.first)
    silences = f" Silences: {', '.join(alert.silences)}." if alert.silences else ""
    waits = "" if alert.wait == "0s" else f" for {alert.wait}"
    return f"""### {alert.name}

*{alert.severity}*: {_plain(alert.summary)}. **{alert.impact}**

{alert.meaning} Ideal: {alert.ideal}.{silences}

```sh
{commands}
```

Likely causes:

{causes}

Fires when this holds{waits}:

```promql
{alert.expr}
```
"""


def _plain(text: str) -> str:
    """A summary without Prometheus's templates."""
    for name in ("{{ $value | humanizePercentage }}", "{{ $value | humanizeDuration }}", "{{ $value }}"):
        text = text.replace(name, "N")
    return text.replace("{{ $labels.", "<").replace(" }}", ">")


def _series() -> str:
    lines = ["| series of the exporter | labels | meaning |", "|---|---|---|"]
    lines += [f"| `{found.name}` | {', '.join(found.labels)} | {found.meaning} |" for found in SERIES.values()]
    lines += ["", "| series of the consumer | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in sorted(consumer_series().items())]
    return "\n".join(lines) + "\n"
