"""The Streamlit script: draws what `data.snapshot` says, again every few seconds. Started by the supervisor.

Streamlit runs this file from its top at every visit; the fragment below then runs alone, so that the page
neither flickers nor scrolls. Nothing is loaded from outside: it works without a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from html import escape
from typing import Any, Literal

import altair as alt
import pandas as pd
import streamlit as st

from engagement import settings as settings_module
from engagement.dashboard import data, freshness, pages, slas
from engagement.dashboard.data import Numbers, Snapshot
from engagement.dashboard.freshness import Status
from engagement.errors import EngagementError
from engagement.lake import connect
from engagement.model import units
from engagement.settings import Settings
from engagement.tables.objects import Footers

REFRESH_SECONDS = 5
CHART_HEIGHT = 200

# Dimension -> its label, and what its ALL is called. (A text here would be drawn: Streamlit's magic.)
FILTERS = {"device_type": ("Device", "All devices"), "app_version": ("Version", "All versions"), "country": ("Country", "All countries")}

# On white and on the dark theme that a browser may ask for: text of the charts, and each state's colour.
INK = {"light": "#1f2a37", "dark": "#e6eaf0"}
COLOURS = {
    "light": {"live": "#1a7f4b", "catching_up": "#3b6fd4", "stale": "#b45309", "empty": "#52606d", "error": "#b42318"},
    "dark": {"live": "#4cc38a", "catching_up": "#86a8f0", "stale": "#f0a64b", "empty": "#a9b4c0", "error": "#f07f77"},
}
MUTED, CALM, GRID, PALE = "#7b8794", "#4a7de0", "rgba(128, 140, 155, 0.25)", 0.4

TOOLTIP = [{"field": "when", "type": "nominal", "title": "Hour"}, {"field": "words", "type": "nominal", "title": "Value"}]
NOTHING = "\N{EN DASH}"

# The charts below the first row: number, title, how the axis writes it, its smallest step.
LINES = (
    ("click_through", "Notification click-through", ".0%", 0.01),
    ("median_session_seconds", "Median session, minutes", ".1f", 0.1),
    ("bounce_rate", "Bounce rate", ".0%", 0.01),
)

STYLE = """<style>
[data-stale="true"] { opacity: 1 !important; transition: none !important; }
[data-testid="stToolbar"], [data-testid="stDecoration"], [data-testid="stStatusWidget"], footer { display: none !important; }
[data-testid="stHeader"] { background: transparent; height: 2.25rem; }
.stMainBlockContainer { padding: 2rem 2rem; max-width: 1500px; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; font-size: 1.75rem; line-height: 1.25; }
[data-testid="stMetricLabel"] p { opacity: .8; font-size: .84rem; }
[data-testid="stHorizontalBlock"]:has([data-testid="stMetric"]) { flex-wrap: wrap; gap: .65rem; }
[data-testid="stHorizontalBlock"]:has([data-testid="stMetric"]) > [data-testid="stColumn"] { flex: 1 1 8.5rem; min-width: 8.5rem; }
[data-testid="stMetricDelta"] { font-size: .78rem; }
.head { display: flex; flex-wrap: wrap; align-items: center; justify-content: space-between; gap: .75rem 1.5rem; }
.head h1 { font-size: 1.55rem; font-weight: 650; padding: 0; margin: 0; letter-spacing: -.01em; }
.head small { opacity: .75; font-size: .85rem; font-weight: 400; }
.state { display: inline-flex; align-items: center; gap: .55rem; border: 1px solid; border-radius: 99px; padding: .3rem .95rem;
  font-size: .98rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.state i { width: .6rem; height: .6rem; border-radius: 50%; background: currentColor; }
.trouble { border-left: 4px solid; border-radius: 4px; background: rgba(128, 140, 155, .1); padding: .8rem 1.1rem; }
.trouble b { display: block; font-size: 1.02rem; margin-bottom: .3rem; overflow-wrap: anywhere; }
.trouble ul { margin: 0; padding-left: 1.2rem; } .trouble li { margin: .15rem 0; font-size: .93rem; }
.trouble code { color: inherit; background: rgba(128, 140, 155, .18); font-size: .88em; padding: .08rem .3rem; border-radius: 3px; }
.part { font-size: 1rem; font-weight: 650; margin: .3rem 0 0; }
.part span { opacity: .75; font-weight: 400; font-size: .85rem; margin-left: .5rem; }
</style>"""


def count(value: float | None) -> str:
    """A whole number with thousands, or a dash."""
    return NOTHING if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """A ratio as per cent, or a dash."""
    return NOTHING if value is None else f"{value * 100:.1f} %"


def length(value: float | None) -> str:
    """Seconds as minutes and seconds, or a dash."""
    if value is None:
        return NOTHING
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes}m {seconds:02d}s" if minutes else f"{seconds} s"


# Number -> label, how it is written, what it means.
TILES: dict[str, tuple[str, Callable[[float | None], str], str]] = {
    "active_users": ("Active users", count, "Distinct users with at least one event"),
    "sessions": ("Sessions", count, "Sessions that started in the period"),
    "installs": ("Installs", count, "Install events"),
    "click_through": ("Click-through", share, "Notifications clicked ÷ notifications viewed"),
    "median_session_seconds": ("Median session", length, "Of the sessions that started in the period, whole"),
    "bounce_rate": ("Bounce rate", share, "Sessions of at most 10 s with fewer than two screens ÷ all sessions"),
}


def main() -> None:
    """Draw the page that is asked for."""
    st.set_page_config(page_title="App engagement", page_icon="📱", layout="wide", initial_sidebar_state=240)
    st.html(STYLE)
    try:
        settings = settings_module.load()
    except EngagementError as error:
        _head(freshness.failed(error), datetime.now(UTC))
        _trouble(freshness.failed(error))
        return
    st.navigation(
        [
            st.Page(partial(_engagement, settings), title="Engagement", url_path="engagement", default=True),
            st.Page(partial(slas.page, settings), title="Freshness", url_path="freshness"),
            st.Page(partial(pages.quality, settings), title="Quality", url_path="quality"),
            st.Page(partial(pages.profile, settings), title="Profile", url_path="profile"),
        ]
    ).run()


def _engagement(settings: Settings) -> None:
    """Draw the numbers once and leave the fragment running."""
    shown = data.choices(settings, datetime.now(UTC))
    with st.sidebar:
        chosen = _filters(shown)
    st.fragment(_live, run_every=REFRESH_SECONDS)(settings, chosen, shown)


def _filters(shown: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    st.html('<div class="part">Filters</div>')
    chosen: dict[str, str] = {}
    for name, (label, everything) in FILTERS.items():
        options, kept = list(shown[name]), st.session_state.get(name)
        if kept is not None and kept not in options:  # a value that has left the last two days stays chosen
            options.append(kept)
        chosen[name] = st.selectbox(label, options, key=name, format_func=partial(_named, everything=everything, name=name))
    st.caption("Numbers of each filter are counted for themselves: users of two devices are one user of all devices. All times are UTC.")
    return chosen


def _named(value: str, name: str, everything: str) -> str:
    return everything if value == data.ALL[name] else value


def _live(settings: Settings, chosen: Mapping[str, str], shown: Mapping[str, tuple[str, ...]]) -> None:
    """One look at the lake, drawn; runs again by itself."""
    seen = data.snapshot(
        settings,
        chosen["device_type"],
        chosen["app_version"],
        chosen["country"],
        datetime.now(UTC),
        consumer=freshness.probe(settings),
        footers=_footers(settings.lake_url, settings),
    )
    if any(set(seen.choices[name]) - set(shown[name]) for name in FILTERS):
        st.rerun()  # a new device, version or country: the filters above must offer it
    _head(seen.status, seen.taken_at)
    if seen.status.kind in ("stale", "empty", "error"):
        _trouble(seen.status)
    pages.mark(settings)
    drawn = _last_good(seen, chosen)
    if drawn.series is not None:
        _numbers(drawn)
        _charts(drawn.series, drawn.hour)


def _last_good(seen: Snapshot, chosen: Mapping[str, str]) -> Snapshot:
    """What is drawn: this look, or where the lake cannot be read the last good one under the same filters, with its time."""
    key = (*chosen.values(), seen.hour)
    if seen.status.kind == "error":
        kept: tuple[object, ...]
        last: Snapshot
        kept, last = st.session_state.get("last good", ((), seen))
        if kept != key or last.series is None:
            return seen
        st.caption(f"The numbers below were read at {last.taken_at:%H:%M:%S} UTC.")
        return last
    st.session_state["last good"] = (key, seen)
    return seen


@st.cache_resource(max_entries=2)
def _footers(lake_url: str, _settings: Settings) -> Footers:  # noqa: ARG001 - the cache's key; it cannot hash settings
    """Footers already read, by object and version; only saves reading them again."""
    return Footers(connect(_settings))


def _head(status: Status, now: datetime) -> None:
    st.html(f"""<div class="head"><h1>App engagement <small>{now:%A, %d %B %Y · %H:%M:%S} UTC</small></h1>
        <div class="state" data-testid="freshness" data-state="{status.kind}" style="color: {_colour(status)}"><i></i>
        <span>{escape(status.headline)}</span></div></div>""")


def _trouble(status: Status) -> None:
    remedies = "".join(f"<li>{_code(escape(remedy))}</li>" for remedy in status.remedies)
    st.html(f"""<div class="trouble" data-testid="trouble" style="border-color: {_colour(status)}">
        <b>{_code(escape(status.problem))}</b><ul>{remedies}</ul></div>""")


def _theme() -> Literal["light", "dark"]:
    return "dark" if st.context.theme.type == "dark" else "light"


def _colour(status: Status) -> str:
    return COLOURS[_theme()]["live" if status.kind == "complete" else status.kind]


def _code(text: str) -> str:
    """Backticks as code."""
    parts = text.split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _numbers(seen: Snapshot) -> None:
    hour, before = seen.hour, seen.hour - units.HOUR
    _part("This hour", f"{hour:%H:%M} to {hour + units.HOUR:%H:%M} UTC, so far; change against the whole hour from {before:%H:%M}")
    _tiles("hour", seen.this_hour, seen.previous_hour)
    _part("Today", f"{hour:%d %B} since 00:00 UTC")
    _tiles("today", seen.today, None)


def _part(title: str, words: str) -> None:
    st.html(f'<div class="part">{title}<span>{words}</span></div>')


def _tiles(period: str, numbers: Numbers, before: Numbers | None) -> None:
    for column, (name, (label, written, meaning)) in zip(st.columns(len(TILES), gap="small"), TILES.items(), strict=True):
        with column, st.container(key=f"{period}-{name}"):
            delta, good = _change(name, numbers, before)
            st.metric(label, written(getattr(numbers, name)), delta, good, help=meaning, border=True)


def _change(name: str, numbers: Numbers, before: Numbers | None) -> tuple[str | None, Literal["normal", "inverse", "off"]]:
    """The change against the hour before, and which way is good. Grey for counts: a running hour is no worse than a whole one."""
    now, then = getattr(numbers, name), before and getattr(before, name)
    if before is None or now is None or then is None:
        return None, "off"
    if name == "click_through":
        return f"{(now - then) * 100:+.1f} pts", "normal"
    if name == "bounce_rate":
        return f"{(now - then) * 100:+.1f} pts", "inverse"
    if name == "median_session_seconds":
        return f"{'-' if now < then else '+'}{length(abs(now - then))}", "off"
    return f"{now - then:+,}", "off"


def _charts(series: pd.DataFrame, hour: datetime) -> None:
    _part("Last 24 hours", "by UTC hour; the running hour is pale")
    wide, narrow = st.columns([3, 2], gap="medium")
    with wide:
        _draw(_bars(_rows(series, "active_users"), _axes(hour, ",.0f", 1)), "active_users", "Active users")
    with narrow:
        _draw(_lines(_rows(series, "sessions"), _axes(hour, ",.0f", 1)), "sessions", "Sessions")
    for column, (name, title, form, step) in zip(st.columns(3, gap="medium"), LINES, strict=True):
        with column:
            _draw(_lines(_rows(series, name), _axes(hour, form, step)), name, title)


def _rows(series: pd.DataFrame, name: str) -> alt.InlineData:
    """One chart's rows: an hour each, the value drawn, the words of its tooltip. As JSON: a day is small."""
    _, written, _ = TILES[name]
    unit = 60 if name == "median_session_seconds" else 1
    last = len(series) - 1
    return alt.InlineData(
        [
            {
                "hour": f"{start:%H:%M}",
                "value": None if pd.isna(value) else value / unit,
                "when": f"{start:%d %b %H:%M} UTC",
                "words": written(None if pd.isna(value) else value),
                "so_far": bool(so_far),
                "newest": number >= last - 1,
            }
            for number, (start, value, so_far) in enumerate(zip(series["start"], series[name], series["so_far"], strict=True))
        ]
    )


def _axes(hour: datetime, form: str, step: float) -> dict[str, Any]:
    """Both axes. Hours are words, not instants: no browser's time zone can move them, and all 24 always have their place."""
    hours = [hour - number * units.HOUR for number in reversed(range(data.SERIES_HOURS))]
    quiet: dict[str, Any] = {"title": None, "labelColor": MUTED, "labelFontSize": 12}
    return {
        "x": alt.X(
            "hour:O",
            scale=alt.Scale(type="band", domain=[f"{start:%H:%M}" for start in hours], paddingInner=0.22, paddingOuter=0.1),
            axis=alt.Axis(
                values=[f"{start:%H:%M}" for start in hours if start.hour % 3 == 0], labelAngle=0, tickColor=GRID, domainColor=GRID, **quiet
            ),
        ),
        "y": alt.Y(
            "value:Q",
            scale=alt.Scale(zero=True, nice=True),
            axis=alt.Axis(format=form, tickCount=4, tickMinStep=step, gridColor=GRID, domain=False, ticks=False, **quiet),
        ),
    }


def _bars(rows: alt.InlineData, axes: dict[str, Any]) -> Any:
    pale = alt.condition("datum.so_far", alt.value(PALE), alt.value(1))
    return alt.Chart(rows).mark_bar(color=CALM, cornerRadiusEnd=2).encode(**axes, opacity=pale, tooltip=TOOLTIP)


def _lines(rows: alt.InlineData, axes: dict[str, Any]) -> Any:
    """A line over the whole hours, pale and dashed to the running one; an hour without a value breaks it."""
    base = alt.Chart(rows).encode(**axes)
    whole = base.transform_filter("!datum.so_far").mark_line(color=CALM, strokeWidth=2)
    running = base.transform_filter("datum.newest").mark_line(color=CALM, opacity=PALE, strokeWidth=2, strokeDash=[4, 3])
    pale = alt.condition("datum.so_far", alt.value(PALE), alt.value(1))
    points = base.mark_circle(size=38, color=CALM).encode(opacity=pale, tooltip=TOOLTIP)
    return running + whole + points


def _draw(chart: Any, name: str, title: str) -> None:
    heading = alt.Title(title, anchor="start", fontSize=14, fontWeight=600, color=INK[_theme()], offset=10)
    sized = chart.properties(height=CHART_HEIGHT, title=heading).configure(font='"Source Sans", sans-serif').configure_view(stroke=None)
    st.altair_chart(sized, theme=None, key=f"chart-{name}")


if __name__ == "__main__":
    main()
