"""Exactly once under faults: 25 of them against the real consumer and broker, compared record by record with the log.

`bench/faults.py` is the long form. FAULTS_SEED replays a plan, FAULTS_PROTOCOL=consumer takes KIP-848 groups.
"""

from __future__ import annotations

import os
import random

from faults.run import Run

FAULTS = 25


def test_nothing_is_lost_or_doubled_under_faults(tmp_path):
    seed = int(os.environ.get("FAULTS_SEED") or random.SystemRandom().randrange(10**6))
    result = Run(tmp_path, seed, FAULTS, print, os.environ.get("FAULTS_PROTOCOL", "classic")).result()
    assert result.ok, str(result)
    assert sum(result.faults.values()) >= FAULTS
