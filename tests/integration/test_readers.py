"""Readers in a loop while everything else goes on see nothing that was never true; `bench/readers.py` is the long form."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_readers_see_nothing_that_was_never_true(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    monkeypatch.delitem(sys.modules, "readers", raising=False)
    readers = importlib.import_module("readers")
    found = readers.watch(1, readers=1, seed=4, steps=6)
    assert found.wrong == []
    assert found.reads > 0
    assert {"archive", "expire", "refresh"} <= found.actions.keys()
