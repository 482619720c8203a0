"""The law (R4, R6-R10): whatever happened to a lake, its tables equal one global computation by the oracle (`law` says how)."""

from __future__ import annotations

import pytest
from law import cases, check

SHARDS, EXAMPLES = 4, 25  # 200 cases in both modes, always the same; `bench/law.py` draws thousands of new and larger ones


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("mode", ["gap", "client"])
def test_any_log_and_any_interleaving_equal_one_global_computation(mode, shard):
    check(cases(mode), EXAMPLES, seed=shard)
