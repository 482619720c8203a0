"""The pages about trust: what was checked and found, and what the columns look like. Drawn from `trust`; `app` names them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from engagement.dashboard import trust
from engagement.errors import EngagementError
from engagement.settings import Settings
from engagement.verdicts.records import Metric

COLOURS = {"error": "#d1495b", "broken": "#8e5ea2", "warning": "#e8a33d", "passed": "#5aa77b", "not judged": "rgba(128, 140, 155, 0.22)"}
MUTED, CALM = "#7b8794", "#4a7de0"
PROFILE_DAYS = 30
KEPT_SECONDS = 20


def quality(settings: Settings) -> None:
    """What is held, what is suspect, and the state of every hour."""
    st.html('<div class="head"><h1>Quality</h1></div>')
    seen = _look(settings)
    if seen is None:
        return
    _held(seen)
    _suspects(seen)
    if not seen.judged:
        st.info(
            "Nothing was judged yet. Suites run when an hour has settled, some minutes after its end; `engagement check` judges at once."
        )
        return
    standing = dict(seen.standing or {})
    _strip(trust.states(standing, datetime.now(UTC)))
    found = trust.failures(standing)
    st.html(
        '<div class="part">What failed, warned or could not be judged<span>of the last three days; newest judgement of each</span></div>'
    )
    if found.empty:
        st.caption("Nothing: every check that had rows to look at passed.")
    else:
        st.dataframe(found, hide_index=True, key="failures", height=min(520, 38 + 35 * len(found)))
    _metric_trend(settings)


def profile(settings: Settings) -> None:
    """Each column of each table of a day, and its trend."""
    st.html('<div class="head"><h1>Profile <small>what the columns hold, day by day</small></h1></div>')
    found = _metrics(settings)
    days = trust.profiled_days(found or [])
    if not days:
        st.info("No day was profiled yet. A day is profiled when it has settled, or by `engagement check --day DAY --record`.")
        return
    left, right = st.columns(2)
    assets = sorted({metric.asset for metric in found or [] if metric.suite == trust.PROFILE})
    asset = left.selectbox("Table", assets, index=assets.index("events") if "events" in assets else 0, key="profile-table")
    day = right.selectbox("Day", days, key="profile-day")
    table = trust.profile(found or [], asset, day)
    sizes = trust.trend(found or [], trust.PROFILE, asset, "*", "Size")
    rows = sizes[sizes["start"].dt.date == day]["value"] if not sizes.empty else sizes
    st.caption(
        f"{int(rows.iloc[0]):,} rows. Distinct counts are estimates. Of columns that may tell a person no value is kept."
        if len(rows)
        else ""
    )
    st.dataframe(_readable(table), hide_index=True, key="profile", height=min(700, 38 + 35 * len(table)), column_config=_columns())
    column = st.selectbox("Trend of", list(table["column"]), key="profile-column")
    for place, (name, title, form) in zip(
        st.columns(3),
        (
            ("Completeness", "Completeness", ".1%"),
            ("ApproxCountDistinct", "Distinct values", ",.0f"),
            ("Size", "Rows of the table", ",.0f"),
        ),
        strict=True,
    ):
        with place:
            _line(trust.trend(found or [], trust.PROFILE, asset, "*" if name == "Size" else column, name), title, form)


def mark(settings: Settings) -> None:
    """One calm line on the first page where something is held or suspect; nothing otherwise, and nothing where it cannot be read."""
    try:
        seen = _cached(settings.lake_url, settings)
    except (EngagementError, OSError):
        return
    text = trust.sentence(seen)
    if text:
        st.html(f'<div class="trouble" data-testid="trust" style="border-color: {COLOURS["warning"]}"><b>{_safe(text)}</b></div>')


def _look(settings: Settings) -> trust.Trust | None:
    try:
        return _cached(settings.lake_url, settings)
    except (EngagementError, OSError) as error:
        st.warning(f"Results cannot be read: {error}")
        return None


@st.cache_data(ttl=KEPT_SECONDS, max_entries=2, show_spinner=False)
def _cached(lake_url: str, _settings: Settings) -> trust.Trust:  # noqa: ARG001 - the cache's key
    return trust.look(_settings, datetime.now(UTC))


def _metrics(settings: Settings) -> list[Metric] | None:
    try:
        return _cached_metrics(settings.lake_url, settings)
    except (EngagementError, OSError) as error:
        st.warning(f"Metrics cannot be read: {error}")
        return None


@st.cache_data(ttl=60, max_entries=2, show_spinner=False)
def _cached_metrics(lake_url: str, _settings: Settings) -> list[Metric]:  # noqa: ARG001 - the cache's key
    return trust.metrics(_settings, datetime.now(UTC), PROFILE_DAYS)


def _held(seen: trust.Trust) -> None:
    if not seen.held:
        return
    st.html('<div class="part">Held by a gate<span>the page shows their last good rows</span></div>')
    rows = [
        {
            "unit": item.unit,
            "failed": ", ".join(f"{name} ({count:,})" for name, count in item.failed.items()),
            "since": item.since,
            "judged": item.times,
        }
        for item in seen.held
    ]
    st.dataframe(pd.DataFrame(rows), hide_index=True, key="held")
    st.caption("They are judged again at each refresh and heal by themselves; `engagement check --release UNIT` publishes one as it is.")


def _suspects(seen: trust.Trust) -> None:
    if not seen.suspects:
        return
    st.html('<div class="part">Under suspicion<span>published, and a check says that they may be wrong</span></div>')
    for suspect in seen.suspects[:10]:
        first = suspect.results[0]
        with st.expander(f"{suspect.unit}: {first.check}, {first.message}"):
            for result in suspect.results:
                since = f"since {suspect.since:%Y-%m-%d %H:%M} UTC"
                st.markdown(f"**{result.check}** {since}: {result.message} (wanted {result.threshold}). {result.hint}.")
                if result.query:
                    st.code(result.query, language="sql", wrap_lines=True)


def _strip(states: pd.DataFrame) -> None:
    st.html(f'<div class="part">Hours<span>the last {trust.SHOWN_HOURS}, worst result of each table</span></div>')
    rows = [
        {
            "asset": row["asset"], "hour": f"{row['hour']:%d %H:%M}", "state": row["state"],
            "words": f"{row['checks']} checks; wrong: {row['wrong']}",
        }
        for row in states.to_dict("records")
    ]  # fmt: skip
    hours = list(dict.fromkeys(row["hour"] for row in rows))
    quiet: dict[str, Any] = {"title": None, "labelColor": MUTED, "ticks": False, "domain": False}
    chart = (
        alt.Chart(alt.InlineData(rows))
        .mark_rect(cornerRadius=2, stroke="transparent")
        .encode(
            x=alt.X("hour:O", sort=hours, axis=alt.Axis(values=hours[::6], labelAngle=0, **quiet)),
            y=alt.Y("asset:N", sort=list(trust.HOURLY), axis=alt.Axis(labelLimit=160, **quiet)),
            color=alt.Color(
                "state:N", scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
                legend=alt.Legend(orient="top", title=None, labelColor=MUTED),
            ),
            tooltip=[
                {"field": "asset", "type": "nominal", "title": "Table"}, {"field": "hour", "type": "nominal", "title": "Hour, UTC"},
                {"field": "state", "type": "nominal", "title": "State"}, {"field": "words", "type": "nominal", "title": "Checks"},
            ],
        )
        .properties(height=26 * len(trust.HOURLY) + 40)
        .configure(font='"Source Sans", sans-serif')
        .configure_view(stroke=None)
    )  # fmt: skip
    st.altair_chart(chart, theme=None, key="strip")


def _metric_trend(settings: Settings) -> None:
    found = [metric for metric in _metrics(settings) or [] if metric.engine == "deequ" and metric.period.kind == "hour"]
    if not found:
        return
    st.html('<div class="part">A number over time<span>what Deequ measured, hour by hour</span></div>')
    names = sorted({(metric.asset, metric.suite, metric.name, metric.instance) for metric in found})
    shown = {f"{suite}: {name} of {instance}": (suite, asset, instance, name) for asset, suite, name, instance in names}
    chosen = st.selectbox("Number", list(shown), key="metric")
    _line(trust.trend(found, *shown[chosen]), chosen, ",.4~g")


def _line(values: pd.DataFrame, title: str, form: str) -> None:
    if values.empty:
        st.caption(f"{title}: nothing measured")
        return
    rows = alt.InlineData([{"when": f"{row['start']:%Y-%m-%d %H:%M}", "value": row["value"]} for row in values.to_dict("records")])
    axis: dict[str, Any] = {"title": None, "labelColor": MUTED, "domain": False, "ticks": False}
    chart = (
        alt.Chart(rows)
        .mark_line(color=CALM, point={"size": 34, "color": CALM})
        .encode(
            x=alt.X("when:O", axis=alt.Axis(labelAngle=0, labelOverlap="greedy", **axis)),
            y=alt.Y("value:Q", axis=alt.Axis(format=form, tickCount=4, gridColor="rgba(128, 140, 155, 0.25)", **axis)),
            tooltip=[{"field": "when", "type": "nominal", "title": "From"}, {"field": "value", "type": "quantitative", "title": "Value"}],
        )
        .properties(height=180, title=alt.Title(title, anchor="start", fontSize=14, color=MUTED))
        .configure(font='"Source Sans", sans-serif')
        .configure_view(stroke=None)
    )
    st.altair_chart(chart, theme=None, key=f"line-{title}")


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Values as people read them: top values with their counts where they are known, bounds as text."""
    found = table.copy()
    found["Top"] = [_top(value) for value in found["Top"]]
    for name in ("Minimum", "Maximum", "Mean"):
        found[name] = [_bound(value) for value in found[name]]
    return found


def _bound(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _top(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return ", ".join(f"{item} ({count:,})" if count is not None else str(item) for item, count in json.loads(value))


def _columns() -> Mapping[str, Any]:
    return {
        "Completeness": st.column_config.ProgressColumn(format="percent", min_value=0.0, max_value=1.0),
        "ApproxCountDistinct": st.column_config.NumberColumn("Distinct, about", format="localized"),
        "Top": st.column_config.TextColumn("Most frequent", width="large"),
    }


def _safe(text: str) -> str:
    from html import escape

    return escape(text)
