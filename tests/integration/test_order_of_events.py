"""Events of one microsecond: copies dropped, the others by event id, whatever they came as (R6, R10)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement.model import units
from engagement.tables import bulk, events, objects

AT = datetime(2026, 3, 11, 10, 20, 30, tzinfo=UTC)
LATER = AT + timedelta(microseconds=1)


def event(number, offset, at=AT, user="u1"):
    return lake_helpers.screen_view(number, at, user_id=user, kafka_offset=offset, received_at=AT)


# By number, which is the order of ids: 1 to 4 of one time, 2 and 3 with copies, one of these another user's; 0 comes after them.
FIRST = [event(4, 0), event(2, 1), event(0, 2, LATER), event(3, 3)]
SECOND = [replace(event(2, 4), user_id="u2"), event(1, 5), event(3, 6), event(3, 7)]
WANTED = [(1, 5, "u1"), (2, 1, "u1"), (3, 3, "u1"), (4, 0, "u1"), (0, 2, "u1")]


def rows(context):
    slot = units.floor_hour(AT)
    table = objects.read_rows(context.lake, context.lake.stat(units.slot_key(units.EVENTS, slot)))
    return [(int(row["event_id"][-12:], 16), row["kafka_offset"], row["user_id"]) for row in table.to_pylist()]


@pytest.mark.parametrize("arrivals", [(FIRST + SECOND,), (FIRST, SECOND)])
@pytest.mark.parametrize("rebuilt", [False, True])
def test_events_of_one_time_lie_by_id_without_copies(tmp_path, arrivals, rebuilt):
    slot = units.floor_hour(AT)
    with lake_helpers.tables_of(tmp_path) as context:
        for arrived in arrivals:
            lake_helpers.write(context, arrived)
            if rebuilt:
                bulk.required(events.refresh_all(context, [slot], rebuild=True))
            else:
                events.refresh(context, slot)
        assert rows(context) == WANTED
