"""The law (R7, R8): any split of any history, refreshed arrival by arrival, equals one global computation by the oracle."""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import lake_helpers
import oracle
import pytest
from histories import histories, splits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engagement.tables import refresh, units, waits

# Each example refreshes dozens of hours for real. `LAW_EXAMPLES=500 .venv/bin/python -m pytest tests/integration/test_tables_law.py`
# draws that many new ones; without it the same few are drawn every time.
EXAMPLES = os.environ.get("LAW_EXAMPLES")
relaxed = settings(
    deadline=None, max_examples=int(EXAMPLES or 6), suppress_health_check=list(HealthCheck), derandomize=EXAMPLES is None, database=None
)


def normalized(rows):
    return sorted(
        (sorted((name, list(value) if isinstance(value, tuple) else value) for name, value in row.items()) for row in rows), key=str
    )


def assert_equals_oracle(context, history, mode="gap", limit=1000):
    settings_ = context.settings
    assert normalized(lake_helpers.sessions(settings_)) == normalized(oracle.sessions(history, mode=mode))
    for period in ("hour", "day"):
        found = normalized(lake_helpers.big_table(settings_, period))
        assert found == normalized(oracle.aggregates(history, period, limit=limit, mode=mode))


def test_a_rebuild_makes_no_object_of_a_slot_without_events(tmp_path):
    moment = datetime(2026, 3, 11, 10, 5, tzinfo=UTC)
    event = oracle.RawEvent(
        event_id="00000000-0000-4000-8000-000000000000", user_id="u1", session_id=None, event_type="tap", event_time=moment,
        received_at=moment, kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=0,
        device_type=None, device_model=None, app_version=None, country=None, screen=None,
    )  # fmt: skip
    with lake_helpers.tables_of(tmp_path, slot_minutes=20) as context:
        lake_helpers.write(context, [event])
        refresh.until_nothing_waits(context)
        made = [entry.key for entry in context.lake.list("processed")]
        refresh.hours(context, [units.floor_hour(moment)], rebuild=True)
        assert [entry.key for entry in context.lake.list("processed")] == made
        assert all("slot-00" in key for key in made)


@relaxed
@given(st.data())
@pytest.mark.parametrize("mode", ["gap", "client"])
def test_any_split_of_any_history_equals_one_global_computation(mode, data):
    history = data.draw(histories(max_events=12))
    arrivals = data.draw(splits(history))
    limit = data.draw(st.sampled_from([1000, 1000, 2]))
    slot_minutes = data.draw(st.sampled_from([60, 60, 20]))
    folder = Path(tempfile.mkdtemp())
    try:
        with lake_helpers.tables_of(folder, session_mode=mode, max_dimension_values=limit, slot_minutes=slot_minutes) as context:
            for arrival in arrivals:
                lake_helpers.write(context, arrival)
                assert refresh.until_nothing_waits(context) < 5
            assert not waits.compute(context)
            assert_equals_oracle(context, history, mode, limit)
            made = {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}
            refresh.hours(context, sorted({units.floor_hour(event.event_time) for event in history}), rebuild=True)
            again = {entry.key: entry.version for folder in ("processed", "aggregated") for entry in context.lake.list(folder)}
            assert again == made, "a rebuild from raw alone makes the same objects, byte for byte (R10)"
    finally:
        shutil.rmtree(folder)
