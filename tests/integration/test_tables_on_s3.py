"""Tables of a lake on S3: the same rows as in a folder, and requests that grow with what is new alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from s3_helpers import opener_of
from s3_proxy import Error, Proxy

from engagement import settings as settings_module
from engagement.lake import LakeUnavailable
from engagement.model import units
from engagement.raw.names import topic_chain
from engagement.waiting import recent, refresh, waits

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
PARTITIONS = 3


@pytest.fixture
def proxy(s3_server):
    with Proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def far_settings(s3_server, proxy, tmp_path, monkeypatch):
    """Settings of a new lake on S3, seen through the proxy."""
    opener = opener_of(s3_server, tmp_path)
    for name, value in opener.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://{opener.bucket}/{opener.prefix}"
    return settings_module.load({}, tmp_path, lake_url=url, state_dir=tmp_path / "state", threads=1, aws_endpoint_url=proxy.endpoint)


@pytest.fixture
def context(far_settings):
    with lake_helpers.open_tables(far_settings) as found:
        yield found


def events(first, count, at=HOUR):
    """So many events in each partition, a few minutes apart, of a few users."""
    return [
        lake_helpers.screen_view(
            number,
            at + timedelta(minutes=7 * number),
            user_id=f"u{number % 4}",
            kafka_partition=partition,
            received_at=NOW,
            event_id=f"0f8fad5b-d9cb-469f-a165-{partition * 1000 + number:012x}",
        )
        for partition in range(PARTITIONS)
        for number in range(first, first + count)
    ]


def rows(settings):
    return lake_helpers.sessions(settings), *(lake_helpers.big_table(settings, period) for period in ("hour", "day"))


def test_a_lake_on_s3_gives_the_same_rows_as_one_in_a_folder(context, tmp_path):
    with lake_helpers.tables_of(tmp_path / "near") as near:
        for first in (0, 5):
            for where in (near, context):
                lake_helpers.write(where, events(first, 5))
                assert refresh.until_nothing_waits(where) < 20
        assert rows(context.settings) == rows(near.settings)
        refresh.hours(context, [HOUR], rebuild=True)
        assert rows(context.settings) == rows(near.settings)


def test_a_look_costs_a_request_a_partition_and_three_more_and_reads_nothing_again(context, proxy):
    lake_helpers.write(context, events(0, 5))
    refresh.until_nothing_waits(context)
    recent.compute(context, NOW)
    for _ in range(20):
        proxy.seen.clear()
        assert not recent.compute(context, NOW)
        assert proxy.count("LIST") <= PARTITIONS + 3
        assert [request.key.rsplit("/", 1)[1] for request in proxy.seen if request.kind != "LIST"] in ([], ["retention.json"])


def test_new_records_cost_their_own_objects_and_their_hours(context, proxy):
    lake_helpers.write(context, events(0, 5))
    refresh.until_nothing_waits(context)
    recent.compute(context, NOW)
    lake_helpers.write(context, events(5, 1))
    proxy.seen.clear()
    waiting = recent.compute(context, NOW)
    assert units.floor_hour(HOUR + timedelta(minutes=35)) in waiting.hours
    assert sum("/raw/" in request.key for request in proxy.seen if request.kind == "GET") == PARTITIONS


def test_another_process_of_this_machine_reads_no_footer_again(context, far_settings, proxy):
    lake_helpers.write(context, events(0, 5))
    refresh.until_nothing_waits(context)
    waits.compute(context, NOW)
    proxy.seen.clear()
    with lake_helpers.open_tables(far_settings) as again:
        assert not waits.compute(again, NOW)
    assert not [request.key for request in proxy.seen if request.kind == "GET" and request.key.endswith(".parquet")]


def test_a_truncated_raw_object_is_set_apart_and_the_others_go_on(context):
    lake_helpers.write(context, events(0, 5))
    key = topic_chain("session", "5e" * 16, 1).key(0)
    context.lake.replace(key, context.lake.read(key)[:100], context.lake.stat(key))
    refresh.until_nothing_waits(context)
    assert [item.key for item in context.index.unreadable()] == [key]
    assert "no Parquet file" in context.index.unreadable()[0].why
    assert sum(one["event_count"] for one in lake_helpers.sessions(context.settings)) == 5 * (PARTITIONS - 1)


def test_a_store_that_fails_in_the_midst_leaves_what_a_later_refresh_finishes(context, proxy):
    lake_helpers.write(context, events(0, 5))
    puts = []

    def fault(request):
        if request.kind != "PUT" or ".locks" in request.key:  # a lease that cannot be given back only ends later
            return None
        puts.append(request.key)
        return Error(400, "SlowDown") if len(puts) > 2 else None

    proxy.fault = fault
    with pytest.raises(LakeUnavailable, match="throttling"):
        refresh.until_nothing_waits(context)
    proxy.fault = lambda _request: None
    assert waits.compute(context, NOW)
    refresh.until_nothing_waits(context)
    assert sum(one["event_count"] for one in lake_helpers.sessions(context.settings)) == 5 * PARTITIONS
