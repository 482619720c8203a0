"""The law under retention: whatever comes before and after, open days say what all their records say, final days stay as they were."""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import lake_helpers
import oracle
from histories import histories, splits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engagement.maintenance import retention
from engagement.maintenance.layers import LAYERS
from engagement.maintenance.policy import Policy, Rule
from engagement.model import units
from engagement.waiting import refresh, waits

DAYS = 40
LAYERS_OF_TABLES = sorted(name for name, layer in LAYERS.items() if layer.feeds and name not in ("raw", "archive"))


@st.composite
def cases(draw):
    """Two arrivals, the layers that expire between them, and the first open day."""
    history = draw(histories(max_events=10, automated_days=1))
    arrivals = draw(splits(history, max_arrivals=2, min_arrivals=2))
    days = sorted({event.event_time.date() for event in history})
    first_open = draw(st.sampled_from([*days, days[-1] + units.DAY]))
    return arrivals, draw(st.sets(st.sampled_from(LAYERS_OF_TABLES), min_size=1)), first_open


def normalized(rows):
    plain = [sorted((name, list(value) if isinstance(value, tuple) else value) for name, value in row.items()) for row in rows]
    return sorted(plain, key=str)


def tables(of, first_open, *, final=False):
    """Sessions, hour rows and day rows of the open days, or of the final ones."""
    sessions, hours, days = of
    found = [row for row in sessions if (row["started_at"].date() < first_open) == final]
    periods = [row for row in [*hours, *days] if (date(row["year"], row["month"], row["day"]) < first_open) == final]
    return normalized(found), normalized(periods)


def in_lake(context):
    made = context.settings
    return lake_helpers.sessions(made), lake_helpers.big_table(made, "hour"), lake_helpers.big_table(made, "day")


def by_oracle(history):
    return oracle.sessions(history), oracle.aggregates(history, "hour"), oracle.aggregates(history, "day")


@settings(deadline=None, max_examples=2, suppress_health_check=list(HealthCheck), derandomize=True)
@given(cases())
def test_open_days_are_right_and_final_days_stay(case):
    arrivals, layers, first_open = case
    folder = Path(tempfile.mkdtemp())
    now = datetime(first_open.year, first_open.month, first_open.day, tzinfo=UTC) + timedelta(days=DAYS - 1, hours=5)
    try:
        with lake_helpers.tables_of(folder) as context:
            lake_helpers.write(context, arrivals[0])
            refresh.until_nothing_waits(context)
            retention.apply(context, Policy({layer: Rule(expire=DAYS) for layer in layers}, declared=True), now)
            final = tables(in_lake(context), first_open, final=True)
            late = [event for arrival in arrivals[1:] for event in arrival]
            lake_helpers.write(context, late)
            assert refresh.until_nothing_waits(context) < 5
            assert not waits.compute(context)
            taken = [*arrivals[0], *(event for event in late if event.event_time.date() >= first_open)]
            assert tables(in_lake(context), first_open) == tables(by_oracle(taken), first_open)
            assert tables(in_lake(context), first_open, final=True) == final
            hours = sorted({units.floor_hour(event.event_time) for event in taken})
            refresh.hours(context, [hour for hour in hours if hour.date() >= first_open], rebuild=True)
            assert tables(in_lake(context), first_open) == tables(by_oracle(taken), first_open), "rebuilt, they say the same"
    finally:
        shutil.rmtree(folder)
