"""The pages of trust: what they are drawn from, and that they draw it, with something to show and with nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import lake_helpers
import pytest

from engagement.dashboard import data, trust
from engagement.lake import open_lake
from engagement.model import units
from engagement.tables.objects import Candidate
from engagement.verdicts import quarantine, records
from engagement.verdicts.records import Metric
from engagement.verdicts.result import Period, Result, Severity, Status
from engagement.waiting import refresh
from quality import profile

APP = Path(data.__file__).with_name("app.py")
NOW = datetime.now(UTC)
HOUR = units.floor_hour(NOW) - 3 * units.HOUR


def result(check, status=Status.PASSED, severity=Severity.ERROR, asset="events", hour=HOUR, engine="deequ"):
    return Result(
        "suite", check, asset, Period(hour), engine, severity, status, 0.5, "= 1", "look at it", message="3 of 6 rows", rows=6,
        violations=3, query="SELECT 1", measured_at=NOW,
    )  # fmt: skip


FOUND = [
    result("good"), result("bad", Status.FAILED), result("meant well", Status.FAILED, Severity.WARNING, "sessions"),
    result("gone", Status.BROKEN, asset="user_activity"), result("good", asset="session_fragments"),
]  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with numbers, results, a held hour, Deequ's numbers and the profile of yesterday and today."""
    settings = lake_helpers.settings_of(tmp_path_factory.mktemp("trust"))
    with lake_helpers.tables_of(Path(settings.lake_url).parent) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(number, HOUR + timedelta(minutes=number)) for number in range(5)])
        refresh.until_nothing_waits(context)
        records.append_results(context.lake, FOUND)
        size = [Metric("s", "events", Period(HOUR - shift * units.HOUR), "deequ", "Dataset", "*", "Size", 6.0 + shift) for shift in (0, 1)]
        records.append_metrics(context.lake, [*size, *profile.profile(context, HOUR.date())])
        held = Candidate(context.typed(None, units.SESSIONS), {}, HOUR, units.slot_key(units.SESSIONS, HOUR))
        quarantine.hold(context.lake, units.SESSIONS, held, {"no_repeated_sessions": 2})
    return settings


def test_the_state_of_an_hour_is_its_worst_result_and_unjudged_hours_say_so(made):
    seen = trust.look(made, NOW)
    states = trust.states(seen.standing, NOW)
    assert len(states) == trust.SHOWN_HOURS * len(trust.HOURLY)
    of_hour = states[states["hour"] == HOUR].set_index("asset")
    assert of_hour["state"].to_dict() == {
        "raw_events": "not judged", "events": "error", "session_fragments": "passed", "user_activity": "broken", "sessions": "warning",
        "hourly_engagement": "not judged",
    }  # fmt: skip
    assert of_hour.loc["events", "wrong"] == "bad"


def test_failures_come_with_what_to_do_and_how_to_see_them_errors_first(made):
    found = trust.failures(trust.look(made, NOW).standing)
    assert sorted(found["state"].tolist()[:2]) == ["broken", "error"]
    assert found["state"].tolist()[2] == "warning"
    assert found.loc[found["check"] == "bad", "query"].item() == "SELECT 1"


def test_the_first_page_says_in_one_line_what_is_held_and_suspect(made, tmp_path):
    text = trust.sentence(trust.look(made, NOW))
    assert f"sessions/{Period(HOUR).key} held by a gate since" in text
    assert f"events/{Period(HOUR).key} under suspicion: bad, 3 of 6 rows" in text
    empty = lake_helpers.settings_of(tmp_path)
    open_lake(empty)
    assert trust.sentence(trust.look(empty, NOW)) == ""


def test_a_profile_tells_each_column_and_no_person(made):
    found = trust.metrics(made, NOW, 3)
    assert trust.profiled_days(found) == [HOUR.date()]
    table = trust.profile(found, "events", HOUR.date()).set_index("column")
    assert table.loc["country", "Completeness"] == 1
    assert table.loc["country", "Top"] == '[["DE", null]]'
    assert table.loc["user_id", "ApproxCountDistinct"] == 1
    assert table.loc["user_id", ["Minimum", "Maximum", "Top"]].isna().all()
    assert "u1" not in table.to_string()
    assert trust.trend(found, "s", "events", "*", "Size")["value"].tolist() == [7.0, 6.0]
    assert trust.trend(found, "profile", "events", "*", "Size")["value"].tolist() == [5.0]


def test_each_function_of_a_page_takes_a_lake_without_anything(tmp_path):
    settings = lake_helpers.settings_of(tmp_path)
    open_lake(settings)
    seen = trust.look(settings, NOW)
    assert not seen.judged
    assert set(trust.states(seen.standing, NOW)["state"]) == {"not judged"}
    assert trust.failures(seen.standing).empty
    assert trust.metrics(settings, NOW, 3) == []
    assert trust.trend([], "s", "events", "*", "Size").empty


@pytest.fixture
def page(monkeypatch):
    from streamlit.testing.v1 import AppTest

    def drawn(settings, name):
        monkeypatch.setenv("ENGAGEMENT_LAKE_URL", settings.lake_url)
        monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(settings.state_dir))
        script = (
            "from engagement import settings as s\nimport streamlit as st\nfrom engagement.dashboard import pages\n"
            f"st.cache_data.clear()\npages.{name}(s.load())\n"
        )
        found = AppTest.from_string(script, default_timeout=60).run()
        assert not found.exception, found.exception
        return found

    return drawn


def test_the_quality_page_draws_what_is_known(made, page):
    drawn = page(made, "quality")
    assert drawn.dataframe[0].value["unit"].tolist() == [f"sessions/{Period(HOUR).key}"]
    assert any(f"events/{Period(HOUR).key}: bad" in expander.label for expander in drawn.expander)
    assert drawn.selectbox(key="metric").options == ["s: Size of *"]


def test_the_profile_page_draws_every_column(made, page):
    drawn = page(made, "profile")
    assert "country" in drawn.dataframe[0].value["column"].tolist()
    assert drawn.selectbox(key="profile-table").value == "events"


@pytest.mark.parametrize("name", ["quality", "profile", "mark"])
def test_a_page_of_an_empty_lake_says_what_to_do(name, tmp_path, page):
    settings = lake_helpers.settings_of(tmp_path)
    open_lake(settings)
    drawn = page(settings, name)
    told = " ".join(item.value for item in drawn.info)
    assert ("engagement check" in told) == (name != "mark")


def test_the_app_has_its_three_pages_and_the_first_one_tells_what_is_held(made, monkeypatch):
    from streamlit.testing.v1 import AppTest

    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", made.lake_url)
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(made.state_dir))
    drawn = AppTest.from_file(str(APP), default_timeout=60).run()
    assert not drawn.exception
