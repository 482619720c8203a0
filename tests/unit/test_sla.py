"""SLAs: the table, what a file may change in it, and what an age means under one."""

from __future__ import annotations

from datetime import timedelta

import lake_helpers
import pytest

from engagement.freshness import sla
from engagement.freshness.sla import Sla, SlaError, State

MINUTE = timedelta(minutes=1)


def test_without_a_file_every_asset_has_its_layers_sla(tmp_path):
    found = sla.load(lake_helpers.settings_of(tmp_path))
    assert found == {asset: sla.LAYERS[layer] for asset, layer in sla.ASSETS.items()}


def test_a_file_overrides_one_bound_of_one_asset(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[daily_engagement]\nfail_seconds = 1800\n")
    found = sla.load(lake_helpers.settings_of(tmp_path, sla=str(path)))
    assert (found["daily_engagement"].warn, found["daily_engagement"].fail) == (sla.LAYERS["days"].warn, 30 * MINUTE)
    assert found["hourly_engagement"] == sla.LAYERS["hours"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[dayly_engagement]\n", "daily_engagement"),
        ("[events]\nfail = 3\n", "fail_seconds"),
        ("[events]\nfail_seconds = 'soon'\n", "expected seconds"),
        ("[events]\nfail_seconds = true\n", "expected seconds"),
        ("[events]\nwarn_seconds = 600\n", "less than"),
        ("[catalog]\nwarn_seconds = 600\n", "no age of its own"),
        ("events = 3\n", "expected a table"),
        ("[events", "TOML"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(text, named):
    with pytest.raises(SlaError, match=named) as told:
        sla.parse(text, "sla.toml")
    assert "\n" not in str(told.value)


def test_a_file_that_is_asked_for_and_missing_is_named(tmp_path):
    with pytest.raises(SlaError, match="no such file"):
        sla.load(lake_helpers.settings_of(tmp_path, sla=str(tmp_path / "nope.toml")))


@pytest.mark.parametrize(
    ("age", "late", "state"),
    [
        (2, False, State.OK),
        (2.5, False, State.WARN),
        (5, False, State.FAIL),
        (5, True, State.OK),
        (12.5, True, State.WARN),
        (None, False, State.UNKNOWN),
    ],
)
def test_what_an_age_means(age, late, state):
    bounds = Sla(MINUTE, 2 * MINUTE, 2 * MINUTE, 4 * MINUTE, late=10 * MINUTE)
    assert bounds.state(None if age is None else age * MINUTE, late=late) is state
