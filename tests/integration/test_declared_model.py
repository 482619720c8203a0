"""A declared metric of each kind, a dimension and a promoted column on a real lake, compared with direct SQL over events.

And the same lake under two models: old objects read with new ones, a day is of one model, a backfill brings all history.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from datetime import UTC, datetime, timedelta
from itertools import combinations

import lake_helpers
import pytest

from engagement.contract import TimeWindow
from engagement.errors import PermanentError
from engagement.model import units
from engagement.model.model import built_in
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.tables import big_table
from engagement.tables.objects import Candidate, read_rows
from engagement.waiting import refresh, waits
from quality import gates

MODEL = """
[columns.cart_cents]
from = "properties.cart.cents"
type = "int64"
comment = "value of the cart in cents"

[columns.plan]
from = "properties.plan"
type = "text"
comment = "plan of the user"

[dimensions.region]
column = "region"
all = "ALL_REGIONS"
comment = "as sent, else UNKNOWN"

[session_facts.taps]
sql = "count(*) FILTER (event_type = 'tap')"
comment = "events of type tap"

[metrics.taps]
kind = "additive"
of = "events"
sql = "count(*) FILTER (event_type = 'tap')"
comment = "events of type tap"

[metrics.cart_total]
kind = "additive"
of = "events"
sql = "sum(cart_cents)"
comment = "cents of all carts"

[metrics.tapping_users]
kind = "distinct"
where = "event_type = 'tap'"
comment = "distinct users with a tap"

[metrics.session_taps]
kind = "additive"
of = "sessions"
sql = "sum(taps)"
comment = "taps of sessions that started in the period"

[metrics.taps_per_session]
kind = "ratio"
numerator = "session_taps"
denominator = "total_sessions"
comment = "taps per session"

