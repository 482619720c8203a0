"""Named cases of the dirty set: which hours a late event makes wait, and that no object of any other is replaced (R7).

They say in plain hours what `dirty` computes for the random cases of the law. `Lab.settle` compares every replaced object
with `dirty`, so each case proves both: nothing stale remains, nothing untouched is made again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import dirty
import law
import oracle
import pytest
from law import Lab, Rules

MIDNIGHT = datetime(2026, 3, 12, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FOUR_HOURS = Rules(gap_seconds=14400)


def at(hours: float | datetime) -> datetime:
    """Hours from the midnight of 12 March, to the minute."""
    return hours if isinstance(hours, datetime) else MIDNIGHT + timedelta(minutes=round(hours * 60))


def event(number: int, moment: float | datetime, **other: object) -> oracle.RawEvent:
    plain = oracle.RawEvent(
        event_id=f"00000000-0000-4000-8000-{number:012x}", user_id="u1", session_id=None, event_type="screen_view", event_time=at(moment),
        received_at=at(200), kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=number,
        device_type="iPhone", device_model=None, app_version="1.0", country="DE", screen="Home",
    )  # fmt: skip
    return replace(plain, **other)


@contextlib.contextmanager
def settled(rules: Rules, before: list[oracle.RawEvent], late: list[oracle.RawEvent]) -> Iterator[Lab]:
    """A lake that holds `before`, beside events of another user, and in which nothing waits; `late` has just arrived."""
    bystanders = [event(90 + number, hour, user_id="u2") for number, hour in enumerate((-3, 2, 12.5))]
    rows = [replace(row, kafka_offset=offset) for offset, row in enumerate((*before, *bystanders, *late))]
    with law.cheap_disk() as folder:
        lab = Lab(folder, rules, [rows[: -len(late)], rows[-len(late) :]])
        try:
            lab.arrive()
            lab.settle()
            lab.arrive()
            yield lab
        finally:
            lab.close()


@dataclass(frozen=True)
class Late:
    """Times of a user's events before, and of late ones: hours from midnight.

    Attributes:
        asked: hours that are asked for.
        sessions: slots whose session objects are replaced.
    """

    before: list[float | datetime]
    late: list[float | datetime]
    asked: set[int]
    sessions: set[float]
    rules: Rules = Rules()


# No gap of four hours from the 11th, 04:00 and a microsecond, to the 12th, 20:00 less one: forty hours, and neither day is whole.
FORTY_HOURS = [at(-20) + MICROSECOND, *range(-16, 20, 4), at(20) - MICROSECOND]
LATE = {
    "an_event_within_a_session": Late([10.0, 10.5], [10.2], {10}, {10}),
    "an_event_that_extends_a_session_into_the_next_hour": Late([10.7, 14.0], [11.1], {10, 11}, {10, 11}),
    "an_event_that_extends_a_session_backwards": Late([11.3, 14.0], [10.9], {10, 11}, {10, 11}),
    "an_event_one_microsecond_too_far": Late([10.0], [at(10.5) + MICROSECOND], {10}, {10}),
    "an_event_alone_in_its_hour": Late([10.0, 14.0], [12.0], {12}, {12}),
    "a_bridge_takes_the_later_session_away": Late([10.7, 11.5], [11.1], {10, 11}, {10, 11}),
    "a_bridge_of_sessions_in_other_hours": Late([9.9, 10.3, 12.1], [10.8, 11.2, 11.7], {9, 10, 11, 12}, {9, 11, 12}),
    "backwards_over_midnight": Late([0.2, 3.0], [-0.2], {-1, 0}, {-1, 0}),
    "a_bridge_over_midnight": Late([-0.4, 0.4], [0.0], {-1, 0}, {-1, 0}),
    "the_end_of_a_session_of_forty_hours": Late(FORTY_HOURS, [19.0], {-20, 19}, {-20}, FOUR_HOURS),
    "a_bridge_of_forty_hours": Late(FORTY_HOURS[:5] + FORTY_HOURS[6:], [0.0], {-20, 0, 4}, {-20, 0, 4}, FOUR_HOURS),
    "the_event_that_makes_a_day_automated_moves_both_midnights": Late(
        [-1.0, 3.0, 7.0, 11.0, 15.0, 22.0, 25.0], [18.9], {-1, 3, 18, 22, 25}, {-1, 3, 18, 22, 25}, FOUR_HOURS
    ),
    "an_event_of_an_automated_day": Late([-1.0, 3.0, 7.0, 11.0, 15.0, 19.0, 22.0, 25.0], [12.0], {3, 12}, {3}, FOUR_HOURS),
    "slots_of_ten_minutes": Late([10.0, 10.6], [10.4], {10}, {10.0, 10 + 1 / 3, 10.5}, Rules(slot_minutes=10)),
    "slots_of_five_minutes_far_from_the_late_one": Late(
        [9.9, 10.2, 10.9], [10.6], {9, 10}, {9 + 50 / 60, 10 + 35 / 60, 10 + 50 / 60}, Rules(slot_minutes=5)
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_exactly_these_are_replaced_for(name):
    case = LATE[name]
    before, late = [event(n, when) for n, when in enumerate(case.before)], [event(50 + n, when) for n, when in enumerate(case.late)]
    with settled(case.rules, before, late) as lab:
        old = lab.versions()
        assert lab.settle() == {at(hour) for hour in case.asked}
        replaced = dirty.replaced(old, lab.versions())
        assert {slot for table, slot in replaced if table == "sessions"} == {at(slot) for slot in case.sessions}
        law.assert_lawful(lab)


def test_a_copy_replaces_what_counts_it_and_no_session():
    with settled(Rules(), [event(0, 10.0), event(1, 10.7)], [event(0, 10.0, received_at=at(201), country="FR")]) as lab:
        old = lab.versions()
        assert lab.settle() == {at(10)}
        slot, day = at(10), at(10).date()
        counting = {("events", slot), ("fragments", slot), ("activity", slot), ("hour rows", day), ("day rows", day)}
        assert dirty.replaced(old, lab.versions()) == counting
        law.assert_lawful(lab)


def test_an_earlier_copy_of_another_user_takes_a_bridge_away():
    bridged = [event(0, 10.7), event(1, 11.1), event(2, 11.5)]
    with settled(Rules(), bridged, [event(1, 11.1, received_at=at(199), user_id="u3", kafka_partition=1)]) as lab:
        assert lab.settle() == {at(10), at(11)}
        law.assert_lawful(lab)


def test_a_session_that_one_late_slot_alone_would_join_and_both_together_cut_off_again_is_left_alone():
    """The first joins yesterday's session to the day, the second makes the day automated; a refresh sees both at once."""
    before = [event(number, hour) for number, hour in enumerate((-1, 7, 11, 15, 22, 25))]
    late = [event(50, 3.0), event(51, 18.9)]
    assert at(-1) in dirty.dirty(before, late[:1], gap_seconds=14400).sessions
    with settled(FOUR_HOURS, before, late) as lab:
        assert lab.settle() == {at(hour) for hour in (3, 7, 18, 22, 25)}
        law.assert_lawful(lab)


