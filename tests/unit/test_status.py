"""`engagement status`: what a lake in trouble looks like in five seconds, and in JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from oracle import RawEvent

from engagement.cli import status, status_table
from engagement.ingest import lag
from engagement.ingest.kafka import BrokerUnavailable
from engagement.ingest.lag import Lag
from engagement.raw import files
from engagement.raw.names import topic_chain
from engagement.waiting import refresh

NOW = datetime(2026, 3, 11, 12, tzinfo=UTC)
CHAIN = topic_chain("session", "5e" * 16, 0)


def event(number, at=NOW - timedelta(hours=1)):
    return RawEvent(
        event_id=f"00000000-0000-4000-8000-{number:012d}", user_id="u", session_id=None, event_type="tap", event_time=at, received_at=at,
        kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=number, device_type="iPhone", device_model=None,
        app_version="1.0", country="DE", screen="Home",
    )  # fmt: skip


@pytest.fixture
def measured(monkeypatch):
    """What the broker says: a list to fill."""
    found = []
    monkeypatch.setattr(lag, "measure", lambda *_: found)
    return found


@pytest.fixture
def context(tmp_path):
    with lake_helpers.tables_of(tmp_path) as opened:
        yield opened


def collected(context):
    found = status.collect(context.settings, NOW)
    assert json.loads(json.dumps(found)) == found, "everything is plain JSON"
    return found


def shown(found, capsys):
    status_table.show(found)
    return capsys.readouterr().out


def write(context, *numbers):
    for number in numbers:
        lake_helpers.write(context, [event(number)])


@pytest.mark.usefixtures("measured")
def test_a_healthy_lake_needs_one_line_of_audit(context, capsys):
    write(context, 0, 1, 2)
    refresh.until_nothing_waits(context)
    found = collected(context)
    assert found["audit"]["verdict"] == "chains 1 whole"
    assert (found["audit"]["findings"], found["audit"]["gaps"]) == ([], [])
    assert found["raw"] == {"objects": 3, "rows": 3, "rejects": {}}
    page = shown(found, capsys)
    assert "audit  chains 1 whole\n" in page
    assert "raw    3 rows in 3 objects; rejected 0\n" in page


@pytest.mark.usefixtures("measured")
def test_a_lost_object_is_named_with_its_chain_and_range(context, capsys):
    write(context, 0, 1, 2)
    context.lake.delete(CHAIN.key(1))
    found = collected(context)
    assert [item["kind"] for item in found["audit"]["findings"]] == ["hole"]
    assert found["audit"]["chains"][0]["whole"] is False
    page = shown(found, capsys)
    assert "audit  0 of 1 chains whole, 1 problem\n" in page
    assert "session/5e5e5e5e-00000 offsets [1, 2): no object claims them" in page


@pytest.mark.usefixtures("measured")
def test_a_lost_last_object_is_known_from_the_events_made_from_it(context):
    write(context, 0, 1, 2)
    refresh.until_nothing_waits(context)
    context.lake.delete(CHAIN.key(2))
    (finding,) = collected(context)["audit"]["findings"]
    assert "[2, 3)" in finding["text"]


@pytest.mark.usefixtures("measured")
def test_a_torn_object_is_named_and_everything_else_is_told(context, capsys):
    write(context, 0, 1)
    context.lake.path(CHAIN.key(1)).write_bytes(b"torn")
    found = collected(context)
    assert [item["kind"] for item in found["audit"]["findings"]] == ["unreadable"]
    assert found["raw"]["rows"] == 1
    assert list(found["waits"]["hours"]) == [(NOW - timedelta(hours=1)).isoformat()]
    assert "its object is no Parquet file" in " ".join(shown(found, capsys).split())


@pytest.mark.usefixtures("measured")
def test_recorded_gaps_are_told_newest_first_and_no_more_than_a_few(context, capsys):
    write(context, 0)
    for start in range(1, 14, 2):
        files.write_gap(context.lake, CHAIN, start, start + 1)
        lake_helpers.write(context, [event(start + 1, NOW + start * timedelta(minutes=1))])
    files.write_gap(context.lake, CHAIN, 15, 135)
    found = collected(context)
    assert found["audit"]["gaps"][-1] == {
        "chain": CHAIN.label, "start": 15, "end": 135, "offsets": 120, "after": "2026-03-11T12:13:00+00:00", "before": None,
    }  # fmt: skip
    page = " ".join(shown(found, capsys).split())
    assert "audit chains 1 whole, 8 gaps of 127 records" in page
    assert "offsets [15, 135): 120 records lost by the log before they were read, 2026-03-11 12:13:00 to now" in page
    assert "[13, 14)" in page
    assert "[3, 4)" not in page
    assert "and 3 more (--json)" in page


def test_lag_is_told_in_records_and_seconds_by_partition(context, measured, capsys):
    measured += [
        Lag("session", 0, 0, 10, 10),
        Lag("session", 1, 0, 1500, 300, NOW - timedelta(seconds=75)),
        Lag("session", 2, 0, 40, 37, NOW - timedelta(seconds=3)),
        Lag("install", 0, 5, 9, 9),
    ]
    found = collected(context)
    assert [(item["lag"], item["lag_seconds"]) for item in found["partitions"]] == [(0, 0.0), (1200, 75.0), (3, 3.0), (0, 0.0)]
    page = shown(found, capsys)
    assert "lag    session: 1,203 records behind, the oldest 75 s old (1:1,200 2:3)\n" in page
    assert "       install: read to the end, 1 partition\n" in page


def test_only_the_partitions_furthest_behind_are_named(context, measured, capsys):
    measured += [Lag("session", number, 0, number, 0) for number in range(20)]
    page = shown(collected(context), capsys)
    assert "(19:19 18:18 17:17" in page
    assert "8:8 ...)" in page


@pytest.mark.usefixtures("measured")
def test_of_many_hours_that_wait_the_newest_are_named(context, capsys):
    lake_helpers.write(context, [event(number, NOW - timedelta(hours=number)) for number in range(30)])
    found = collected(context)
    assert len(found["waits"]["hours"]) == 30
    page = " ".join(shown(found, capsys).split())
    assert "waits 30 hours: 2026-03-11 08:00 (raw), " in page
    assert "2026-03-11 12:00 (raw)" in page


@pytest.mark.usefixtures("measured")
def test_the_delays_of_the_live_hour_and_of_stragglers_are_told_apart(context, capsys):
    assert "delay  none: every good raw row is on the page\n" in shown(collected(context), capsys)
    lake_helpers.write(context, [event(0, NOW - timedelta(hours=5))])
    lake_helpers.write(context, [event(1, NOW - timedelta(minutes=2))])
    refresh.hours(context, [NOW - timedelta(hours=1)])
    lake_helpers.write(context, [event(2, NOW - timedelta(minutes=1))])
    found = collected(context)
    assert found["delays"]["live"] == {"hours": 1, "rows": 1, "oldest_seconds": 60.0}
    assert found["delays"]["late"] == {"hours": 1, "rows": 1, "oldest_seconds": 18000.0}
    assert "delay  live 1 row of 1 hour, the oldest 60 s old; late 1 row of 1 hour, the oldest 5.0 h old\n" in shown(found, capsys)


def test_a_lag_whose_oldest_record_could_not_be_read_has_no_age(context, measured, capsys):
    measured.append(Lag("session", 0, 0, 10, 4))
    found = collected(context)
    assert found["partitions"][0]["lag_seconds"] is None
    assert "lag    session: 6 records behind (0:6)\n" in shown(found, capsys)


def test_a_lake_ahead_of_the_log_is_a_problem(context, measured):
    measured.append(Lag("session", 0, 0, 10, 14))
    assert any("session/0: the lake ends at 14, the log at 10" in text for text in collected(context)["problems"])


def test_records_that_the_log_has_lost_before_the_lake_had_them_are_a_problem(context, measured):
    measured += [Lag("session", 0, 7, 10, 4), Lag("session", 1, 4, 10, 4)]
    found = collected(context)
    assert [item["lost"] for item in found["partitions"]] == [3, 0]
    assert [text for text in found["problems"] if "session/" in text] == [
        "session/0: the log has already lost 3 records that the lake lacks: ingest records them as a gap"
    ]


def test_a_clock_behind_the_brokers_gives_no_negative_age():
    assert Lag("t", 0, 0, 2, 1, NOW + timedelta(seconds=5)).seconds(NOW) == 0.0


def test_the_lakes_ends_are_what_the_lag_counts_from(context, monkeypatch):
    asked = []
    monkeypatch.setattr(lag, "measure", lambda _settings, ends, _timeout: asked.append(ends) or [])
    write(context, 0, 1)
    collected(context)
    assert asked == [{CHAIN.label: 2}]


def test_a_broker_that_does_not_answer_is_a_problem_and_hides_nothing_else(context, monkeypatch):
    def away(*_):
        raise BrokerUnavailable("away")

    monkeypatch.setattr(lag, "measure", away)
    write(context, 0)
    found = collected(context)
    assert found["partitions"] is None
    assert any(text.endswith(": away") for text in found["problems"])
    assert found["audit"]["verdict"] == "chains 1 whole"
