"""The law on thousands of random cases: logs and interleavings, every table compared with one global computation.

    .venv/bin/python bench/law.py [--cases 2000] [--seed N] [--chunk I]

The long form of `tests/integration/test_tables_law.py` (tests/law.py says what a case is). Cases are drawn in chunks, one
process a processor; a fifth of the chunks has larger ones: longer logs, more operations, automated days at any gap. The
same seed draws the same cases, `--chunk` runs one chunk again. A failing case is shrunk and printed as plain data: paste it
into tests/integration/test_dirty_set.py under a name. Exit 1 where one failed.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from pathlib import Path

from measure import machine

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

CHUNK = 25
LARGE_EVERY = 5


def main() -> int:
    """Run all chunks, tell progress, sum up."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--cases", type=int, default=2000)
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options.add_argument("--chunk", type=int, help="only this one")
    asked = options.parse_args()
    print(f"{machine()}, load {os.getloadavg()[0]:.1f} before, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, seed {asked.seed}", flush=True)
    chunks = range(-(-asked.cases // CHUNK)) if asked.chunk is None else [asked.chunk]
    started, seen, failed = time.monotonic(), Counter(), []
    with ProcessPoolExecutor() as workers:
        running = {workers.submit(run_chunk, asked.seed, chunk): chunk for chunk in chunks}
        for number, done in enumerate(as_completed(running), start=1):
            counts, error = done.result()
            seen += counts
            if error:
                failed.append(running[done])
                print(f"chunk {running[done]} FAILED\n{error}", flush=True)
            print(f"{number}/{len(running)} chunks, {seen['cases']} cases, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(", ".join(f"{count:,} {what}" for what, count in sorted(seen.items())))
    print(f"failed chunks: {failed}; again with --seed {asked.seed} --chunk I" if failed else "every case is lawful")
    return int(bool(failed))


def run_chunk(seed: int, chunk: int) -> tuple[Counter[str], str]:
    """What was run, and how it failed (empty: it did not)."""
    import law

    mode = ("gap", "client")[chunk % 2]
    seen: Counter[str] = Counter()

    def counted(case: law.Case) -> None:
        law.run(case)
        seen.update(cases=1, records=sum(map(len, case.arrivals)), arrivals=len(case.arrivals))
        seen.update(f"operations {type(operation).__name__}" for operation in case.operations)

    try:
        law.check(law.cases(mode, large=chunk % LARGE_EVERY == 0), CHUNK, seed * 10_000 + chunk, counted)
    except BaseException as error:  # noqa: BLE001 - the report of any failure goes to the one who runs this
        return seen, "".join(traceback.format_exception(error))
    return seen, ""


if __name__ == "__main__":
    sys.exit(main())
