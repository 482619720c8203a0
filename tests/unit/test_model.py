"""The declared model: what a file may say, in one clear line what it may not, and what the SQL files make of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engagement.model import expressions, rendering, schemas, units
from engagement.model.model import Model, ModelError, built_in, parse

COLUMN = """[columns.cart_cents]
from = "properties.cart.cents"
type = "int64"
comment = "value of the cart"
"""
REGION = """[dimensions.region]
column = "region"
all = "ALL_REGIONS"
comment = "as sent, else UNKNOWN"
"""
TAPS = """[metrics.taps]
kind = "additive"
of = "events"
sql = "count(*) FILTER (event_type = 'tap')"
comment = "events of type tap"
"""


def judged(text: str) -> Model:
    return expressions.check(parse(text, "model.toml"), "model.toml")


def additive(sql: str, of: str = "events") -> str:
    return f"[metrics.mine]\nkind = 'additive'\nof = '{of}'\nsql = '''{sql}'''\ncomment = 'x'\n"


def distinct(where: str) -> str:
    return f"[metrics.mine]\nkind = 'distinct'\nwhere = '''{where}'''\ncomment = 'x'\n"


def ratio(numerator: str, denominator: str) -> str:
    return f"[metrics.mine]\nkind = 'ratio'\nnumerator = '{numerator}'\ndenominator = '{denominator}'\ncomment = 'x'\n"


def test_what_is_built_in_passes_its_own_rules():
    model = built_in()
    assert expressions.check(model, "built_in.toml", everything=True) is model
    assert model.additive == (
        "total_events",
        "total_installs",
        "total_sessions",
        "total_views",
        "notification_views",
        "notification_clicks",
    )
    assert model.reserved == ("ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES", "OTHER")


def test_the_example_of_the_docs_is_what_the_docs_show():
    docs = Path(__file__).parents[2] / "docs"
    example = judged((docs / "examples" / "model.toml").read_text())
    shown = judged(re.search(r"```toml\n(.*?)```", (docs / "custom-metrics.md").read_text(), re.DOTALL)[1])
    assert {"taps_per_session", "tapping_users"} <= {metric.name for metric in example.shown}
    for section in ("columns", "dimensions", "facts", "metrics"):
        assert getattr(shown, section).items() <= getattr(example, section).items()


def test_what_is_declared_comes_after_what_is_built_in():
    model = judged(COLUMN + REGION + TAPS)
    assert list(model.dimensions) == ["device_type", "app_version", "country", "region"]
    assert list(schemas.columns(units.BIG_TABLE, model))[:5] == ["hour", "device_type", "app_version", "country", "region"]
    assert list(schemas.columns(units.BIG_TABLE, model))[-1] == "taps"
    assert schemas.columns(units.EVENTS, model)["cart_cents"].kind == "int64"
    assert "region" in schemas.columns(units.SESSIONS, model)
    assert "taps" not in schemas.columns(units.SESSIONS, model)


@pytest.mark.parametrize(
    "sql",
    [
        "count(*) FILTER (event_type = 'a;b -- c')",
        "sum(cart_cents)",
        "count_if(event_type = 'tap')",
        "sum(\n  epoch_us(received_at) -- the log\n  - epoch_us(event_time))",
        "sum(CASE WHEN event_type = 'tap' THEN 2 ELSE 1 END)",
    ],
)
def test_an_additive_metric_is_one_sum_of_whole_numbers(sql):
    assert judged(COLUMN + additive(sql)).metrics["mine"].sql == sql


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # no TOML, no such thing
        ("x = ", "not readable as TOML"),
        ("[metric.x]\n", "unknown 'metric'; valid are columns, dimensions, session_facts, metrics"),
        ("metrics = 1\n", "expected tables [metrics.NAME]"),
        (TAPS.replace("comment", "coment"), "[metrics.taps] (kind additive): unknown 'coment'; valid are kind, comment, hidden, of, sql"),
        (TAPS.replace('"additive"', '"sum"'), "[metrics.taps] kind = 'sum': expected one of additive, distinct, median, ratio"),
        (TAPS.replace('"events"', '"users"'), "[metrics.taps] of = 'users': expected one of events, sessions"),
        (TAPS.split("comment", maxsplit=1)[0], "[metrics.taps] comment is missing"),
        (TAPS + "hidden = 1\n", "hidden = 1: expected true or false"),
        (REGION.replace("ALL_REGIONS", "all"), "[dimensions.region] all = 'all': expected a word like ALL_REGIONS"),
        (COLUMN.replace("properties.cart", "props.cart"), "[columns.cart_cents] from = 'props.cart.cents': expected a path"),
        (COLUMN.replace("cart.cents", "cart'--.cents"), "expected a path into the properties"),
        (COLUMN.replace("int64", "integer"), "type = 'integer': expected one of text, int64, double, bool, instant"),
        ("[metrics.m]\nkind='median'\nsql='event_count'\nscale=0\ncomment='x'\n", "scale = 0: expected a whole number from 1"),
        # names
        (TAPS.replace(".taps", ".Taps"), "[metrics.Taps] a name is small letters"),
        (TAPS.replace(".taps", ".total_events"), "[metrics.total_events] is built in already"),
        (TAPS.replace(".taps", ".order"), "[metrics.order] order is a word of SQL"),
        (TAPS.replace(".taps", ".hour"), "[metrics.hour] hour is a path key already"),
        (TAPS.replace(".taps", ".user_id"), "[metrics.user_id] user_id is a column of events already"),
        (TAPS.replace(".taps", ".place"), "[metrics.place] place is a name that our SQL uses already"),
        (COLUMN.replace(".cart_cents]", ".city]"), "[columns.city] city is a column of events already"),
        (REGION + TAPS.replace(".taps", ".region"), "region is a metric already"),
        ("[session_facts.open_until]\nsql='count(*)'\ncomment='x'\n", "open_until is a column of sessions already"),
        # dimensions
        (REGION.replace('"region"', '"regoin"'), "[dimensions.region] column = 'regoin': no column of events; they are event_id"),
        (COLUMN + REGION.replace('"region"', '"cart_cents"'), "is of type BIGINT: a dimension is a text"),
        (REGION.replace('"region"', '"country"'), "is another column of events"),
        (REGION.replace(".region]", ".land]").replace('"region"', '"country"'), "is the column of another dimension"),
        (REGION.replace(".region]", ".who]").replace('"region"', '"user_id"'), "column = 'user_id' cannot be a dimension"),
        (REGION.replace(".region]", ".screen]").replace('"region"', '"screen"'), "column = 'screen' cannot be a dimension"),
        (REGION.replace("ALL_REGIONS", "ALL_DEVICES"), "all = 'ALL_DEVICES' is another dimension's word"),
        # references
        (ratio("tabs", "total_events"), "numerator = 'tabs': expected the name of an additive or distinct metric"),
        (ratio("total_events", "total_event"), "nearest: total_events"),
        (ratio("total_events", "bounce_rate"), "denominator = 'bounce_rate': expected the name of an additive"),
        # expressions
        (additive("count(*) FILTER (event_typ = 'tap')"), "no column event_typ; nearest: event_type"),
        (additive("sum(1.5)"), "gives DECIMAL(38,1): expected whole numbers"),
        (additive("sum(event_type)"), "sum(VARCHAR)"),
        (additive("count(DISTINCT user_id)"), 'distinct users are kind = "distinct"'),
        (additive("max(kafka_offset)"), "expected one sum(…), count(…) or count_if(…) and nothing around it"),
        (additive("sum(kafka_offset) + 1"), "and nothing around it"),
        (additive("sum(count(*))"), "an aggregate inside an aggregate"),
        (additive("count(*) OVER ()"), "a window may not stand here"),
        (additive("sum((SELECT 1))"), "a subquery may not stand here"),
        (additive("sum($hour)"), "a parameter may not stand here"),
        (additive("sum(#1)"), "a positional reference may not stand here"),
        (additive("count(COLUMNS(*))"), "a star may not stand here"),
        (additive("sum(CAST(random() * 10 AS INTEGER))"), "random differs from run to run"),
        (additive("sum(current_date - DATE '2020-01-01')"), "no column current_date"),
        (additive("sum(nosuch(user_id))"), "nosuch does not exist"),
        (additive("count({'a': 1})"), "a brace may not stand here"),
        (additive("sum(event_count)"), "no column event_count"),
        (additive("sum(kafka_offset)", "sessions"), "no column kafka_offset"),
        (distinct("count(*) > 1"), "the aggregate count_star may not stand here, expected a condition of one event"),
        (distinct("wavg(kafka_offset, 1) > 1"), "nested"),
        (distinct("event_type"), "gives VARCHAR: expected a condition of one event"),
        ("[metrics.m]\nkind='median'\nsql='duration_seconds'\ncomment='x'\n", "gives DOUBLE: expected a whole number of one session"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_one_line(text, message):
    with pytest.raises(ModelError) as told:
        judged(text)
    assert str(told.value).startswith("model.toml: ")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "sql",
    [
        "count(*); DROP TABLE x",
        "count(*)) AS v FROM x; DROP TABLE x; SELECT (1",
        "count(*)) FROM slot_events; --",
        "count(*) --",
        "count(*) /*",
        "count(*) AS a, count(*)",
        "count(*), count(*)",
        "count(*)) AS the_value_of_this_expression FROM the_rows_of_this_model UNION SELECT (1",
        "count(*) AS the_value_of_this_expression FROM the_rows_of_this_model; DROP TABLE x; SELECT 1",
        "",
    ],
)
def test_no_second_thing_gets_in(sql):
    for text in (additive(sql), distinct(sql)):
        with pytest.raises(ModelError):
            judged(text)


def test_seven_dimensions_are_too_many():
    text = "".join(
        REGION.replace("region", name).replace("ALL_REGIONS", f"ALL_{name.upper()}") for name in ("city", "locale", "screen", "region")
    )
    with pytest.raises(ModelError, match="7 dimensions; 6 are the most"):
        judged(text)


def test_models_that_make_the_same_rows_have_one_digest():
    assert judged(TAPS).digest == judged(TAPS.replace("events of type tap", "taps")).digest
    assert judged(TAPS + REGION).digest == judged(REGION + TAPS).digest
    digests = {
        parse(text, "m").digest for text in ("", TAPS, REGION, TAPS.replace("'tap'", "'swipe'"), COLUMN, COLUMN.replace("int64", "double"))
    }
    assert len(digests) == 6
    assert parse("", "m").digest == built_in().digest


# The SQL


def test_no_mark_is_left_and_every_list_is_named_somewhere():
    from engagement.tables import engine

    texts = {name: (engine._SQL / f"{name}.sql").read_text() for name in ("events", "user_activity", "fragments", "sessions", "big_table")}
    named = set(re.findall(r"\{(\w+)\.\w+\}", "".join(texts.values())))
    assert named == set(rendering.lists(built_in()))
    for name, text in texts.items():
        rendered = rendering.render(text, judged(COLUMN + REGION + TAPS))
        assert not re.search(r"\{\{|\}\}|\{\w+\.\w+\}", rendered), name


def test_a_line_that_names_a_list_stands_once_for_each_item():
    text = "SELECT\n    sum({count.name}) AS {count.name},\n    {{dimensions}}\n"
    rendered = rendering.render(text, judged(TAPS))
    assert rendered.startswith("SELECT\n    sum(total_events) AS total_events,\n    sum(total_installs) AS total_installs,\n")
    assert rendered.endswith("    sum(taps) AS taps,\n    device_type, app_version, country\n")


def test_lines_between_each_and_end_stand_once_for_each_item():
    text = "a\n-- {{each dimension}}\n-- of {dimension.name}\nx_{dimension.name} AS ({count.name}),\n-- {{end}}\nb\n"
    assert rendering.render(text, built_in()).startswith("a\n-- of device_type\nx_device_type AS (total_events),\n")
    assert rendering.render(text, built_in()).endswith("b\n")


def test_a_mark_that_names_no_list_is_an_error():
    with pytest.raises(KeyError):
        rendering.render("-- {{each nothing}}\nx\n-- {{end}}\n", built_in())
    with pytest.raises(KeyError):
        rendering.render("{{nothing}}", built_in())


@pytest.mark.parametrize(
    ("kind", "json", "value"),
    [
        ("text", '"a"', "a"), ("text", '""', ""), ("text", "1", None), ("text", "[1]", None), ("text", "null", None),
        ("int64", "12", 12), ("int64", '"12"', 12), ("int64", "12.0", 12), ("int64", "1.5", None), ("int64", "true", None),
        ("int64", "9223372036854775807", 2**63 - 1),
        ("int64", "9223372036854775808", None), ("int64", '"x"', None), ("int64", '{"a":1}', None),
        ("double", "1.5", 1.5), ("double", '"1.5"', 1.5), ("double", '"nan"', None), ("double", '"inf"', None), ("double", "1e400", None),
        ("bool", "true", True), ("bool", '"false"', False), ("bool", "1", None), ("bool", '"yes"', None),
        ("instant", '"2026-03-11T10:00:00+01:00"', "2026-03-11 09:00:00+00"), ("instant", '"2026-03-11 10:00"', "2026-03-11 10:00:00+00"),
        ("instant", '"infinity"', None), ("instant", '"yesterday"', None), ("instant", "17", None),
    ],
)  # fmt: skip
def test_a_promoted_column_is_its_value_or_null_and_then_counted(kind, json, value):
    import duckdb

    column = parse(COLUMN.replace("int64", kind), "m").columns["cart_cents"]
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    shown = "VARCHAR" if kind == "instant" else schemas.DUCKDB_TYPES[kind]
    query = f"SELECT CAST({rendering.promoted(column, 'p')} AS {shown}), {rendering.unfit(column, 'p')} FROM (SELECT ? AS p)"
    found, unfit = con.execute(query, ['{"cart": {"cents": ' + json + "}}"]).fetchall()[0]
    assert found == value
    assert bool(unfit) == (value is None and json != "null")


@pytest.mark.parametrize("properties", [None, "", "no json", "[]", "{}", '{"cart": 1}', '{"cart": null}'])
def test_properties_without_the_value_give_null_and_are_not_counted(properties):
    import duckdb

    column = parse(COLUMN, "m").columns["cart_cents"]
    query = f"SELECT {rendering.promoted(column, 'p')}, {rendering.unfit(column, 'p')} FROM (SELECT ? AS p)"
    assert duckdb.execute(query, [properties]).fetchall() == [(None, False)]


# The schemas


def test_every_column_of_every_table_has_a_type_and_a_meaning():
    found = schemas.described(judged(COLUMN + REGION + TAPS))
    assert {row["table"] for row in found} == set(schemas.NAMES.values())
    assert all(row["comment"].strip() and row["type"] for row in found)
    assert len({(row["table"], row["column"]) for row in found}) == len(found)
    assert {"table": "events", "column": "cart_cents", "type": "BIGINT", "comment": "value of the cart"} in found
