"""Faults on purpose: kills, stops, rebalances, broker restarts and store errors against ingest, compared with the log.

    .venv/bin/python bench/faults.py [--faults 200] [--seed N]

The long form of `tests/integration/test_faults.py`. The same seed gives the same faults in the same order. Exit 1 where
a record is lost or doubled, or where the run never came to the hard places and so proves nothing.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))


def main() -> int:
    """Run, print what was done and found."""
    from faults.run import Run

    from engagement.stack import jars

    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--faults", type=int, default=200)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options.add_argument("--protocol", choices=["classic", "consumer"], default="classic", help="of the consumer group")
    options.add_argument("--planted", choices=["overwrites"], help="run with a defect that the comparison must find")
    asked = options.parse_args()
    if jars.main([]):
        return 1
    print(f"{machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {asked.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="engagement-faults-") as folder:
        say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731 - progress beside the result
        result = Run(Path(folder), asked.seed, asked.faults, say, asked.protocol, asked.planted).result()
    print(result)
    return 0 if result.ok else 1


if __name__ == "__main__":
    sys.exit(main())
