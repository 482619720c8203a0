"""The plan of faults: one seed is one order, and even the short one comes to every hard place."""

from __future__ import annotations

from itertools import chain

import pytest
from faults.plan import CREW, ESSENTIAL, KINDS, LARGEST_CREW, SMALLEST_CREW, plan

SEEDS = range(50)


def names(steps):
    return [fault.kind.name for fault in chain.from_iterable(steps)]


def test_one_seed_is_one_plan():
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)


@pytest.mark.parametrize("count", [1, 10, 25, 200])
def test_a_plan_has_as_many_faults_as_asked(count):
    assert {len(names(plan(seed, count))) for seed in SEEDS} == {count}


def test_a_short_plan_has_every_essential_kind():
    essential = {name for name, kind in KINDS.items() if kind.weight >= ESSENTIAL}
    assert essential >= {"answer_lost", "kill_before_link", "stop_before_link"}
    assert all(set(names(plan(seed, 25))) >= essential for seed in SEEDS)


def test_a_long_plan_has_every_kind():
    assert all(set(names(plan(seed, 200))) == set(KINDS) for seed in SEEDS)


def test_somebody_is_always_left_alone():
    for step in chain.from_iterable(plan(seed, 200) for seed in SEEDS):
        assert 1 <= len(step) < CREW
        assert len(step) == 1 or not any(fault.kind.alone for fault in step)


def test_joins_and_leaves_keep_the_crew_within_its_bounds():
    for seed in SEEDS:
        size = CREW
        for name in names(plan(seed, 200)):
            size += {"join": 1, "leave": -1}.get(name, 0)
            assert SMALLEST_CREW <= size <= LARGEST_CREW
