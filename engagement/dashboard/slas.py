"""The page of freshness: what each asset lacks, since when, and what its SLA says, on data time. `app` names it."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import streamlit as st

from engagement.dashboard.freshness import words
from engagement.errors import EngagementError, TransientError
from engagement.freshness import ages, sla
from engagement.freshness.ages import NO_LOG, Age, Log, Seen
from engagement.freshness.sla import State
from engagement.ingest import lag
from engagement.raw.names import is_import
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import recent

KEPT_SECONDS = 15
BROKER_SECONDS = 2.0
SHOWN = {State.OK: "✓ ok", State.UNKNOWN: "○ unknown", State.WARN: "▲ warn", State.FAIL: "✕ fail"}


def page(settings: Settings) -> None:
    """One row an asset, and one a lane of stragglers."""
    st.html('<div class="head"><h1>Freshness <small>what each table lacks</small></h1></div>')
    try:
        found = _cached(settings.lake_url, settings)
    except (EngagementError, OSError) as error:
        st.warning(f"The lake cannot be read: {error}")
        return
    st.dataframe(found, hide_index=True, key="slas", height=38 + 35 * len(found))
    st.caption(
        "An asset is as old as the oldest record of the log that it lacks; one that lacks none is fresh, however long ago the last "
        "event came, and a backfill makes nothing fresher. Dagster's own badge tells when an asset was last made. "
        "Unknown: the broker does not answer."
    )


def judged(settings: Settings, seen: Seen, now: datetime) -> list[Age]:
    """The age of every asset now; raises what the lake raises."""
    with open_tables(settings) as opened:
        waiting = recent.compute(opened, now)
        found = ages.lacking(opened, waiting, now, seen)
        ends = opened.index.ends()
    try:
        log = Log.of(lag.measure(settings, ends, BROKER_SECONDS))
    except TransientError:
        log = NO_LOG if all(map(is_import, ends)) else Log(known=False)
    return ages.judge(found, log, sla.load(settings), now)


def table(found: list[Age], settings: Settings) -> pd.DataFrame:
    """The rows as people read them."""
    slas = sla.load(settings)
    rows = []
    for item in found:
        late = item.lane == "late"
        warn, fail = slas[item.asset].bounds(late=late)
        rows.append(
            {
                "asset": f"{item.asset}, stragglers" if late else item.asset,
                "SLA": SHOWN[item.state],
                "lacks records that are": "?" if item.age is None else f"{words(item.age)} old" if item.age else "none",
                "warns after": words(warn) if warn is not None else "",
                "fails after": words(fail) if fail is not None else "",
            }
        )
    return pd.DataFrame(rows)


@st.cache_resource(max_entries=2)
def _seen(lake_url: str) -> Seen:  # noqa: ARG001 - the cache's key
    return Seen()


@st.cache_data(ttl=KEPT_SECONDS, max_entries=2, show_spinner=False)
def _cached(lake_url: str, _settings: Settings) -> pd.DataFrame:
    return table(judged(_settings, _seen(lake_url), datetime.now(UTC)), _settings)
