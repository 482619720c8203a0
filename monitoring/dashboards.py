"""Two Grafana dashboards, made with Grafana's own SDK: one for who is on call, one for data engineers.

The first answers in this order: are numbers stale, is data lost, what runs, what fills up. The second tells why.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engagement.freshness.sla import State
from monitoring.rules import runbook

DATASOURCE = "engagement-prometheus"
STATES = {State.OK: ("ok", "green"), State.UNKNOWN: ("unknown", "grey"), State.WARN: ("warn", "orange"), State.FAIL: ("fail", "red")}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: title, PromQL expressions with their legends, unit, width of 24."""

    title: str
    queries: Sequence[tuple[str, str]]
    unit: str = "short"
    width: int = 12
    kind: str = "lines"
    """`lines`, `stat`, or `states` for sla_state."""
    about: str = ""
    bounds: Sequence[tuple[float, str]] = field(default_factory=tuple)
    """Values from which a colour holds."""


BREACH = (
    "clamp((scalar(max(engagement_sla_seconds{asset='raw_events', level='fail'})) - max(engagement_behind_seconds))"
    " / clamp_min(max(deriv(engagement_behind_seconds[5m])), 0.01), 0, 86400)"
)
SHARE = "sum by (topic) (rate(engagement_rejects_total[5m])) / sum by (topic) (rate(engagement_flush_rows_sum[5m]))"
ON_CALL: Sequence[Panel] = (
    Panel("SLA by asset", [("max by (asset) (engagement_sla_state{lane='live'})", "{{asset}}")], kind="states", width=24,
          about="On data time: how old the oldest record is that the asset lacks. Backfills do not change it."),
    Panel("Alerts that fire", [('ALERTS{alertstate="firing", alertname!="Watchdog"}', "{{alertname}}")], kind="lines", width=24),
    Panel("Age of data", [("engagement_data_age_seconds{lane='live'}", "{{asset}}")], unit="s"),
    Panel("Bound of hourly_engagement",
          [("max(engagement_data_age_seconds{asset='hourly_engagement', lane='live'})", "age"),
           ("max(engagement_sla_seconds{asset='hourly_engagement', lane='live', level='fail'})", "SLA")], unit="s"),
    Panel("Records the lake lacks", [("sum by (topic) (engagement_behind_records)", "{{topic}}")], width=8),
    Panel("Time to breach of the SLA at this pace",
          [(BREACH, "time left")], unit="s", width=8),
    Panel("Records lost, ever", [("max(engagement_gap_records)", "gaps"), ("sum(engagement_lake_ahead_records)", "of the broker")],
          kind="stat", width=8, bounds=[(0, "green"), (1, "red")]),
    Panel("Units held by gates", [("sum(engagement_held_units)", "held")], kind="stat", width=6, bounds=[(0, "green"), (1, "red")]),
    Panel("Units under suspicion", [("sum(engagement_suspect_units)", "suspect")], kind="stat", width=6,
          bounds=[(0, "green"), (1, "orange")]),
    Panel("Free disk", [("engagement_disk_free_bytes / engagement_disk_size_bytes", "{{path}}")], unit="percentunit", kind="stat",
          width=6, bounds=[(0, "red"), (0.1, "orange"), (0.25, "green")]),
    Panel("Daemon's oldest heartbeat", [("time() - min(engagement_daemon_heartbeat_timestamp_seconds)", "age")], unit="s", kind="stat",
          width=6, bounds=[(0, "green"), (60, "orange"), (75, "red")]),
    Panel("Runs that failed in a row", [("engagement_failed_runs_in_a_row", "{{lane}}")], width=8),
    Panel("Runs under way", [("engagement_runs", "{{lane}} {{status}}")], width=8),
    Panel("Backfills", [("engagement_backfills", "{{status}}"), ("engagement_backfill_still_seconds / 60", "minutes without progress")],
          width=8),
)  # fmt: skip
ENGINEER: Sequence[Panel] = (
    Panel("Records a second", [("sum by (topic) (rate(engagement_records_total[2m]))", "{{topic}}")], unit="reqps"),
    Panel("Rejects a second by reason", [("sum by (reason) (rate(engagement_rejects_total[5m]))", "{{reason}}")], unit="reqps"),
    Panel("Share of rejects", [(SHARE, "{{topic}}")], unit="percentunit"),
    Panel("Late, or out of place, a second", [("sum by (what) (rate(engagement_noticed_total[5m]))", "{{what}}")], unit="reqps"),
    Panel("Oldest unread record by partition", [("engagement_behind_seconds", "{{topic}} {{partition}}")], unit="s"),
    Panel("Bytes the consumer holds", [("sum(engagement_buffered_bytes)", "buffered")], unit="bytes"),
    Panel("Publishing a raw object",
          [("histogram_quantile(0.5, sum by (le) (rate(engagement_flush_duration_seconds_bucket[5m])))", "median"),
           ("histogram_quantile(0.95, sum by (le) (rate(engagement_flush_duration_seconds_bucket[5m])))", "95 %")], unit="s"),
    Panel("Raw objects by what closed them, a second", [("sum by (why) (rate(engagement_commits_total[5m]))", "{{why}}")]),
    Panel("Fences and dropped buffers", [("sum by (why) (increase(engagement_fences_total[15m]))", "fence {{why}}"),
                                         ("sum by (why) (increase(engagement_buffers_dropped_total[15m]))", "dropped {{why}}")]),
    Panel("Hours and days that wait", [("engagement_waiting_units", "{{kind}} {{lane}}")]),
    Panel("Rows that wait", [("engagement_waiting_rows", "{{lane}}")]),
    Panel("Age of stragglers", [("engagement_data_age_seconds{lane='late'}", "{{asset}}")], unit="s"),
    Panel("Newest event, newest record", [("time() - engagement_newest_event_timestamp_seconds", "event time"),
                                          ("time() - engagement_newest_record_timestamp_seconds", "log-append time")], unit="s"),
    Panel("Last run", [("engagement_last_run_seconds", "{{lane}}")], unit="s"),
    Panel("Runs of the last hour", [("engagement_recent_runs", "{{lane}} {{status}}")]),
    Panel("Last tick", [("time() - engagement_tick_timestamp_seconds", "{{name}}")], unit="s"),
    Panel("Last materialization", [("time() - engagement_materialized_timestamp_seconds", "{{asset}}")], unit="s"),
    Panel("Bytes by layer", [("engagement_layer_bytes", "{{layer}}")], unit="bytes"),
    Panel("Objects by layer", [("engagement_layer_objects", "{{layer}}")]),
    Panel("Small objects", [("engagement_layer_small_objects", "{{layer}}")]),
    Panel("Checks by result", [("sum by (status) (engagement_checks)", "{{status}}")]),
    Panel("Rows by topic", [("engagement_raw_rows", "{{topic}}")]),
    Panel("Rejects in the lake", [("sum by (reason) (engagement_raw_rejects)", "{{reason}}")]),
    Panel("Copies dropped, two days", [("engagement_recent_duplicates", "copies")]),
    Panel("Units made by other code or model", [("engagement_outdated_units", "{{what}}")]),
    Panel("Exporter's looks", [("engagement_exporter_look_seconds", "{{source}}")], unit="s"),
)  # fmt: skip
DASHBOARDS = {"on-call": ("Engagement: on call", ON_CALL), "engineer": ("Engagement: pipeline", ENGINEER)}