def test_nothing_that_is_asked_of_a_quiet_lake_replaces_anything():
    with settled(Rules(slot_minutes=20), [event(0, 10.1), event(1, 11.0)], [event(2, 10.5)]) as lab:
        lab.settle()
        for table in (*law.SLOT_STEPS, "hour rows", "day rows"):
            for hour in range(len(lab.hours)):
                lab.do(law.Step(table, hour, rebuild=False))
                lab.do(law.Step(table, hour, rebuild=True))
        lab.do(law.Restart(without_index=True))
        lab.do(law.Settle())
        # A rebuild of an hour makes no object of a slot that has no events.
        slots = {slot for table, slot in map(dirty.unit_of, lab.versions()) if table == "sessions"}
        assert slots == {at(-3), at(2), at(10), at(10 + 1 / 3), at(11), at(12 + 1 / 3)}, (
            "a rebuild makes no object of a slot without events"
        )


def test_a_rebuild_without_a_damaged_object_that_was_killed_early_is_made_good_once_the_object_is_mended():
    """Killed after the events, which lack the object's rows; all other tables still have them, and say so."""
    with settled(Rules(), [event(0, 10.0)], [event(1, 10.2)]) as lab:
        lab.settle()
        lab.do(law.Damage(1))
        lab.do(law.Killed(law.Rebuild(tuple(range(len(lab.hours)))), at=0, after=True))
        lab.do(law.Mend())
        lab.settle()
        law.assert_lawful(lab)
