"""The commit protocol in every order that stalls, crashes, retention, archives and expiry allow, in small worlds.

The machine that is searched is the product's own. `MODEL_STATES=2000000 .venv/bin/python -m pytest
tests/integration/test_protocol_model.py` walks through the large worlds too, each to that many states; `bench/model.py` prints
their figures.
"""

from __future__ import annotations

import os

import pytest
from model import planted
from model.cases import LARGE, SMALL
from model.search import Move, explore
from model.world import Model

STATES = int(os.environ.get("MODEL_STATES", "0"))
BUGS = planted.FINDINGS + planted.BESIDES + planted.FORGETTING


@pytest.mark.parametrize("case", SMALL, ids=lambda case: case.name)
def test_no_order_of_steps_breaks_the_rules(case):
    model = Model(case.size, case.rules)
    report = explore(model)
    assert report.broken is None, report
    assert report.complete
    said = model.said()
    assert not [words for words in case.met if not any(words in move for move in said)], "this world never got to its hard places"


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_the_search_finds_each_planted_bug(bug):
    report = explore(Model(bug.size, bug.rules))
    assert report.broken == bug.breaks, report
    assert len(report.trace) == report.depth


@pytest.mark.skipif(not STATES, reason="long: set MODEL_STATES to the number of states a world may have")
@pytest.mark.parametrize("case", LARGE, ids=lambda case: case.name)
def test_no_order_of_steps_breaks_the_rules_in_large_worlds(case):
    report = explore(Model(case.size, case.rules), STATES)
    assert report.broken is None, report


class Jugs:
    """Jugs of 3 and 5 litres: the puzzle whose shortest answer for 4 litres has 6 pourings."""

    def first(self):
        return (0, 0)

    def moves(self, state):
        small, large = state
        poured, back = min(small, 5 - large), min(large, 3 - small)
        filled_or_emptied = [(3, large), (small, 5), (0, large), (small, 0)]
        for found in [*filled_or_emptied, (small - poured, large + poured), (small + back, large - back)]:
            if found != state:
                yield Move(0, f"{state} -> {found}", found, "four litres" if found[1] == 4 else None)

    def tell(self, path):
        return [move.what for move in path]


def test_the_search_gives_the_shortest_way_to_a_broken_invariant():
    report = explore(Jugs())
    assert (report.broken, report.depth, len(report.trace)) == ("four litres", 6, 6)
    assert report.trace[0].startswith("(0, 0)")
    assert report.trace[-1].endswith("4)")


def test_the_search_says_whether_it_saw_everything():
    class Calm(Jugs):
        def moves(self, state):
            return [move._replace(broken=None) for move in super().moves(state)]

    everything = explore(Calm())
    assert (everything.complete, everything.broken, everything.states) == (True, None, 16)
    assert not explore(Calm(), limit=5).complete
