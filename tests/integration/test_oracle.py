"""The oracle against results written by hand, and what the strategies promise. Nothing here touches the product."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from histories import histories, log_of, splits
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from oracle import RawEvent, aggregates, dedupe, dimensions, is_open, sessions

MICROSECOND = timedelta(microseconds=1)
HALF_HOUR = timedelta(minutes=30)
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MIDNIGHT = datetime(2026, 3, 10, tzinfo=UTC)
NEXT_MIDNIGHT = datetime(2026, 3, 11, tzinfo=UTC)
LAW = settings(max_examples=40, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])


def row(number: int, event_time: datetime, **other) -> RawEvent:
    """Event `number` of user u, arrived at once, on the log of `session`."""
    plain = {
        "event_id": f"00000000-0000-4000-8000-{number:012x}",
        "user_id": "u",
        "session_id": None,
        "event_type": "tap",
        "event_time": event_time,
        "received_at": event_time,
        "kafka_topic": "session",
        "kafka_topic_id": "5e" * 16,
        "kafka_partition": 0,
        "kafka_offset": number,
        "device_type": "iPhone",
        "device_model": None,
        "app_version": "1.0",
        "country": "DE",
        "screen": None,
    }
    return RawEvent(**{**plain, **other})


def rows_at(*times: datetime, **other) -> list[RawEvent]:
    return [row(number, event_time, **other) for number, event_time in enumerate(times)]


def spans(rows: list[RawEvent], **how) -> list[tuple[datetime, datetime, int]]:
    return [(one["started_at"], one["ended_at"], one["event_count"]) for one in sessions(rows, **how)]


def bot_day(first: datetime = MIDNIGHT, count: int = 48) -> list[datetime]:
    return [first + number * HALF_HOUR for number in range(count)]


def level(table: list[dict], device: str = "ALL_DEVICES", version: str = "ALL_VERSIONS", country: str = "ALL_COUNTRIES") -> dict:
    (found,) = [one for one in table if (one["device_type"], one["app_version"], one["country"]) == (device, version, country)]
    return found


def values(table: list[dict], column: str) -> set[str]:
    return {one[column] for one in table}


class TestCopies:
    def test_earliest_copy_wins(self):
        late = row(1, NOON, country="FR", received_at=NOON + MICROSECOND, kafka_offset=0)
        early = row(1, NOON, country="DE", kafka_partition=7, kafka_offset=9)
        assert dedupe([late, early]) == [early]

    @pytest.mark.parametrize(
        ("winner", "loser"),
        [
            ({"kafka_topic": "install", "kafka_topic_id": "ff"}, {"kafka_topic": "session", "kafka_topic_id": "00"}),
            ({"kafka_topic_id": "00", "kafka_partition": 1}, {"kafka_topic_id": "ff", "kafka_partition": 0}),
            ({"kafka_partition": 2, "kafka_offset": 9}, {"kafka_partition": 10, "kafka_offset": 0}),
            ({"kafka_offset": 9}, {"kafka_offset": 10}),
        ],
    )
    def test_copies_received_at_once_are_decided_by_topic_then_id_then_partition_then_offset(self, winner, loser):
        first, second = row(1, NOON, **winner), row(1, NOON, **loser)
        assert dedupe([second, first]) == [first]

    def test_upper_case_id_is_a_copy(self):
        upper = row(0xABC, NOON, event_id="00000000-0000-4000-8000-000000000ABC")
        lower = row(0xABC, NOON, received_at=NOON + MICROSECOND)
        (kept,) = dedupe([lower, upper])
        assert (kept.event_id, kept.received_at) == ("00000000-0000-4000-8000-000000000abc", NOON)

    def test_same_id_at_another_time_is_another_event(self):
        assert len(dedupe([row(1, NOON), row(1, NOON + MICROSECOND)])) == 2

    def test_copy_of_another_user_is_still_a_copy(self):
        kept = dedupe([row(1, NOON), row(1, NOON, user_id="v", kafka_offset=0)])
        assert [one.user_id for one in kept] == ["v"]

    def test_copies_count_once_in_sessions_and_aggregates(self):
        rows = [row(1, NOON), row(1, NOON, kafka_offset=2)]
        assert spans(rows) == [(NOON, NOON, 1)]
        assert level(aggregates(rows, "day"))["total_events"] == 1


class TestGap:
    def test_gap_of_exactly_30_minutes_continues(self):
        assert spans(rows_at(NOON, NOON + HALF_HOUR)) == [(NOON, NOON + HALF_HOUR, 2)]

    def test_one_microsecond_more_starts_a_new_session(self):
        later = NOON + HALF_HOUR + MICROSECOND
        assert spans(rows_at(NOON, later)) == [(NOON, NOON, 1), (later, later, 1)]

    def test_gap_is_a_setting(self):
        later = NOON + timedelta(seconds=61)
        assert len(spans(rows_at(NOON, later), gap_seconds=60)) == 2
        assert len(spans(rows_at(NOON, later), gap_seconds=61)) == 1

    def test_users_do_not_join(self):
        assert len(sessions([row(1, NOON), row(2, NOON, user_id="v")])) == 2

    def test_event_in_between_bridges_two_sessions(self):
        apart = rows_at(NOON, NOON + 2 * HALF_HOUR)
        assert len(sessions(apart)) == 2
        assert spans([*apart, row(9, NOON + HALF_HOUR)]) == [(NOON, NOON + 2 * HALF_HOUR, 3)]

    def test_earlier_event_moves_the_start(self):
        rows = [row(1, NOON), row(2, NOON - HALF_HOUR, received_at=NOON + timedelta(days=1))]
        assert spans(rows) == [(NOON - HALF_HOUR, NOON, 2)]

    def test_midnight_is_nothing_special(self):
        before, after = NEXT_MIDNIGHT - MICROSECOND, NEXT_MIDNIGHT + timedelta(minutes=20)
        assert spans(rows_at(before, NEXT_MIDNIGHT, after)) == [(before, after, 3)]

    @pytest.mark.parametrize(
        "border", [datetime(2024, 2, 29, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    )
    def test_leap_days_and_year_ends_are_nothing_special(self, border):
        start, end = border - timedelta(minutes=15), border + timedelta(minutes=15)
        assert spans(rows_at(start, end)) == [(start, end, 2)]


class TestWholeDay:
    def test_whole_day_bot_is_cut_at_its_two_midnights(self):
        before, after = MIDNIGHT - MICROSECOND, NEXT_MIDNIGHT
        found = sessions(rows_at(before, *bot_day(), after))
        assert [(one["started_at"], one["ended_at"], one["event_count"], one["is_automated"]) for one in found] == [
            (before, before, 1, False),
            (MIDNIGHT, NEXT_MIDNIGHT - HALF_HOUR, 48, True),
            (after, after, 1, False),
        ]

    def test_bot_day_with_one_gap_is_not_cut(self):
        day = bot_day()
        del day[20]
        before, after = MIDNIGHT - MICROSECOND, NEXT_MIDNIGHT
        assert spans(rows_at(before, *day, after)) == [(before, day[19], 21), (day[20], after, 28)]
        assert not any(one["is_automated"] for one in sessions(rows_at(before, *day, after)))

    def test_two_bot_days_in_a_row_are_two_sessions(self):
        found = sessions(rows_at(*bot_day(count=96)))
        assert [(one["started_at"], one["event_count"], one["is_automated"]) for one in found] == [
            (MIDNIGHT, 48, True),
            (NEXT_MIDNIGHT, 48, True),
        ]

    def test_first_event_exactly_one_gap_after_midnight_is_enough(self):
        before = MIDNIGHT + timedelta(minutes=10) - HALF_HOUR
        day = [MIDNIGHT + timedelta(minutes=10), *bot_day()[1:]]
        assert len(sessions(rows_at(before, *day))) == 2
        assert [one["is_automated"] for one in sessions(rows_at(*bot_day()[1:]))] == [True]

    def test_first_event_one_microsecond_later_is_not(self):
        day = [MIDNIGHT + HALF_HOUR + MICROSECOND, *bot_day()[2:]]
        assert [one["is_automated"] for one in sessions(rows_at(*day))] == [False]

    def test_last_event_one_microsecond_before_the_last_gap_is_not(self):
        day = [*bot_day()[:-1], NEXT_MIDNIGHT - HALF_HOUR - MICROSECOND]
        assert [one["is_automated"] for one in sessions(rows_at(*day))] == [False]

    def test_a_whole_day_is_judged_by_the_gap_of_the_lake(self):
        four_hours = timedelta(hours=4)
        day = [MIDNIGHT + four_hours, *[MIDNIGHT + number * four_hours for number in range(2, 6)]]
        assert [one["is_automated"] for one in sessions(rows_at(*day), gap_seconds=14400)] == [True]
        assert not any(one["is_automated"] for one in sessions(rows_at(*day), gap_seconds=14399))

    def test_day_without_a_gap_that_only_joins_at_midnight_is_not_automated(self):
        evening = [NOON + number * HALF_HOUR for number in range(49)]
        assert spans(rows_at(*evening)) == [(NOON, NOON + timedelta(days=1), 49)]


class TestClientMode:
    def test_client_mode_keeps_client_ids_apart_and_events_without_one_together(self):
        minute = timedelta(minutes=1)
        ids = ["a", None, "b", None, "a"]
        rows = [row(number, NOON + number * minute, session_id=one) for number, one in enumerate(ids)]
        assert spans(rows, mode="client") == [
            (NOON, NOON + 4 * minute, 2),
            (NOON + minute, NOON + 3 * minute, 2),
            (NOON + 2 * minute, NOON + 2 * minute, 1),
        ]
        assert [one["client_session_ids"] for one in sessions(rows, mode="client")] == [["a"], [], ["b"]]
        assert [one["client_session_ids"] for one in sessions(rows)] == [["a", "b"]]

    def test_client_mode_still_ends_a_session_at_a_gap(self):
        later = NOON + HALF_HOUR + MICROSECOND
        assert spans(rows_at(NOON, later, session_id="a"), mode="client") == [(NOON, NOON, 1), (later, later, 1)]

    def test_client_mode_same_client_id_of_two_users_does_not_join(self):
        rows = [row(1, NOON, session_id="a"), row(2, NOON, session_id="a", user_id="v")]
        assert len(sessions(rows, mode="client")) == 2

    def test_client_mode_judges_whole_days_per_client_id(self):
        shared = [row(number, one, session_id="ab"[number % 2]) for number, one in enumerate(bot_day())]
        assert [one["is_automated"] for one in sessions(shared)] == [True]
        assert not any(one["is_automated"] for one in sessions(shared, mode="client"))
        alone = rows_at(*bot_day(), session_id="a")
        assert [one["is_automated"] for one in sessions(alone, mode="client")] == [True]


class TestSessionColumns:
    def test_every_column(self):
        rows = [
            row(1, NOON, event_type="install", session_id="x", device_type=None, device_model="iPad13,1", app_version=""),
            row(2, NOON + timedelta(seconds=1), event_type="screen_view", screen="Home", session_id="y", country="FR"),
            row(3, NOON + timedelta(seconds=2), event_type="screen_view", screen=None, session_id="x"),
            row(4, NOON + timedelta(seconds=3), event_type="tap", screen="Ghost"),
            row(5, NOON + timedelta(seconds=4), event_type="screen_view", screen="Home"),
            row(6, NOON + timedelta(seconds=5), event_type="screen_view", screen="Cart"),
            row(7, NOON + timedelta(seconds=6), event_type="view_notification"),
            row(8, NOON + timedelta(seconds=7, microseconds=500_000), event_type="click_notification"),
        ]
        assert sessions(rows) == [
            {
                "session_key": hashlib.md5(b"u\x1f1773144000000000", usedforsecurity=False).hexdigest(),
                "user_id": "u",
                "started_at": NOON,
                "ended_at": NOON + timedelta(seconds=7, microseconds=500_000),
                "duration_seconds": 7.5,
                "event_count": 8,
                "screen_views": 4,
                "notification_views": 1,
                "notification_clicks": 1,
                "installs": 1,
                "screen_path": ["Home", "Home", "Cart"],
                "entry_screen": "Home",
                "exit_screen": "Cart",
                "client_session_ids": ["x", "y"],
                "device_type": "iPad",
                "app_version": "UNKNOWN",
                "country": "DE",
                "is_engaged": True,
                "is_bounce": False,
                "is_automated": False,
                "open_until": NOON + timedelta(seconds=1807, microseconds=500_000),
            }
        ]

    def test_key_is_text_that_anyone_can_hash(self):
        (one,) = sessions([row(1, datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=UTC), session_id="a")], mode="client")
        assert one["session_key"] == hashlib.md5("u␟a␟1000007".replace("␟", chr(31)).encode(), usedforsecurity=False).hexdigest()
        (one,) = sessions([row(1, datetime(1970, 1, 1, 0, 0, 1, 7, tzinfo=UTC))], mode="client")
        assert one["session_key"] == hashlib.md5("u␟␟1000007".replace("␟", chr(31)).encode(), usedforsecurity=False).hexdigest()

    def test_events_at_one_time_are_ordered_by_lower_case_id(self):
        second = row(2, NOON, event_id="B0000000-0000-4000-8000-000000000000", event_type="screen_view", screen="Second", country="FR")
        first = row(3, NOON, event_id="a0000000-0000-4000-8000-000000000000", event_type="screen_view", screen="First", country="DE")
        (one,) = sessions([second, first])
        assert (one["screen_path"], one["country"]) == (["First", "Second"], "DE")

    def test_only_the_first_50_screens_and_client_ids_are_listed(self):
        second = timedelta(seconds=1)
        rows = [row(n, NOON + n * second, event_type="screen_view", screen=f"S{n}", session_id=f"c{n}") for n in range(52)]
        (one,) = sessions(rows)
        assert one["screen_path"] == [f"S{n}" for n in range(50)]
        assert one["client_session_ids"] == [f"c{n}" for n in range(50)]
        assert (one["entry_screen"], one["exit_screen"], one["screen_views"]) == ("S0", "S51", 52)

    @pytest.mark.parametrize(
        ("lasting", "types", "engaged"),
        [
            (timedelta(seconds=10), ("tap", "tap"), False),
            (timedelta(seconds=10), ("screen_view", "tap"), False),
            (timedelta(seconds=10) + MICROSECOND, ("tap", "tap"), True),
            (timedelta(0), ("screen_view", "screen_view"), True),
        ],
    )
    def test_engaged_is_more_than_10_seconds_or_two_screen_views(self, lasting, types, engaged):
        rows = [row(1, NOON, event_type=types[0]), row(2, NOON + lasting, event_type=types[1])]
        (one,) = sessions(rows)
        assert (one["is_engaged"], one["is_bounce"]) == (engaged, not engaged)


class TestOpen:
    def test_open_as_long_as_the_log_is_read_no_further_than_open_until(self):
        rows = [row(1, NOON), row(2, NOON, user_id="v", received_at=NOON + HALF_HOUR)]
        assert [is_open(one, rows) for one in sessions(rows)] == [True, True]
        later = [*rows, row(3, NOON, user_id="w", received_at=NOON + HALF_HOUR + MICROSECOND)]
        assert [is_open(one, later) for one in sessions(rows)] == [False, False]

    def test_imports_do_not_tell_how_far_the_log_is_read(self):
        imported = row(2, NOON, kafka_topic="import", kafka_topic_id="1a" * 32, received_at=NOON + timedelta(days=9))
        (one,) = sessions([row(1, NOON), imported])
        assert is_open(one, [row(1, NOON), imported])
        assert not is_open(one, [imported])


class TestDimensions:
    @pytest.mark.parametrize(
        ("sent", "model", "shown"),
        [
            ("Watch", "iPhone15,3", "Watch"),
            (None, "iPhone15,3", "iPhone"),
            ("", "iPad13,1", "iPad"),
            (None, "iPod9,1", "iPod"),
            (None, "RealityDevice14,1", "UNKNOWN"),
            (None, "iphone15,3", "UNKNOWN"),
            (None, None, "UNKNOWN"),
            ("OTHER", "iPhone15,3", "UNKNOWN"),
            (" iPhone", None, " iPhone"),
        ],
    )
    def test_device_type_is_the_sent_one_else_the_models(self, sent, model, shown):
        assert dimensions(row(1, NOON, device_type=sent, device_model=model))[0] == shown

    @pytest.mark.parametrize("word", [None, "", "OTHER", "ALL_DEVICES", "ALL_VERSIONS", "ALL_COUNTRIES", "UNKNOWN"])
    def test_missing_and_reserved_words_are_unknown_in_every_dimension(self, word):
        assert dimensions(row(1, NOON, device_type=word, app_version=word, country=word)) == ("UNKNOWN",) * 3


class TestAggregates:
    def test_every_column_of_an_hour_and_a_day(self):
        rows = [
            row(1, NOON, event_type="install"),
            row(2, NOON + timedelta(minutes=20), event_type="view_notification"),
            row(3, NOON + timedelta(minutes=21), event_type="view_notification"),
            row(4, NOON + timedelta(minutes=22), event_type="click_notification"),
            row(5, NOON + timedelta(minutes=50), event_type="screen_view"),
            row(6, NOON + timedelta(minutes=70), event_type="screen_view"),  # next hour, same session
            row(7, NOON + timedelta(minutes=5), event_type="tap", user_id="v"),
        ]
        hour, next_hour = (level([one for one in aggregates(rows, "hour") if one["hour"] == at]) for at in (12, 13))
        assert hour == {
            "year": 2026,
            "month": 3,
            "day": 10,
            "hour": 12,
            "device_type": "ALL_DEVICES",
            "app_version": "ALL_VERSIONS",
            "country": "ALL_COUNTRIES",
            "total_events": 6,
            "total_installs": 1,
            "total_views": 1,
            "notification_views": 2,
            "notification_clicks": 1,
            "notification_ctr": 0.5,
            "active_users": 2,
            "new_users": 1,
            "total_sessions": 2,
            "avg_session_seconds": 2100.0,
            "median_session_seconds": 2100.0,
            "bounce_rate": 0.5,
            "avg_events_per_session": 3.5,
        }
        nothing_started = {"total_sessions": 0, "avg_session_seconds": None, "median_session_seconds": None}
        nothing_started |= {"bounce_rate": None, "avg_events_per_session": None, "notification_ctr": None}
        assert next_hour == {**next_hour, "hour": 13, "total_events": 1, "active_users": 1, "new_users": 0, **nothing_started}
        day = level(aggregates(rows, "day"))
        assert day == {**day, "hour": None, "total_events": 7, "active_users": 2, "total_sessions": 2, "avg_events_per_session": 3.5}

    def test_all_eight_subsets_of_the_dimensions(self):
        table = aggregates([row(1, NOON)], "day")
        assert {(one["device_type"], one["app_version"], one["country"]) for one in table} == {
            (device, version, country)
            for device in ("iPhone", "ALL_DEVICES")
            for version in ("1.0", "ALL_VERSIONS")
            for country in ("DE", "ALL_COUNTRIES")
        }
        assert len(table) == 8

    def test_all_rows_of_additive_metrics_are_sums(self):
        rows = [row(1, NOON), row(2, NOON, country="FR"), row(3, NOON, country="FR", event_type="install")]
        table = aggregates(rows, "day")
        germany, france, everywhere = level(table, country="DE"), level(table, country="FR"), level(table)
        assert (germany["total_events"], france["total_events"], everywhere["total_events"]) == (1, 2, 3)
        assert (germany["total_installs"], france["total_installs"], everywhere["total_installs"]) == (0, 1, 1)
        # The one session belongs to the country of its first event alone.
        assert (germany["total_sessions"], france["total_sessions"], everywhere["total_sessions"]) == (1, 0, 1)

    def test_distinct_users_are_not_sums(self):
        rows = [row(1, NOON, event_type="install"), row(2, NOON + timedelta(hours=1), event_type="install", country="FR")]
        day = aggregates(rows, "day")
        for column in ("active_users", "new_users"):
            assert [level(day, country=one)[column] for one in ("DE", "FR", "ALL_COUNTRIES")] == [1, 1, 1]
            assert [one[column] for one in aggregates(rows, "hour")] == [1] * 16

    def test_session_belongs_to_the_period_and_dimensions_of_its_start(self):
        before = NEXT_MIDNIGHT - timedelta(minutes=10)
        table = aggregates([row(1, before), row(2, NEXT_MIDNIGHT, country="FR")], "day")
        assert [(one["day"], one["total_sessions"], one["avg_session_seconds"]) for one in table if one["country"] == "ALL_COUNTRIES"] == [
            *[(10, 1, 600.0)] * 4,
            *[(11, 0, None)] * 4,
        ]
        assert {one["country"] for one in table if one["day"] == 11} == {"FR", "ALL_COUNTRIES"}

    def test_automated_sessions_count_in_the_big_table(self):
        whole = level(aggregates(rows_at(*bot_day(count=96)), "day")[:8])
        assert (whole["total_sessions"], whole["avg_events_per_session"]) == (1, 48.0)

    def test_median_is_midpoint(self):
        lasting = [timedelta(0), timedelta(seconds=1), timedelta(seconds=4), timedelta(seconds=100)]
        rows = [row(2 * n + end, NOON + end * one, user_id=f"u{n}") for n, one in enumerate(lasting) for end in (0, 1)]
        assert level(aggregates(rows, "day"))["median_session_seconds"] == 2.5
        assert level(aggregates(rows[:6], "day"))["median_session_seconds"] == 1.0

    def test_average_is_one_division_of_microseconds(self):
        lasting = [MICROSECOND, MICROSECOND, 2 * MICROSECOND]
        rows = [row(2 * n + end, NOON + end * one, user_id=f"u{n}") for n, one in enumerate(lasting) for end in (0, 1)]
        assert level(aggregates(rows, "day"))["avg_session_seconds"] == 4 / 3_000_000

    def test_clicks_without_views_have_no_rate(self):
        one = level(aggregates([row(1, NOON, event_type="click_notification")], "day"))
        assert (one["notification_clicks"], one["notification_ctr"]) == (1, None)


class TestOther:
    def test_other_keeps_the_top_values_ties_by_byte_order(self):
        countries = ["é", "a", "Z", "FR", "FR"]
        rows = [row(number, NOON, country=one, user_id=f"u{number}") for number, one in enumerate(countries)]
        assert values(aggregates(rows, "day", limit=1), "country") == {"FR", "OTHER", "ALL_COUNTRIES"}
        assert values(aggregates(rows, "day", limit=2), "country") == {"FR", "Z", "OTHER", "ALL_COUNTRIES"}
        assert values(aggregates(rows, "day", limit=3), "country") == {"FR", "Z", "a", "OTHER", "ALL_COUNTRIES"}
        assert values(aggregates(rows, "day", limit=4), "country") == {"FR", "Z", "a", "é", "ALL_COUNTRIES"}

    def test_other_counts_users_and_sessions_of_all_it_stands_for(self):
        rows = [row(1, NOON), row(2, NOON), row(3, NOON, country="FR", user_id="v"), row(4, NOON, country="GB", user_id="v")]
        rest = level(aggregates(rows, "day", limit=1), country="OTHER")
        assert (rest["total_events"], rest["active_users"], rest["total_sessions"]) == (2, 1, 1)

    def test_a_sent_other_is_unknown_and_competes_like_any_value(self):
        rows = [row(1, NOON, country="OTHER"), row(2, NOON, country=None), row(3, NOON)]
        assert values(aggregates(rows, "day", limit=1), "country") == {"UNKNOWN", "OTHER", "ALL_COUNTRIES"}

    def test_each_dimension_has_its_own_list(self):
        rows = [row(1, NOON), row(2, NOON), row(3, NOON, country="FR", app_version="2.0")]
        table = aggregates([*rows, row(4, NOON, app_version="2.0"), row(5, NOON, app_version="2.0")], "day", limit=1)
        assert level(table, version="2.0", country="DE")["total_events"] == 2
        assert level(table, version="OTHER", country="DE")["total_events"] == 2
        assert level(table, version="2.0", country="OTHER")["total_events"] == 1

    def test_an_hour_and_its_day_may_differ(self):
        later = NOON + timedelta(hours=1)
        rows = [row(1, NOON), row(2, later, country="FR"), row(3, later + MICROSECOND, country="FR")]
        assert values(aggregates(rows, "day", limit=1), "country") == {"FR", "OTHER", "ALL_COUNTRIES"}
        assert values(aggregates(rows, "hour", limit=1), "country") == {"DE", "FR", "ALL_COUNTRIES"}


class TestLaws:
    @LAW
    @given(histories(), st.randoms(use_true_random=False), st.sampled_from(("gap", "client")))
    def test_order_of_rows_changes_nothing(self, history, random, mode):
        shuffled = random.sample(history, len(history))
        assert dedupe(shuffled) == dedupe(history)
        assert sessions(shuffled, mode=mode) == sessions(history, mode=mode)
        assert aggregates(shuffled, "day", limit=2, mode=mode) == aggregates(history, "day", limit=2, mode=mode)

    @LAW
    @given(histories(), st.sampled_from(("gap", "client")))
    def test_every_event_is_in_one_session_and_keys_are_unique(self, history, mode):
        found = sessions(history, mode=mode)
        assert sum(one["event_count"] for one in found) == len(dedupe(history))
        assert len(values(found, "session_key")) == len(found)

    @LAW
    @given(histories(), st.sampled_from(("hour", "day")), st.integers(1, 4))
    def test_all_row_is_the_sum_of_its_parts_and_never_less_than_a_part_in_users(self, history, period, limit):
        parts = defaultdict(list)
        table = aggregates(history, period, limit)
        for one in table:
            parts[one["year"], one["month"], one["day"], one["hour"], one["device_type"], one["app_version"]].append(one)
        for rows in parts.values():
            whole, *rest = sorted(rows, key=lambda one: one["country"] != "ALL_COUNTRIES")
            assert len(rest) <= limit + 1
            for column in ("total_events", "total_installs", "total_views", "total_sessions"):
                assert whole[column] == sum(one[column] for one in rest)
            users = [one["active_users"] for one in rest]
            assert max(users) <= whole["active_users"] <= sum(users)


class TestStrategies:
    @LAW
    @given(histories())
    def test_offsets_count_from_0_and_received_at_never_falls(self, history):
        logs = defaultdict(list)
        for one in history:
            logs[log_of(one)].append(one)
        for rows in logs.values():
            assert [one.kafka_offset for one in rows] == list(range(len(rows)))
            assert all(before.received_at <= after.received_at for before, after in pairwise(rows))

    @LAW
    @given(histories())
    def test_no_event_would_be_rejected(self, history):
        for one in history:
            assert timedelta(0) <= one.received_at - one.event_time < timedelta(days=30)
            assert one.received_at.microsecond % 1000 == 0

    @LAW
    @given(st.data())
    def test_splits_give_every_row_once_in_the_order_of_its_partition(self, data):
        history = data.draw(histories())
        arrivals = data.draw(splits(history))
        together = [one for arrival in arrivals for one in arrival]
        assert all(arrivals)
        for log in {log_of(one) for one in history}:
            assert [one for one in together if log_of(one) == log] == [one for one in history if log_of(one) == log]
        assert len(together) == len(history)

    @LAW
    @given(histories(automated_days=0, gap_seconds=600, max_events=5))
    def test_histories_can_be_kept_small(self, history):
        assert len(history) <= 5 + 5 + 2 + 2

    @pytest.mark.filterwarnings("ignore:Generating overly large repr")
    @pytest.mark.parametrize(
        "shape",
        [
            "a_gap_of_exactly_30_minutes",
            "a_gap_of_one_microsecond_more",
            "a_session_over_midnight",
            "an_automated_day_with_a_neighbour_within_the_gap",
            "two_automated_days_in_a_row",
            "an_automated_day_but_for_one_event",
            "a_copy_in_the_other_case_with_another_country",
            "a_copy_that_arrived_at_the_same_time",
            "one_id_at_two_times",
            "a_late_event_that_bridges",
            "a_late_event_that_extends_backwards",
            "two_lives_of_one_topic",
            "a_leap_day",
            "a_year_end",
        ],
    )
    def test_histories_reach(self, shape):
        quick = settings(
            phases=[Phase.generate], max_examples=3000, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        assert find(histories(), SHAPES[shape], settings=quick)


def steps(history: list[RawEvent]) -> list[tuple[RawEvent, RawEvent]]:
    """Neighbouring events of one user."""
    ordered = sorted(dedupe(history), key=lambda one: (one.user_id, one.event_time))
    return [(before, after) for before, after in pairwise(ordered) if before.user_id == after.user_id]


def has_step(history: list[RawEvent], step: timedelta) -> bool:
    return any(after.event_time - before.event_time == step for before, after in steps(history))


def automated_days(history: list[RawEvent]) -> set[tuple]:
    return {(one["user_id"], one["started_at"].date()) for one in sessions(history) if one["is_automated"]}


def cut_midnight(history: list[RawEvent]) -> bool:
    found = automated_days(history)
    near = [(a, b) for a, b in steps(history) if a.event_time.date() != b.event_time.date() and b.event_time - a.event_time <= HALF_HOUR]
    return any(((a.user_id, a.event_time.date()) in found) != ((b.user_id, b.event_time.date()) in found) for a, b in near)


def automated_but_for_one(history: list[RawEvent]) -> bool:
    days = defaultdict(int)
    for one in dedupe(history):
        days[one.user_id, one.event_time.date()] += 1
    return any(count >= 46 and day not in automated_days(history) for day, count in days.items())


def copies(history: list[RawEvent]) -> list[tuple[RawEvent, RawEvent]]:
    groups = defaultdict(list)
    for one in history:
        groups[one.event_id.lower(), one.event_time].append(one)
    return [(first, other) for first, *others in groups.values() for other in others]


def same_id_elsewhen(history: list[RawEvent]) -> bool:
    times = defaultdict(set)
    for one in history:
        times[one.event_id.lower()].add(one.event_time)
    return any(len(found) > 1 for found in times.values())


def last_arrival_changes(history: list[RawEvent], shape: str) -> bool:
    """The newest record joins two sessions into one, or gives one of them an earlier start."""
    before, after = sessions(history[:-1]), sessions(history)
    if shape == "bridge":
        return len(after) == len(before) - 1
    starts = values(after, "started_at") - values(before, "started_at")
    return len(after) == len(before) and bool(starts)


def touches(history: list[RawEvent], month: int, day: int) -> bool:
    return any((one.event_time.month, one.event_time.day) == (month, day) for one in history)


def two_days_running(history: list[RawEvent]) -> bool:
    found = automated_days(history)
    return any((user_id, day + timedelta(days=1)) in found for user_id, day in found)


SHAPES = {
    "a_gap_of_exactly_30_minutes": lambda history: has_step(history, HALF_HOUR),
    "a_gap_of_one_microsecond_more": lambda history: has_step(history, HALF_HOUR + MICROSECOND),
    "a_session_over_midnight": lambda history: any(one["started_at"].date() < one["ended_at"].date() for one in sessions(history)),
    "an_automated_day_with_a_neighbour_within_the_gap": cut_midnight,
    "two_automated_days_in_a_row": two_days_running,
    "an_automated_day_but_for_one_event": automated_but_for_one,
    "a_copy_in_the_other_case_with_another_country": lambda history: any(
        a.event_id != b.event_id and a.country != b.country for a, b in copies(history)
    ),
    "a_copy_that_arrived_at_the_same_time": lambda history: any(
        a.received_at == b.received_at and log_of(a) != log_of(b) for a, b in copies(history)
    ),
    "one_id_at_two_times": same_id_elsewhen,
    "a_late_event_that_bridges": lambda history: last_arrival_changes(history, "bridge"),
    "a_late_event_that_extends_backwards": lambda history: last_arrival_changes(history, "start"),
    "two_lives_of_one_topic": lambda history: len({one.kafka_topic_id for one in history if one.kafka_topic == "session"}) == 2,
    "a_leap_day": lambda history: touches(history, 2, 29),
    "a_year_end": lambda history: touches(history, 12, 31) and touches(history, 1, 1),
}
