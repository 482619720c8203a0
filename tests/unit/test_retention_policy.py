"""The declared policy: what it may say, and what it lets go of on a day."""

from __future__ import annotations

from datetime import date, timedelta

import lake_helpers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement import settings as settings_module
from engagement.lake import LocalLake
from engagement.maintenance import policy as policy_module
from engagement.maintenance.layers import LAYERS, day_folder, day_of
from engagement.maintenance.policy import Policy, PolicyError, Rule, parse
from engagement.maintenance.retention import due

TODAY = date(2026, 4, 20)
GOOD = """
glacier_class = "GLACIER"
[archive]
infrequent = 60
glacier = 180
expire = 400
[events]
expire = 33
[metrics]
expire = 1
"""


def test_a_policy_is_read_as_written():
    assert parse(GOOD, "retention.toml", 30) == Policy(
        {"archive": Rule(60, 180, 400), "events": Rule(expire=33), "metrics": Rule(expire=1)}, "GLACIER", declared=True
    )
    assert parse(GOOD, "retention.toml", 30).expiring() == {"archive": 400, "events": 33, "metrics": 1}


def test_an_empty_file_is_a_policy_by_which_nothing_happens():
    found = parse("", "retention.toml", 30)
    assert (found.declared, found.expiring(), found.moves) == (True, {}, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[archive", "r.toml: not readable as TOML"),
        ("[event]\nexpire = 40", "there is no layer 'event'; nearest valid names: events"),
        ("[raw]\nexpire = 40", "[raw] has no retention of its own"),
        ("events = 40", "events = 40: expected a table [events]"),
        ("[events]\nexpires = 40", "[events] expires: expected one of infrequent, glacier, expire"),
        ("[events]\nexpire = 0", "[events] expire = 0: expected a whole number of days"),
        ("[events]\nexpire = true", "[events] expire = True: expected a whole number of days"),
        ("[events]\nexpire = '40'", "[events] expire = '40': expected a whole number of days"),
        ("[events]\nexpire = 32", "[events] expire = 32: must be at least 33, for events may come 30 days late"),
        ("[day_rows]\nexpire = 32", "[day_rows] expire = 32: must be at least 33"),
        ("[events]\ninfrequent = 29", "infrequent = 29: must be at least 30"),
        ("[events]\ninfrequent = 60\nglacier = 89", "glacier = 89: must be at least 90"),
        ("[events]\nglacier = 90\nexpire = 90", "expire = 90: must be more than 90"),
        ("glacier_class = 'ICE'", "glacier_class = 'ICE': expected one of GLACIER_IR, GLACIER, DEEP_ARCHIVE"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(text, message):
    with pytest.raises(PolicyError) as error:
        parse(text, "r.toml", 30)
    assert message in str(error.value)
    assert str(error.value).startswith("r.toml: ")
    assert "\n" not in str(error.value)


def test_the_file_of_the_settings_is_read_and_none_means_nothing_expires(tmp_path):
    assert policy_module.load(lake_helpers.settings_of(tmp_path)) == Policy()
    (tmp_path / "retention.toml").write_text("[events]\nexpire = 50\n")
    found = policy_module.load(settings_module.load({}, tmp_path))
    assert found.expiring() == {"events": 50}
    assert policy_module.load(settings_module.load({"ENGAGEMENT_RETENTION": ""}, tmp_path)) == Policy()
    with pytest.raises(PolicyError, match=r"ENGAGEMENT_RETENTION=.*elsewhere\.toml: there is no such file"):
        policy_module.load(settings_module.load({"ENGAGEMENT_RETENTION": "elsewhere.toml"}, tmp_path))


FEEDING = [name for name, layer in LAYERS.items() if layer.feeds and name != "raw"]
POLICIES = st.dictionaries(st.sampled_from([*FEEDING, "quarantine", "metrics"]), st.integers(1, 500).map(lambda days: Rule(expire=days)))


@given(POLICIES, st.none() | st.integers(0, 600))
def test_what_goes_never_reaches_what_an_open_day_is_made_from(rules, waiting_days_ago):
    """An open day's sessions read the fragments of the day before (R7); an hour that waits needs its own day and that one."""
    waiting = None if waiting_days_ago is None else TODAY - timedelta(days=waiting_days_ago)
    found = due(Policy(rules), TODAY, waiting)
    assert found.stays.keys() == rules.keys()
    for layer, day in found.stays.items():
        assert day <= TODAY - timedelta(days=rules[layer].expire), "nothing goes before its time"
        if LAYERS[layer].feeds:
            assert day <= found.first_open - timedelta(days=1)
    if waiting is not None and found.first_open is not None:
        assert found.first_open <= waiting or found.held_by is None
        assert found.held_by in (None, waiting)
    if found.held_by is None:
        assert all(day == TODAY - timedelta(days=rules[layer].expire) for layer, day in found.stays.items()), "all that is due goes"


def test_what_feeds_no_table_makes_no_day_final():
    assert due(Policy({"metrics": Rule(expire=2)}), TODAY, TODAY).first_open is None
    assert due(Policy({"metrics": Rule(expire=2)}), TODAY, TODAY).stays == {"metrics": date(2026, 4, 18)}


def test_an_hour_of_the_last_final_day_holds_it_and_one_of_the_first_open_day_does_not():
    policy = Policy({"events": Rule(expire=38)})
    assert due(policy, TODAY, date(2026, 3, 14)).held_by is None
    assert due(policy, TODAY, date(2026, 3, 13)).held_by == date(2026, 3, 13)


def test_the_day_of_a_key():
    key = "archive/session/year=2026/month=03/day=11/part-0.parquet"
    assert (day_of(key), day_folder(key)) == (date(2026, 3, 11), "archive/session/year=2026/month=03/day=11")
    assert day_of("archive/session/year=2026/month=13/day=11/part-0.parquet") is None
    assert day_of("lake.json") is None


def test_objects_of_earlier_days_are_found_among_foreign_ones_and_topics(tmp_path):
    lake = LocalLake(tmp_path)
    events, archive = "processed/app_events", "archive"
    days = [f"year=2026/month=03/day={day}" for day in ("10", "11")]
    foreign = [f"{events}/_SUCCESS", f"{events}/year=2026/month=02/notes.txt", f"{events}/year=2026/month=13/day=01/x.parquet"]
    for key in (*foreign, *(f"{events}/{day}/hour=00/slot-00.parquet" for day in days)):
        lake.put_new(key, b"x")
    for topic in ("install", "session"):
        for day in days:
            lake.put_new(f"{archive}/{topic}/{day}/part-0.parquet", b"x")
    before = date(2026, 3, 11)
    assert [entry.key for entry in LAYERS["events"].objects(lake, before)] == [f"{events}/{days[0]}/hour=00/slot-00.parquet"]
    assert [entry.key for entry in LAYERS["archive"].objects(lake, before)] == [
        f"{archive}/{topic}/{days[0]}/part-0.parquet" for topic in ("install", "session")
    ]
