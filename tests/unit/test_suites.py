"""Every constraint passes on what is right and fails on what it is there to find; none may lack such a case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest

from engagement.contract import TimeWindow
from engagement.model.model import built_in, parse
from engagement.raw import files, rows
from engagement.raw.names import topic_chain
from engagement.verdicts.result import Period, Status
from engagement.waiting import refresh
from quality import checking, looking, twin
from quality.constraints import Kind, Threshold
from quality.measured import Measured, status
from quality.suites import suites

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
PERIODS = {"hour": Period(HOUR), "day": Period.of_day(HOUR.date())}

# Constraint -> the view that is broken, and what it then shows of the `good` rows.
TWICE = "SELECT * FROM good UNION ALL SELECT * FROM good"
REJECT = "SELECT * REPLACE ('{reason}' AS reject_reason) FROM good"


def with_(column, value):
    return f"SELECT * REPLACE ({value} AS {column}) FROM good"


BROKEN = {
    "records_once": ("raw", TWICE),
    "coordinates_present": ("raw", with_("kafka_offset", "CAST(NULL AS BIGINT)")),
    "good_records_typed": ("raw", with_("user_id", "CAST(NULL AS VARCHAR)")),
    "rejects_hold_no_event": ("raw", REJECT.format(reason="bad_json")),
    "erased_hold_nothing": ("raw", REJECT.format(reason="erased")),
    "reasons_known": ("raw", REJECT.format(reason="because")),
    "event_ids_are_uuids": ("raw", with_("event_id", "'x' || event_id")),
    "user_ids_bounded": ("raw", with_("user_id", "repeat('u', 129)")),
    "events_in_time": ("raw", with_("event_time", "event_time + INTERVAL 1 DAY")),
    "records_accepted": ("raw", REJECT.format(reason="bad_json")),
    "key_is_user_id": ("log", with_("other_key", "1")),
    "types_on_their_topics": ("log", with_("other_family", "1")),
    "late_share": ("log", with_("late", "good")),
    "no_repeated_events": ("events", TWICE),
    "keys_present": ("events", with_("user_id", "CAST(NULL AS VARCHAR)")),
    "records_become_one_event": ("events", with_("kafka_offset", "CAST(1 AS BIGINT)")),
    "in_their_hour": ("events", with_("event_time", "event_time + INTERVAL 1 HOUR")),
    "ids_in_lower_case": ("events", with_("event_id", "upper(event_id)")),
    "dimensions_named": ("events", with_("country", "'ALL_COUNTRIES'")),
    "types_in_snake_case": ("events", with_("event_type", "'ScreenView'")),
    "countries_in_iso": ("events", with_("country", "'Germany'")),
    "versions_known": ("events", with_("app_version", "'UNKNOWN'")),
    "devices_known": ("events", with_("device_type", "'UNKNOWN'")),
    "screens_named": ("events", with_("screen", "CAST(NULL AS VARCHAR)")),
    "client_sessions_sent": ("events", with_("session_id", "CAST(NULL AS VARCHAR)")),
    "events_accounted_for": ("facts", with_("rows_held", "rows_held + 1")),
    "raw_taken_up": ("facts", with_("good_rows", "good_rows + 1")),
    "copies_share": ("facts", with_("duplicates", "rows_in")),
    "events_in_fragments": ("session_fragments", with_("event_count", "event_count + 1")),
    "fragments_span_events": ("session_fragments", with_("started_at", "started_at + INTERVAL 1 SECOND")),
    "fragments_not_negative": ("session_fragments", with_("screen_views", "CAST(-1 AS BIGINT)")),
    "events_in_activity": ("user_activity", with_("total_events", "total_events + 1")),
    "activity_not_negative": ("user_activity", with_("total_views", "CAST(-1 AS BIGINT)")),
    "no_repeated_sessions": ("sessions", TWICE),
    "session_keys_present": ("sessions", with_("user_id", "CAST(NULL AS VARCHAR)")),
    "sessions_in_order": ("sessions", with_("ended_at", "started_at - INTERVAL 1 SECOND")),
    "sessions_have_events": ("sessions", with_("event_count", "CAST(0 AS BIGINT)")),
    "engaged_or_bounced": ("sessions", with_("is_bounce", "is_engaged")),
    "start_in_their_hour": ("sessions", with_("started_at", "started_at + INTERVAL 1 HOUR")),
    "screens_agree": ("sessions", with_("exit_screen", "CAST(NULL AS VARCHAR)")),
    "sessions_end": ("sessions", with_("duration_seconds", "CAST(43201 AS DOUBLE)")),
    "sessions_are_whole": ("near_fragments", with_("event_count", "event_count + 1")),
    "sessions_span_fragments": ("near_fragments", with_("ended_at", "ended_at + INTERVAL 1 SECOND")),
    "fragments_in_one_session": ("near_sessions", TWICE),
    "no_repeated_rows": ("{rows}", TWICE),
    "counts_present": ("{rows}", with_("total_events", "CAST(NULL AS BIGINT)")),
    "counts_not_negative": ("{rows}", with_("total_views", "CAST(-1 AS BIGINT)")),
    "distinct_within_events": ("{rows}", with_("active_users", "total_events + 1")),
    "rates_in_range": ("{rows}", with_("bounce_rate", "CAST(1.5 AS DOUBLE)")),
    "ratios_exact": ("{rows}", "SELECT * REPLACE (CAST(1 AS BIGINT) AS notification_views, 0.5 AS notification_ctr) FROM good"),
    "all_rows_add_up": ("{rows}", "SELECT * FROM good WHERE country <> 'ALL_COUNTRIES'"),
    "events_counted": ("user_activity", with_("total_events", "total_events + 1")),
    "users_counted": ("user_activity", with_("user_id", "'one'")),
    "sessions_counted": ("sessions", TWICE),
    "durations_add_up": ("sessions", with_("duration_seconds", "duration_seconds + 1")),
    "day_events_counted": ("user_activity", with_("total_events", "total_events + 1")),
    "day_users_counted": ("user_activity", with_("user_id", "'one'")),
    "day_is_sum_of_hours": ("hour_rows", with_("total_events", "total_events + 1")),
    "users_between_hours_and_sum": ("day_rows", with_("active_users", "active_users + 100")),
}
CASES = [(suite, constraint) for suite in suites() for constraint in suite.constraints]
NAMES = [f"{suite.name}-{constraint.name}" for suite, constraint in CASES]


def event(number, minutes, user, **changes):
    at = HOUR + timedelta(minutes=minutes)
    made = {"user_id": user, "received_at": HOUR + timedelta(minutes=59), "session_id": f"s-{user}"} | changes
    return lake_helpers.screen_view(number, at, **made)


HISTORY = [
    event(0, 1, "u1"), event(1, 5, "u2", country="FR"), event(2, 2, "u1", app_version="1.9"), event(3, 50, "u1"),
    event(4, 20, "u3", event_type="install", screen=None), event(5, 80, "u2", received_at=HOUR + timedelta(minutes=81)),
]  # fmt: skip


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with lake_helpers.tables_of(tmp_path_factory.mktemp("suites")) as found:
        lake_helpers.write(found, HISTORY)
        refresh.until_nothing_waits(found)
        yield found


def measured(context, suite, constraint, broken=None):
    period = PERIODS[suite.period]
    looking.open_views(context, period, looking.named_in(suite.rows, suite.period))
    if broken:
        view, sql = broken
        view = view.format(rows=f"{suite.period}_rows")
        context.con.execute(f"CREATE OR REPLACE TEMP TABLE good AS SELECT * FROM {view}")
        context.con.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {sql}")
    (found,) = twin.measure(context.con, suite.rows, [constraint])
    assert not found.problem, found.problem
    return found


def test_every_constraint_has_a_case_in_which_it_fails_and_no_case_is_of_none():
    assert {constraint.name for _, constraint in CASES} == set(BROKEN)


@pytest.mark.parametrize(("suite", "constraint"), CASES, ids=NAMES)
def test_a_constraint_passes_what_is_right(suite, constraint, context):
    found = measured(context, suite, constraint)
    assert status(constraint, found) in (Status.PASSED, Status.EMPTY), found


@pytest.mark.parametrize(("suite", "constraint"), CASES, ids=NAMES)
def test_a_constraint_fails_what_it_is_there_to_find(suite, constraint, context):
    found = measured(context, suite, constraint, BROKEN[constraint.name])
    assert status(constraint, found) is Status.FAILED, found


def test_names_are_of_one_check_an_asset_and_gates_are_errors_of_structure():
    names = [(suite.asset, constraint.name) for suite, constraint in CASES]
    assert len(names) == len(set(names))
    assert all(constraint.severity == "error" for _, constraint in CASES if constraint.gate)
    assert all(constraint.hint and constraint.description.endswith(".") for _, constraint in CASES)


def test_declared_metrics_and_dimensions_are_checked_like_the_built_in_ones():
    model = parse(
        '[dimensions.region]\ncolumn = "region"\nall = "ALL_REGIONS"\ncomment = "r"\n'
        '[metrics.taps]\nkind = "additive"\nof = "events"\nsql = "count(*) FILTER (event_type = \'tap\')"\ncomment = "t"\n',
        "model.toml",
    )
    text = str(suites(model))
    assert "ALL_REGIONS" in text
    assert "taps" in text
    assert "ALL_REGIONS" not in str(suites(built_in()))


def test_an_hour_without_anything_gives_empty_results_and_none_that_passes(context):
    found = list(
        checking.check(context, [Period(HOUR + timedelta(days=9)), Period.of_day(HOUR.date() + timedelta(days=9))], engine="duckdb")
    )
    assert len(found) == len(CASES)
    assert {result.status for result in found} == {Status.EMPTY}


def test_all_suites_pass_on_what_the_pipeline_made(context):
    found = list(checking.check(context, list(PERIODS.values()), engine="duckdb"))
    assert [(result.check, result.message) for result in found if result.status in (Status.FAILED, Status.BROKEN)] == []
    gates = list(checking.check(context, list(PERIODS.values()), engine="gates"))
    assert {result.engine for result in gates} == {"gate"}
    assert {result.check for result in gates} == {constraint.name for _, constraint in CASES if constraint.gate}


def test_rejects_are_looked_at_by_the_hour_in_which_they_came(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        window = TimeWindow.of(context.format.history_start, 300, 30)
        bad = [rows.Record(number, HOUR, b"u1", b"{") for number in range(3)]
        batch = rows.build(rows.Coordinates("session", "5e" * 16, 0), bad, window, 60)
        files.write(context.lake, topic_chain("session", "5e" * 16, 0), 0, 3, batch)
        found = {result.check: result for result in checking.check(context, [PERIODS["hour"]], engine="duckdb")}
        assert found["records_accepted"].status is Status.FAILED
        assert found["records_accepted"].message == "3 of 3 rows"
        assert found["reasons_known"].status is Status.PASSED
        assert found["good_records_typed"].status is Status.EMPTY


def test_an_object_that_cannot_be_read_breaks_its_suites_and_no_other(tmp_path):
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, HISTORY)
        refresh.until_nothing_waits(context)
        (entry,) = [entry for entry in context.lake.list("processed/sessions") if "hour=10" in entry.key]
        context.lake.path(entry.key).write_bytes(b"PAR1 no more PAR1")
        found = list(checking.check(context, [PERIODS["hour"]], engine="duckdb"))
        broken = {result.suite for result in found if result.status is Status.BROKEN}
        assert "sessions" in broken
        assert "events" not in broken
        assert all(result.is_error and result.message for result in found if result.status is Status.BROKEN)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Measured("c", 1.0, 5), Status.PASSED), (Measured("c", 0.99, 5), Status.FAILED), (Measured("c", None, 0), Status.EMPTY),
        (Measured("c", 1.0, 0), Status.EMPTY), (Measured("c", None, 5), Status.EMPTY), (Measured("c", 1.0, 5, problem="x"), Status.BROKEN),
        (Measured("c", float("nan"), 5), Status.FAILED),
    ],
)  # fmt: skip
def test_nothing_passes_because_nothing_was_looked_at(found, expected):
    constraint = next(constraint for _, constraint in CASES if constraint.kind is Kind.COMPLIANCE and not constraint.where)
    assert status(constraint, found) is expected


def test_a_threshold_without_a_bound_or_that_nothing_can_meet_is_refused():
    with pytest.raises(ValueError, match="without a bound"):
        Threshold()
    with pytest.raises(ValueError, match="at least 2 and at most 1"):
        Threshold(2, 1)
    assert [str(Threshold(*bounds)) for bounds in ((1, 1), (0.5, None), (None, 3), (0, 1))] == ["= 1", ">= 0.5", "<= 3", "0 to 1"]
