"""The demo measures its lake, and a lake that cannot be looked at ends nothing."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from engagement import settings as settings_module
from engagement.lake import LakeUnavailable
from engagement.stack import demo


class Supervisor:
    """Parts that need nothing; turns so often, then it is stopped."""

    def __init__(self, turns):
        self._left, self.turns = turns, 0
        self.stop = SimpleNamespace(wait=lambda _seconds: self.turns == self._left)

    def turn(self):
        self.turns += 1

    def is_ready(self, _name):
        return False


@pytest.mark.parametrize(
    "failure", [sqlite3.OperationalError("database or disk is full"), LakeUnavailable("away"), OSError(28, "No space left")]
)
def test_a_lake_that_is_away_for_a_while_ends_nothing_and_is_told_once(tmp_path, failure, monkeypatch):
    monkeypatch.setattr(demo, "POLL_SECONDS", 0.0)
    said = []
    work = demo.Demo(settings_module.load({}, tmp_path), 1.0, said.append, datetime.now(UTC))
    work.supervisor = Supervisor(6)
    looks = iter([[], [], failure, failure, [], [], []])

    def new_files(_known):
        found = next(looks)
        if isinstance(found, Exception):
            raise found
        return found

    watch = SimpleNamespace(new_files=new_files, coverage=lambda _now: {}, newest=lambda _now: None)
    latency = SimpleNamespace(poll=lambda *_: None, first_current=None, percentile=lambda _share: None)
    work._watch(0, watch, latency)
    assert work.supervisor.turns == 6
    assert [line.split(":")[0] for line in said] == ["the lake cannot be looked at", "the lake can be looked at again"]
    assert str(failure).split()[-1] in said[0]