def made(name: str) -> str:
    """One dashboard as Grafana's JSON."""
    from grafana_foundation_sdk.builders.dashboard import Dashboard
    from grafana_foundation_sdk.cog.encoder import JSONEncoder

    title, panels = DASHBOARDS[name]
    board = (
        Dashboard(title)
        .uid(f"engagement-{name}")
        .tags(["engagement"])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("utc")
        .description(f"What each alert means: {runbook('')[:-1]}")
    )
    for panel in panels:
        board = board.with_panel(_panel(panel))
    text: str = JSONEncoder(sort_keys=True, indent=2).encode(board.build())
    return text + "\n"


def expressions() -> list[str]:
    """Every PromQL expression of every dashboard."""
    return [expr for _, panels in DASHBOARDS.values() for panel in panels for expr, _ in panel.queries]


def provisioning(prometheus: str) -> dict[str, dict[str, Any]]:
    """Grafana's own files: the data source at this address, and the folder that the dashboards are read from."""
    source = {"name": DATASOURCE, "uid": DATASOURCE, "type": "prometheus", "access": "proxy", "url": prometheus, "isDefault": True}
    boards = {"name": "engagement", "type": "file", "options": {"path": "/var/lib/grafana/dashboards"}}
    return {
        "datasources/engagement.yml": {"apiVersion": 1, "datasources": [source]},
        "dashboards/engagement.yml": {"apiVersion": 1, "providers": [boards]},
    }


def _panel(panel: Panel) -> Any:
    from grafana_foundation_sdk.builders import common, prometheus, stat, statetimeline, timeseries
    from grafana_foundation_sdk.models.common import BigValueColorMode, VisibilityMode
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

    kinds: dict[str, Any] = {"lines": timeseries.Panel, "stat": stat.Panel, "states": statetimeline.Panel}
    made: Any = kinds[panel.kind]().title(panel.title).span(panel.width).height(8 if panel.kind == "lines" else 6).unit(panel.unit)
    made = made.description(panel.about).datasource(DataSourceRef(type_val="prometheus", uid=DATASOURCE))
    for expr, legend in panel.queries:
        made = made.with_target(prometheus.Dataquery().expr(expr).legend_format(legend))
    if panel.kind == "states":
        made = made.mappings([_states()])
    if panel.bounds:
        made = made.color_mode(BigValueColorMode.VALUE).thresholds(_thresholds(panel.bounds))
    if panel.kind == "stat":
        made = made.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    if panel.kind == "lines":
        made = made.legend(common.VizLegendOptions().show_legend(True)).fill_opacity(5).show_points(VisibilityMode.NEVER)
    return made


def _thresholds(bounds: Sequence[tuple[float, str]]) -> Any:
    from grafana_foundation_sdk.builders import dashboard
    from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode

    steps = [Threshold(value=None if place == 0 else value, color=colour) for place, (value, colour) in enumerate(bounds)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _states() -> Any:
    from grafana_foundation_sdk.models.dashboard import ValueMap, ValueMappingResult

    options = {str(int(state)): ValueMappingResult(text=text, color=colour, index=int(state)) for state, (text, colour) in STATES.items()}
    return ValueMap(options=options)


def parsed(name: str) -> dict[str, Any]:
    """The dashboard as a value, for tests."""
    found: dict[str, Any] = json.loads(made(name))
    return found