[metrics.median_taps]
kind = "median"
sql = "taps"
comment = "median taps of a session"
"""
WORDS = {"device_type": "ALL_DEVICES", "app_version": "ALL_VERSIONS", "country": "ALL_COUNTRIES", "region": "ALL_REGIONS"}
DAYS = [datetime(2026, 3, day, tzinfo=UTC) for day in (10, 11, 12)]
TOPIC = ("session", "5e" * 16, 0)


def history(seed=3):
    """Three days of a few busy hours, with sessions across both midnights; (event_time, document)."""
    draw = random.Random(seed)
    found = []
    for number in range(150):
        at = draw.choice(DAYS) + timedelta(hours=draw.choice([0, 1, 22, 23]), microseconds=draw.randrange(3_600_000_000))
        found.append((at, document(number, at, draw)))
    for day in DAYS[1:]:  # everybody taps around midnight
        for user, minutes in ((0, -4), (0, 3), (1, -9), (1, 8), (2, -2)):
            at = day + timedelta(minutes=minutes)
            found.append((at, document(len(found), at, draw) | {"user_id": f"u{user}", "event_type": "tap"}))
    return sorted(found, key=lambda item: item[0])


def document(number, at, draw):
    return {
        "event_id": f"0f8fad5b-d9cb-469f-a165-{number:012x}",
        "user_id": f"u{draw.randrange(5)}",
        "event_type": draw.choice(["tap", "tap", "screen_view", "install", "view_notification", "click_notification"]),
        "timestamp": at.isoformat(),
        "device_info": {"device_type": draw.choice(["iPhone", "iPad"])},
        "geo_location": {"country": draw.choice(["DE", "FR"]), "region": draw.choice(["BY", "NW", "ALL_REGIONS", None])},
        "app_version": draw.choice(["1.0", "2.0"]),
        "properties": {"cart": draw.choice([{"cents": 100}, {"cents": "250"}, {"cents": "much"}, None]), "plan": draw.choice(["free", 7])},
    }


def write(context, found):
    chain = topic_chain(*TOPIC)
    last = files.last_link(context.lake, chain)
    start = last.end if last else 0
    window = TimeWindow.of(context.format.history_start, 10**9, None)
    received = datetime(2026, 3, 20, tzinfo=UTC) + timedelta(minutes=start)
    records = [
        rows.Record(start + number, received, doc["user_id"].encode(), json.dumps(doc).encode()) for number, (_, doc) in enumerate(found)
    ]
    batch = rows.build(rows.Coordinates(*TOPIC), records, window, context.format.slot_minutes)
    assert not batch.rejects
    files.write(context.lake, chain, start, start + len(records), batch)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.toml"
    path.write_text(MODEL)
    return {"model": str(path)}


def judging(context):
    """The real gates, as every live run has them."""
    context.judge = lambda opened, table, candidate: gates.require(gates.judge(opened, table, candidate))
    return context


def made(folder, found, **overrides):
    with lake_helpers.tables_of(folder, **overrides) as context:
        write(judging(context), found)
        assert refresh.until_nothing_waits(context) < 6
        assert not waits.compute(context)
    return lake_helpers.settings_of(folder, **overrides)


@pytest.fixture(scope="module")
def fresh(tmp_path_factory, model):
    """A lake that has had the model from its first day."""
    return made(tmp_path_factory.mktemp("fresh"), history(), **model)


def subsets():
    return [chosen for size in range(len(WORDS) + 1) for chosen in combinations(WORDS, size)]


def direct(settings, source, period, columns):
    """`columns` over `source` for each period and all 16 subsets: (period, dimensions) -> row, one plain GROUP BY a subset."""
    keys = ["year", "month", "day", "hour"][: 4 if period == "hour" else 3]
    queries = []
    for chosen in subsets():
        level = ", ".join(name if name in chosen else f"'{word}' AS {name}" for name, word in WORDS.items())
        queries.append(f"SELECT {', '.join(keys)}, {level}, {columns} FROM {source} GROUP BY ALL")
    rows_ = lake_helpers.table(settings, " UNION ALL BY NAME ".join(queries))
    return {tuple(row.pop(key) for key in (*keys, *WORDS)): row for row in rows_}


def of_big_table(settings, period, names):
    which, keys = ("IS NOT NULL", ["year", "month", "day", "hour"]) if period == "hour" else ("IS NULL", ["year", "month", "day"])
    found = lake_helpers.table(settings, f"SELECT * FROM daily_aggregates_with_dimensions WHERE hour {which}")
    rows_ = {tuple(row[key] for key in (*keys, *WORDS)): {name: row[name] for name in names} for row in found}
    assert len(rows_) == len(found), "no row stands twice"
    return rows_


@pytest.mark.parametrize("period", ["hour", "day"])
def test_metrics_of_events_are_what_sql_over_events_says(period, fresh):
    expected = direct(
        fresh, "events", period,
        "count(*) FILTER (event_type = 'tap') AS taps, coalesce(sum(cart_cents), 0) AS cart_total, "
        "count(DISTINCT user_id) FILTER (event_type = 'tap') AS tapping_users, "
        "count(DISTINCT user_id) AS active_users, count(*) AS total_events",
    )  # fmt: skip
    found = of_big_table(fresh, period, ["taps", "cart_total", "tapping_users", "active_users", "total_events"])
    assert found == expected
    assert len({key[-1] for key in found}) == 4  # BY, NW, UNKNOWN, ALL_REGIONS
    assert any(row["tapping_users"] > 1 and row["cart_total"] > 0 for row in found.values())


@pytest.mark.parametrize("period", ["hour", "day"])
def test_metrics_of_sessions_are_what_sql_over_sessions_says(period, fresh):
    names = ["total_sessions", "session_taps", "median_taps", "taps_per_session"]
    expected = direct(
        fresh, "sessions", period,
        "count(*) AS total_sessions, sum(taps) AS session_taps, median(taps) AS median_taps, sum(taps) / count(*) AS taps_per_session",
    )  # fmt: skip
    found = of_big_table(fresh, period, names)
    none = {"total_sessions": 0, "session_taps": 0, "median_taps": None, "taps_per_session": None}
    assert found == {key: expected.get(key, none) for key in found}
    assert expected.keys() <= found.keys()


def test_a_fact_of_a_session_is_what_its_events_say(fresh):
    wrong = """
        SELECT s.session_key FROM sessions AS s JOIN events AS e
            ON e.user_id = s.user_id AND e.event_time BETWEEN s.started_at AND s.ended_at
        GROUP BY s.session_key, s.taps, s.region
        HAVING s.taps <> count(*) FILTER (e.event_type = 'tap') OR s.region <> arg_min(e.region, (e.event_time, e.event_id))"""
    assert lake_helpers.table(fresh, wrong) == []
    across = "SELECT max(taps) AS taps FROM sessions WHERE date_trunc('day', started_at) <> date_trunc('day', ended_at)"
    assert lake_helpers.table(fresh, across)[0]["taps"] >= 2


def test_a_promoted_column_is_typed_and_what_does_not_fit_is_counted(fresh):
    found = lake_helpers.table(fresh, "SELECT DISTINCT cart_cents, plan FROM events ORDER BY ALL")
    assert {row["cart_cents"] for row in found} == {100, 250, None}
    assert {row["plan"] for row in found} == {"free", None}
    sent = [doc["properties"] for _, doc in history()]
    with lake_helpers.tables_of(fresh.lake_path.parent, model=fresh.model) as context:
        footers = [context.footers.of(entry) for entry in context.lake.list(units.EVENTS)]
    for name, unfit in (("cart_cents", lambda p: p["cart"] == {"cents": "much"}), ("plan", lambda p: p["plan"] == 7)):
        assert sum(facts["unfit"][name] for facts in footers) == sum(map(unfit, sent)) > 0


def test_a_promoted_column_can_be_a_dimension_of_another_name(tmp_path):
    path = tmp_path / "model.toml"
    path.write_text(
        '[columns.plan]\nfrom = "properties.plan"\ntype = "text"\ncomment = "x"\n'
        '[dimensions.tier]\ncolumn = "plan"\nall = "ALL_TIERS"\ncomment = "x"\n'
    )
    found = [
        (at, doc | {"properties": {"plan": plan}}) for (at, doc), plan in zip(history(), ("free", "", "OTHER", 7, "paid"), strict=False)
    ]
    settings = made(tmp_path / "lake", found, model=str(path), max_dimension_values=2)
    tiers = "SELECT tier, sum(total_events) AS n FROM daily_aggregates_with_dimensions WHERE hour IS NULL AND device_type = 'ALL_DEVICES' "
    tiers += "AND app_version = 'ALL_VERSIONS' AND country = 'ALL_COUNTRIES' GROUP BY ALL ORDER BY tier"
    assert lake_helpers.table(settings, tiers) == [
        {"tier": "ALL_TIERS", "n": 5}, {"tier": "OTHER", "n": 1}, {"tier": "UNKNOWN", "n": 3}, {"tier": "free", "n": 1},
    ]  # fmt: skip
    assert {row["plan"] for row in lake_helpers.table(settings, "SELECT plan FROM events")} == {"free", "UNKNOWN", "paid"}
    assert {row["tier"] for row in lake_helpers.table(settings, "SELECT tier FROM sessions")} <= {"free", "UNKNOWN", "paid"}


# Two models


def versions(context, *days):
    return {
        entry.key: entry.version
        for folder in ("processed", "aggregated")
        for entry in context.lake.list(folder)
        if units.day_of_key(entry.key) in {day.date() for day in days}
    }


def everything(settings):
    """Every row of every table, as people see them."""
    tables = ("events", "session_fragments", "user_activity", "sessions", "daily_aggregates_with_dimensions")
    return {name: sorted(map(str, lake_helpers.table(settings, f"SELECT * FROM {name}"))) for name in tables}


@pytest.fixture(scope="module")
def changed(tmp_path_factory, model):
    """A lake of the built-in model; the model is declared, one event of the middle day arrives, what waits is refreshed."""
    folder = tmp_path_factory.mktemp("changed")
    early = history()
    late = early.pop(next(number for number, (at, _) in enumerate(early) if at.date() == DAYS[1].date() and at.hour == 1))
    made(folder, early)
    before = everything(lake_helpers.settings_of(folder))
    settings = lake_helpers.settings_of(folder, **model)
    with lake_helpers.tables_of(folder, **model) as context:
        at_rest = waits.compute(context)
        unread = versions(context, *DAYS)
        seen = everything(settings)
        write(judging(context), [late])
        waiting = []
        refresh.hours(context, list(waits.compute(context).hours))
        waiting.append(waits.compute(context))
        refresh.until_nothing_waits(context)
        facts = {
            "at_rest": at_rest, "waiting": waiting[0], "end": waits.compute(context), "seen": seen, "before": before, "old": unread,
            "new": versions(context, *DAYS), "border": versions(context, DAYS[0], DAYS[2]),
        }  # fmt: skip
    return settings, facts


def test_a_new_model_alone_makes_nothing_wait(changed):
    _, facts = changed
    assert not facts["at_rest"]


def test_old_objects_read_as_rows_over_all_values_of_the_new_dimension(changed):
    settings, facts = changed
    assert {name: len(found) for name, found in facts["seen"].items()} == {name: len(found) for name, found in facts["before"].items()}
    old_day = "SELECT DISTINCT region, taps, tapping_users, taps_per_session FROM daily_aggregates_with_dimensions WHERE day = 10"
    assert lake_helpers.table(settings, old_day) == [
        {"region": "ALL_REGIONS", "taps": None, "tapping_users": None, "taps_per_session": None}
    ]
    assert lake_helpers.table(settings, "SELECT DISTINCT taps, region FROM sessions WHERE day = 10") == [{"taps": None, "region": None}]
    assert {row["region"] for row in lake_helpers.table(settings, "SELECT region FROM events WHERE day = 10")} >= {"BY", "NW", "UNKNOWN"}


def test_the_other_hours_of_a_day_wait_as_soon_as_one_is_of_the_new_model(changed):
    _, facts = changed
    waiting = facts["waiting"]
    assert set(waiting.hours.values()) == {"model"}
    assert {hour.date() for hour in waiting.hours} == {DAYS[1].date()}
    assert waiting.days == {}, "day rows wait until all hours of the day are of one model"
    assert not facts["end"]


def test_other_days_are_left_to_a_backfill(changed):
    _, facts = changed
    assert facts["border"] == {key: version for key, version in facts["old"].items() if key in facts["border"]}
    assert facts["new"] != facts["old"]


def test_the_day_of_the_new_model_is_right(changed, fresh):
    settings, _ = changed
    day = "SELECT * FROM daily_aggregates_with_dimensions WHERE day = 11"
    # Sessions that run into the next day count what the old fragments there cannot say only after its backfill.
    borders = ("session_taps", "taps_per_session", "median_taps")

    def comparable(settings_):
        return sorted(
            str({name: value for name, value in row.items() if name not in borders}) for row in lake_helpers.table(settings_, day)
        )

    assert comparable(settings) == comparable(fresh)


def test_old_hours_beside_new_ones_in_one_object_read_together(tmp_path, model):
    folder = tmp_path / "lake"
    found = [(at, doc) for at, doc in history() if at.date() == DAYS[0].date() and at.hour in (0, 22)]
    made(folder, found)
    first, second = DAYS[0], DAYS[0] + timedelta(hours=22)
    with lake_helpers.tables_of(folder, **model) as context:
        refresh.hours(judging(context), [second])
        settings = context.settings
        both = lake_helpers.table(settings, "SELECT hour, region, taps FROM daily_aggregates_with_dimensions WHERE hour IS NOT NULL")
        assert {(row["region"], row["taps"]) for row in both if row["hour"] == 0} == {("ALL_REGIONS", None)}
        assert {row["region"] for row in both if row["hour"] == 22} > {"ALL_REGIONS"}
        assert waits.compute(context).hours == {first: "model"}
        # Day rows, or hour rows alone, are never made of two models.
        assert "another model" in big_table.refresh_day(context, first.date()).held
        assert "another model" in big_table.refresh_hours(context, first.date(), [first], rebuild=True)[first].held
        refresh.until_nothing_waits(context)
        assert not waits.compute(context)


def linked(settings, folder):
    """The lake once more, its objects of the same versions: they are hard links, and nothing is ever written in place."""
    shutil.copytree(settings.lake_path, folder / "lake", copy_function=os.link)
    return lake_helpers.settings_of(folder, model=settings.model)


def test_a_backfill_brings_the_history_to_a_fresh_lake_of_the_model(changed, fresh, tmp_path):
    settings = linked(changed[0], tmp_path)
    with lake_helpers.tables_of(tmp_path, model=settings.model) as context:
        judging(context)
        for day in DAYS:
            refresh.hours(context, units.hours_of(day.date()), rebuild=True)
            big_table.refresh_day(context, day.date(), rebuild=True)
        refresh.until_nothing_waits(context)
        assert not waits.compute(context)
    coordinates = "kafka_partition, kafka_offset, received_at"
    tables = {"events": f"EXCLUDE ({coordinates})"} | dict.fromkeys(
        ("session_fragments", "user_activity", "sessions", "daily_aggregates_with_dimensions"), ""
    )
    for name, without in tables.items():
        query = f"SELECT * {without} FROM {name}"
        assert sorted(map(str, lake_helpers.table(settings, query))) == sorted(map(str, lake_helpers.table(fresh, query))), name


def test_without_the_dimension_again_only_rows_over_all_its_values_are_read(changed, tmp_path):
    plain = made(tmp_path / "plain", history())
    linked(changed[0], tmp_path)
    back = lake_helpers.settings_of(tmp_path, model="")
    keys = ", ".join(["year", "month", "day", "hour", *WORDS][:-1])
    query = f"SELECT {keys}, total_events, active_users FROM daily_aggregates_with_dimensions"
    assert sorted(map(str, lake_helpers.table(back, query))) == sorted(map(str, lake_helpers.table(plain, query)))
    assert "region" not in lake_helpers.table(back, "SELECT * FROM daily_aggregates_with_dimensions LIMIT 1")[0]
    with lake_helpers.tables_of(tmp_path, model="") as context:
        assert not waits.compute(context)
        assert context.model is built_in()


def test_the_page_shows_numbers_over_all_values_of_a_dimension_that_it_does_not_offer(fresh):
    from engagement.dashboard import data

    now = DAYS[2] + timedelta(hours=23, minutes=30)
    shown = data.snapshot(fresh, "ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES", now)
    day = "SELECT count(DISTINCT user_id) AS users, count(*) FILTER (event_type = 'install') AS installs FROM events WHERE day = 12"
    assert [{"users": shown.today.active_users, "installs": shown.today.installs}] == lake_helpers.table(fresh, day)
    assert shown.choices["country"] == data.choices(fresh, now)["country"]
    assert sorted(shown.choices["country"]) == ["ALL_COUNTRIES", "DE", "FR"]


def test_gates_see_a_wrong_row_of_a_declared_metric_and_of_a_declared_dimension(fresh):
    import pyarrow.compute as pc

    key = units.day_key(DAYS[1].date())
    with lake_helpers.tables_of(fresh.lake_path.parent, model=fresh.model) as context:
        found = read_rows(context.lake, context.lake.stat(key))

        def violations(rows_):
            results = gates.judge(context, units.BIG_TABLE, Candidate(rows_, {}, None, key))
            return {result.check: result.violations for result in results if result.status == "failed"}

        assert violations(found) == {}
        place = found.schema.get_field_index("taps")
        one_more = pc.add(found["taps"], pc.if_else(pc.equal(found["region"], "BY"), 1, 0))
        assert violations(found.set_column(place, found.schema.field(place), one_more))["all_rows_add_up"] > 0
        assert violations(found.filter(pc.not_equal(found["region"], "ALL_REGIONS")))["all_rows_add_up"] > 0
        old = found.filter(pc.equal(found["region"], "ALL_REGIONS"))
        assert violations(old)["all_rows_add_up"] > 0
        of_other_model = gates.judge(context, units.BIG_TABLE, Candidate(old, {"model": built_in().digest}, None, key))
        assert gates.verdict(of_other_model) is None


def test_the_word_of_a_dimension_is_kept(fresh, tmp_path):
    other = tmp_path / "model.toml"
    for text, message in (
        (MODEL.replace("ALL_REGIONS", "ALL_LANDS"), "rows of this lake say ALL_REGIONS, keep the word"),
        ("[metrics.region_taps]\nkind = 'additive'\nof = 'events'\nsql = 'count(*)'\ncomment = 'x'\n", None),
    ):
        other.write_text(text)
        if message is None:
            with lake_helpers.tables_of(fresh.lake_path.parent, model=str(other)) as context:
                assert context.retired == {"region": "ALL_REGIONS"}
        else:
            with (
                pytest.raises(PermanentError, match=message),
                lake_helpers.tables_of(fresh.lake_path.parent, model=str(other)),
            ):
                pass
