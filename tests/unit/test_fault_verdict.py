"""The comparison of the lake with the log finds everything that can be wrong, and nothing where all is right."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from faults.log import History, Logged
from faults.verdict import EXPECT_GOOD, compare

from engagement.raw.footers import RawFile
from engagement.raw.names import Chain

NOW = datetime(2026, 3, 11, 10, tzinfo=UTC)
CHAIN = Chain("session", "5e5e5e5e", 0)


def logged(offset):
    """Every third is no event."""
    good = offset % 3
    value = json.dumps({"event_id": f"id-{offset}", "user_id": "u", "event_type": "tap"}).encode() if good else b"{broken"
    headers = (("n", b"%d" % offset), EXPECT_GOOD if good else ("expect", b"bad"))
    return Logged(b"u", value, int(NOW.timestamp() * 1000), headers)


def row(offset):
    record = logged(offset)
    common = {
        "kafka_offset": offset,
        "received_at": NOW,
        "headers": [{"name": name, "value": value} for name, value in record.headers],
        "event_id": None, "user_id": None, "event_type": None, "reject_reason": None, "payload": None, "key": None,
    }  # fmt: skip
    if EXPECT_GOOD in record.headers:
        return common | json.loads(record.value)
    return common | {"reject_reason": "bad_json", "payload": record.value, "key": record.key}


def claim(start, end, offsets=None):
    rows = [row(offset) for offset in (range(start, end) if offsets is None else offsets)]
    return RawFile(CHAIN, start, end, len(rows)), rows


def wrong(objects, aborted=(), cuts=(), acknowledged=()):
    history = History({offset: logged(offset) for offset in range(10) if offset not in aborted}, set(aborted), set(cuts))
    return dict(compare("session/0", history, objects, acknowledged).wrong)


def gap(start, end):
    return RawFile(CHAIN, start, end, 0, gap=(start, end)), []


def test_nothing_is_wrong_where_every_record_is_there_once():
    assert wrong([claim(0, 4), claim(4, 10)], acknowledged=range(10)) == {}


def test_holes_of_aborted_records_are_no_loss():
    assert wrong([claim(0, 4, [0, 1, 3]), claim(4, 10)], aborted=[2]) == {}


def test_a_record_without_a_row_is_lost():
    assert wrong([claim(0, 4, [0, 1, 3]), claim(4, 10)]) == {"lost": 1}


def test_a_record_after_the_last_claim_was_not_read():
    assert wrong([claim(0, 8)]) == {"not read to the end": 2}


def test_a_row_too_many_is_doubled():
    assert wrong([claim(0, 6), claim(6, 10, [6, 6, 7, 8, 9])]) == {"doubled": 1}


def test_overlapping_claims_are_a_broken_chain_and_doubled():
    assert wrong([claim(0, 6), claim(4, 10)]) == {"broken chains": 1, "doubled": 2}


def test_a_hole_between_claims_is_a_broken_chain_and_lost():
    assert wrong([claim(0, 4), claim(6, 10)]) == {"broken chains": 1, "lost": 2}


def test_an_aborted_record_must_not_be_seen():
    assert wrong([claim(0, 10)], aborted=[2]) == {"aborted but visible": 1}


def test_a_row_that_the_log_does_not_have_is_named():
    assert wrong([claim(0, 11)]) == {"not in the log": 1}


def test_what_was_acknowledged_must_be_in_the_log():
    assert wrong([claim(0, 10)], acknowledged=[3, 10]) == {"acknowledged but not in the log": 1}


def test_a_row_outside_its_claim_is_named():
    assert wrong([claim(0, 4, [0, 1, 2, 3, 4]), claim(4, 10, [5, 6, 7, 8, 9])]) == {"outside their claim": 1}


def test_a_footer_that_miscounts_is_named():
    raw, rows = claim(0, 10)
    assert wrong([(replace(raw, rows=9), rows)]) == {"wrong footers": 1}


def test_a_recorded_gap_up_to_a_cut_is_no_loss():
    assert wrong([claim(0, 2), gap(2, 5), claim(5, 10)], cuts=[5]) == {}


def test_a_gap_that_does_not_end_at_a_cut_is_wrong():
    assert wrong([claim(0, 2), gap(2, 6), claim(6, 10)], cuts=[5]) == {"wrong gaps": 1}


def test_a_gap_with_rows_is_wrong():
    raw, rows = claim(2, 5)
    assert wrong([claim(0, 2), (replace(raw, gap=(2, 5)), rows), claim(5, 10)], cuts=[5]) == {
        "wrong gaps": 1,
        "visible though recorded as a gap": 3,
    }


@pytest.mark.parametrize(
    ("offset", "name", "value"),
    [
        (1, "event_id", "other"),
        (1, "headers", []),
        (1, "received_at", NOW.replace(year=2025)),
        (1, "reject_reason", "bad_json"),
        (1, "payload", b"kept for nothing"),
        (3, "payload", b"{broke"),
        (3, "key", None),
        (3, "reject_reason", None),
    ],
)
def test_a_row_that_is_not_its_record_is_named(offset, name, value):
    raw, rows = claim(0, 10)
    rows[offset][name] = value
    assert wrong([(raw, rows)]) == {f"of different {name}": 1}
