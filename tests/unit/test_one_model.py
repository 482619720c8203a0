"""A day is of one model: which hours and days wait for it, and which fragments change sessions of which model."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engagement.model import units
from engagement.tables import sessions
from engagement.tables.objects import CODE_VERSION
from engagement.waiting import waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
NEXT = HOUR + units.HOUR
DAY_BEFORE = HOUR - units.DAY
NEW, OLD = {"model": "new"}, {"model": "old"}


def waiting(*made, days=None):
    return waits.waiting_for_model("new", made, days or {})


def test_a_history_of_another_model_waits_for_nothing():
    assert waiting((HOUR, OLD), (NEXT, OLD), days={HOUR.date(): OLD}) == ({}, {})
    assert waiting((HOUR, {}), days={HOUR.date(): {}}) == ({}, {}), "nor one from before there were models"


def test_one_unit_of_the_present_model_makes_the_rest_of_its_day_wait():
    assert waiting((HOUR, NEW), (NEXT, OLD), (DAY_BEFORE, OLD)) == ({NEXT: "model"}, {})
    assert waiting((HOUR, NEW), (NEXT, {})) == ({NEXT: "model"}, {})


def test_an_hour_of_two_models_waits():
    assert waiting((HOUR, NEW), (HOUR, OLD)) == ({HOUR: "model"}, {})
    assert waiting((HOUR, NEW), (HOUR + timedelta(minutes=20), OLD)) == ({HOUR: "model"}, {})


def test_a_day_all_of_the_present_model_waits_for_its_day_rows_alone():
    assert waiting((HOUR, NEW), (NEXT, NEW), days={HOUR.date(): OLD}) == ({}, {HOUR.date(): "model"})
    assert waiting((HOUR, NEW), (NEXT, NEW), days={HOUR.date(): NEW}) == ({}, {})


def fragments(version, model="new", affects=(), affects_facts=()):
    facts = {
        "model": model, "affects": [slot.isoformat() for slot in affects], "affects_facts": [slot.isoformat() for slot in affects_facts],
    }  # fmt: skip
    return {units.slot_key(units.FRAGMENTS, HOUR): (version, facts)}


def footer(read, model):
    return {"code": CODE_VERSION, "model": model, "fragments": {units.slot_key(units.FRAGMENTS, HOUR): read}}


def test_what_changes_in_declared_facts_alone_makes_sessions_of_the_same_model_stale():
    changed = fragments("2", affects_facts=[HOUR])
    assert sessions.is_stale(HOUR, footer("1", "new"), changed)
    assert not sessions.is_stale(HOUR, footer("2", "new"), changed)
    assert not sessions.is_stale(HOUR, footer("1", "old"), changed)
    assert not sessions.is_stale(NEXT, footer("1", "new"), changed)


def test_what_changes_in_any_model_makes_sessions_of_every_model_stale():
    changed = fragments("2", affects=[HOUR])
    assert sessions.is_stale(HOUR, footer("1", "new"), changed)
    assert sessions.is_stale(HOUR, footer("1", "old"), changed)


def test_hours_that_are_named_for_one_model_alone_wait():
    by_slot = {HOUR: footer("1", "new")}
    assert waits.waiting_for_sessions(fragments("2", affects_facts=[HOUR]), by_slot) == {HOUR: "sessions"}
    assert waits.waiting_for_sessions(fragments("2", affects_facts=[HOUR]), {HOUR: footer("1", "old")}) == {}
