"""How far the commit protocol was searched: states, transitions and depth of the large worlds, each complete or to a bound.

    .venv/bin/python bench/model.py [--states 1500000] [--only NAME] [--bugs]

`--bugs` prints instead the shortest way in which each planted bug breaks an invariant. The worlds stand in
`tests/model/cases.py`, what is searched in docs/exactly-once.md.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))


def main() -> int:
    """Search and print one line a world; 1 where an invariant broke."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--states", type=int, default=1_500_000, help="most states of one world")
    options.add_argument("--only", default="", help="only worlds, or bugs, whose name has this in it")
    options.add_argument("--bugs", action="store_true", help="print the traces of the planted bugs")
    asked = options.parse_args()
    print(f"{machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    return traces(asked.only) if asked.bugs else figures(asked.only, asked.states)


def figures(only: str, limit: int) -> int:
    """Walk through the large worlds."""
    from model.cases import LARGE
    from model.search import explore
    from model.world import Model

    print(f"{'states':>10}  {'transitions':>11}  depth  {'seconds':>7}  complete  world")
    states = transitions = broken = 0
    for case in (case for case in LARGE if only in case.name):
        found = explore(Model(case.size, case.rules), limit)
        states, transitions, broken = states + found.states, transitions + found.transitions, broken + bool(found.broken)
        ended = "BROKEN" if found.broken else "yes" if found.complete else "bound"
        print(f"{found.states:>10}  {found.transitions:>11}  {found.depth:>5}  {found.seconds:>7.1f}  {ended:>8}  {case.name}", flush=True)
        if found.broken:
            print(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{states:>10}  {transitions:>11}  in all, peak memory {peak:.0f} MiB, invariants broken: {broken}")
    return int(broken > 0)


def traces(only: str) -> int:
    """The shortest counterexample of each planted bug."""
    from model import planted
    from model.search import explore
    from model.world import Model

    for bug in planted.FINDINGS + planted.BESIDES + planted.FORGETTING:
        if only in bug.name:
            print(f"\n{bug.name}: {bug.why}\n{explore(Model(bug.size, bug.rules))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
