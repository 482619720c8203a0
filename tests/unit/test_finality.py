"""Which days are final, by the record and by the calendar alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.errors import PermanentError
from engagement.lake import LocalLake
from engagement.model import units
from engagement.tables import finality
from engagement.tables.finality import Finality

NOW = datetime(2026, 4, 20, 12, tzinfo=UTC)
DATES = st.dates(min_value=date(2000, 1, 1), max_value=date(2100, 1, 1))
RECORDS = st.builds(
    Finality, st.none() | DATES, st.dictionaries(st.sampled_from(["events", "archive"]), DATES), st.none() | st.integers(33, 5000)
)


@pytest.fixture
def lake(tmp_path):
    return LocalLake(tmp_path)


def key(day):
    return units.hours_key(day)


@given(RECORDS)
def test_a_record_reads_back_as_written(record):
    assert Finality.from_json(record.to_json()) == record


@given(RECORDS, DATES)
def test_later_never_opens_a_day(record, day):
    assert not record.is_final(day, NOW) or record.is_final(day, NOW + timedelta(hours=5))


def test_a_lake_without_a_record_has_no_final_day(lake):
    assert finality.read(lake) == Finality()
    assert finality.refusal(lake, key(date(2020, 1, 1)), NOW) is None


def test_days_before_the_recorded_one_are_refused_and_it_is_not(lake):
    lake.put_new(finality.KEY, Finality(date(2026, 3, 14)).to_json())
    assert finality.refusal(lake, key(date(2026, 3, 14)), NOW) is None
    assert "2026-03-13 is final" in finality.refusal(lake, key(date(2026, 3, 13)), NOW)
    assert "the first open day is 2026-03-14" in finality.refusal(lake, units.slot_key(units.EVENTS, datetime(2026, 3, 1, tzinfo=UTC)), NOW)


def test_what_the_store_deletes_by_itself_makes_days_final_before_it_goes():
    """An object that was born minutes before its day, 10 March, goes at the midnight 40 days later: that of 19 April."""
    record = Finality(None, {}, 40)
    assert record.first_open_day(datetime(2026, 4, 18, 23, 59, tzinfo=UTC)) == date(2026, 3, 11)
    assert Finality(date(2026, 3, 14), {}, 40).first_open_day(datetime(2026, 4, 18, tzinfo=UTC)) == date(2026, 3, 14)


def test_a_young_day_needs_no_look(lake, monkeypatch):
    monkeypatch.setattr(lake, "read", lambda _key: pytest.fail("the record was read"))
    assert finality.refusal(lake, key(NOW.date() - units.DAY), NOW) is None
    assert finality.refusal(lake, key(NOW.date() + units.DAY), NOW) is None


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b'{"final_before": "soon", "gone_before": {}, "store_expires_after": null}'])
def test_a_record_that_is_none_is_an_error_and_no_open_day(lake, text):
    lake.put_new(finality.KEY, text)
    with pytest.raises(PermanentError, match=r"retention\.json of the lake is not readable"):
        finality.refusal(lake, key(date(2026, 3, 13)), NOW)
