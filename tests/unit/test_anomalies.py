"""Anomalies: what is out of line is told once, by its most general scope; what is usual, small, new or old is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quality.anomalies import judging, robust
from quality.anomalies.incidents import LEFT_OUT, Incident, Incidents, left_out
from quality.anomalies.judging import ALL, Deviation
from quality.anomalies.robust import WEEK, Finding

DAY = 24


def usual(weeks=6, level=2000.0, seed=1, growth=0.01):
    """Counts of an app with days, weekends and growth."""
    clock = np.arange(weeks * WEEK + 14)  # the last hour is an afternoon
    shape = (1.2 - np.cos(2 * np.pi * (clock % DAY - 3) / DAY)) * np.where((clock // DAY) % 7 >= 5, 1.3, 1.0)
    rate = level * shape * np.exp(growth * clock / WEEK)
    return np.random.default_rng(seed).poisson(rate).astype(float)


def series(counts, **scopes):
    def columns(values):
        found = {name: values * factor for name, factor in zip(judging.VOLUMES, (12, 1, 0.8, 0.02, 0.3), strict=True)}
        return found | {name: np.full(len(values), level) for name, level in zip(judging.RATIOS, (0.2, 300.0, 12.0, 0.1), strict=True)}

    return {ALL: columns(counts)} | {tuple(name.split("__")): columns(values) for name, values in scopes.items()}


def changed(counts, factor, hours=1):
    found = counts.copy()
    found[-hours:] *= factor
    return found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.0, 0.05))
def test_an_usual_hour_is_in_line(seed, growth):
    assert robust.volume(usual(seed=seed, growth=growth)) is None


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.0, 0.5, 2.0]))
def test_half_double_and_nothing_are_out_of_line_and_told_with_what_was_expected(seed, factor):
    counts = changed(usual(seed=seed), factor)
    found = robust.volume(counts)
    assert found is not None
    assert found.direction == ("up" if factor > 1 else "down")
    assert found.low < counts[-1] / factor < found.high if factor else found.low > 0


def test_growth_of_weeks_is_followed():
    assert robust.volume(usual(growth=0.1)) is None


def test_one_outage_and_one_holiday_in_the_history_move_nothing():
    counts = usual()
    counts[-1 - WEEK - 3 : -1 - WEEK + 3] = 0
    counts[-1 - 2 * WEEK - 12 : -1 - 2 * WEEK + 12] *= 0.6
    assert robust.volume(counts) is None
    assert robust.volume(changed(counts, 0.5)) is not None


def test_without_history_nothing_is_judged_and_days_stand_in_for_weeks_with_wider_bounds():
    assert robust.volume(usual(weeks=0)) is None
    short = usual(weeks=1)
    assert robust.volume(short) is None
    found = robust.volume(changed(short, 0.0))
    assert found is not None
    assert "last days" in found.why
    assert robust.volume(changed(short, 0.5)) is None


def test_small_counts_are_not_judged():
    assert robust.volume(changed(usual(level=10.0), 0.0)) is None


def test_a_silent_night_is_no_anomaly_and_a_silent_afternoon_is_one():
    counts = usual()
    counts[np.arange(len(counts)) % DAY < 5] = 0.0
    night = counts[: len(counts) - 14 + 3]
    assert night[-1] == 0
    assert robust.volume(night) is None
    assert robust.volume(changed(counts, 0.0)) is not None


def test_a_version_that_is_rolled_out_or_fades_is_in_line_and_one_that_breaks_is_not():
    whole = usual()
    share = 1 / (1 + np.exp(-(np.arange(len(whole)) - len(whole) + 30) / 15))
    assert judging.judge(series(whole, app_version__2=whole * share, app_version__1=whole * (1 - share))) == []
    broken = changed(whole * 0.5, 0.2)
    (found,) = judging.judge(series(whole * 0.5 + broken, app_version__2=broken))[:1]
    assert (found.scope, found.pages) == (("app_version", "2"), True) or found.scope == ALL


def test_a_release_that_is_bad_from_its_first_hour_is_told_by_its_rivals():
    assert robust.rival(0.6, 500.0, 0.22) is not None
    assert robust.rival(0.24, 500.0, 0.22) is None
    assert robust.rival(0.6, 20.0, 0.22) is None


def test_what_all_users_see_is_told_once_and_not_for_each_country():
    counts = usual()
    parts = {f"country__{name}": changed(counts * share, 0.4) for name, share in (("DE", 0.5), ("FR", 0.5))}
    found = judging.judge(series(changed(counts, 0.4), **parts))
    assert [item.scope for item in found] == [ALL]
    assert "active_users" in found[0].text
    assert "expected" in found[0].text


def test_what_one_country_sees_is_told_of_it():
    counts = usual(level=20000)
    found = judging.judge(series(counts, country__DE=changed(counts * 0.05, 0.2), country__FR=counts * 0.3))
    assert [(item.scope, item.pages) for item in found] == [(("country", "DE"), True)]


def test_a_mean_that_moved_is_told_and_pages_nobody():
    rows = series(usual())
    rows[ALL]["avg_session_seconds"][-1] *= 1.5
    (found,) = judging.judge(rows)
    assert (found.metric, found.pages) == ("avg_session_seconds", False)


def test_what_slides_away_over_weeks_is_told():
    counts = usual(weeks=9)
    assert robust.drift(counts) is None
    counts[-18 * DAY :] *= np.exp(-0.03 * np.arange(18 * DAY) / DAY)
    found = robust.drift(counts)
    assert found is not None
    assert found.spreads < 0


def deviation(spreads=7.0, scope=ALL, *, pages=True, value=1.0):
    return Deviation(scope, "total_events", Finding(spreads, value, 10.0, 20.0, "why"), (), pages)


def test_the_same_cause_within_hours_is_one_incident_and_told_once():
    incidents = Incidents()
    told = [incidents.take(hour, [deviation()])[0][2] for hour in (0, 1, 3, 4)]
    assert told == [True, False, False, False]
    ((_, incident, again),) = incidents.take(9, [deviation()])
    assert again
    assert incident.first == 9


def test_one_that_grows_far_beyond_what_was_told_is_told_again():
    incidents = Incidents()
    incidents.take(0, [deviation(7.0)])
    assert incidents.take(1, [deviation(10.0)])[0][2] is False
    assert incidents.take(2, [deviation(20.0)])[0][2] is True


def test_another_scope_or_direction_is_another_cause():
    found = {deviation().cause, deviation(value=99.0).cause, deviation(scope=("country", "DE")).cause, deviation(pages=False).cause}
    assert len(found) == 4


def test_the_first_day_of_an_incident_is_no_example_and_what_stays_is_learned():
    incident = Incident("all down", 10, 10, 7.0)
    assert left_out(deviation(), incident, 10) == ALL
    assert left_out(deviation(), incident, 10 + LEFT_OUT) is None
    assert left_out(deviation(pages=False), incident, 10) is None


@pytest.mark.parametrize("values", [[], [5.0], [np.nan] * 400, [0.0] * 2000])
def test_whatever_the_series_it_is_judged_or_not_and_never_an_error(values):
    counts = np.array(values)
    assert robust.volume(counts) is None
    assert robust.drift(counts) is None
    assert robust.share(counts, counts) is None if len(counts) else True
