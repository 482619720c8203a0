"""The simulator's core: reproducible, true to the contract, faults counted; and the shell around a mock broker."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engagement import contract
from engagement.cli import run
from engagement.settings import TOPIC_FAMILIES, load
from engagement.stack.simulator import Faults, events
from engagement.stack.simulator.behaviour import Kind, Plan, Rhythm, plan, visit
from engagement.stack.simulator.chance import stream
from engagement.stack.simulator.faults import GROUPS, MALFORMED
from engagement.stack.simulator.sender import Report, Sender, paced

START = datetime(2026, 1, 15, 22, 30, tzinfo=UTC)
NO_FAULTS = Faults(late=0, duplicates=0, malformed=0, unknown_fields=0)


def taken(number, *, seed=7, **options):
    return list(islice(events(seed, START, None, **options), number))


def times(records):
    return [datetime.fromisoformat(json.loads(record.value)["timestamp"]) for record in records]


def test_same_seed_and_start_give_the_same_records_byte_for_byte():
    assert taken(3000) == taken(3000)


def test_another_seed_gives_another_population_and_other_events():
    ours, theirs = taken(500), taken(500, seed=8)
    assert not {record.key for record in ours} & {record.key for record in theirs} - {None}
    assert not {record.value for record in ours} & {record.value for record in theirs} - {None, b""}


def test_the_seed_alone_decides_whatever_the_hash_seed_of_the_process():
    import hashlib
    import os
    import subprocess
    import sys

    script = (
        "import hashlib;from datetime import *;from itertools import islice;from engagement.stack.simulator import events;"
        f"r=islice(events(7,datetime.fromisoformat('{START.isoformat()}'),None),200);"
        "print(hashlib.sha256(b''.join(x.value or b'' for x in r)).hexdigest())"
    )
    expected = hashlib.sha256(b"".join(record.value or b"" for record in taken(200))).hexdigest()
    another = os.environ | {"PYTHONHASHSEED": "1"}  # ours is random
    done = subprocess.run([sys.executable, "-c", script], env=another, capture_output=True, check=True, text=True)
    assert done.stdout.strip() == expected


def test_a_shorter_run_is_the_beginning_of_a_longer_one():
    short = list(events(7, START, START + timedelta(minutes=5)))
    assert short == taken(len(short))
    assert all(START <= record.due_at < START + timedelta(minutes=5) for record in short)


def test_good_events_keep_the_contract_and_go_to_their_family():
    families = {"install": "install", "view_notification": "view_notification", "click_notification": "view_notification"}
    seen = set()
    for record in taken(8_000, users=100_000, faults=NO_FAULTS):
        event = contract.decode(record.value)
        assert event.user_id.encode() == record.key
        assert record.topic_family == families.get(event.event_type, "session")
        assert event.event_time == record.due_at
        seen.add(event.event_type)
    assert seen == {"install", "session_start", "session_end", "screen_view", "tap", "swipe", "view_notification", "click_notification"}


def test_identities_are_unique():
    records = taken(8_000, faults=NO_FAULTS)
    assert len({contract.decode(record.value).event_id for record in records}) == len(records)


@settings(max_examples=15, deadline=None)
@example(seed=27589, users=91, rate=37.0, late=0.19088419647757243, duplicates=0.10546875, malformed=0.28125)  # cut inside a character
@given(
    seed=st.integers(0, 2**63), users=st.integers(1, 10_000), rate=st.floats(0.5, 5000),
    late=st.floats(0, 0.3), duplicates=st.floats(0, 0.3), malformed=st.floats(0, 0.3),
)  # fmt: skip
def test_records_come_in_due_order_and_each_fault_is_what_its_name_says(*, seed, users, rate, late, duplicates, malformed):
    records = taken(300, seed=seed, users=users, rate=rate, faults=Faults(late, duplicates, malformed))
    assert all(earlier.due_at <= later.due_at for earlier, later in pairwise(records))
    for record in records:
        reason = contract.reason(record.value)
        expected = MALFORMED[record.fault].reason if record.fault in MALFORMED else None
        assert reason == expected, record
        assert record.topic_family in TOPIC_FAMILIES


def test_fault_shares_are_about_as_asked():
    asked = Faults(late=0.05, duplicates=0.1, malformed=0.15, unknown_fields=0.2)
    records = list(events(7, START - timedelta(hours=12), START, rate=0.5, faults=asked))
    found = Counter(GROUPS[record.fault] for record in records if record.fault)
    events_ = len(records) - found["duplicates"]
    for name in ("duplicates", "malformed", "unknown_fields"):
        assert found[name] / events_ == pytest.approx(getattr(asked, name), rel=0.1)
    assert found["late"] / events_ == pytest.approx(asked.late, rel=0.3)  # late ones of the last hours are not there yet
    assert set(MALFORMED) <= {record.fault for record in records}


def test_no_faults_means_none():
    assert {record.fault for record in taken(5000, faults=NO_FAULTS)} == {None}


def test_a_copy_has_an_earlier_original_of_the_same_identity():
    records = taken(10_000, faults=Faults(late=0, duplicates=0.05, malformed=0))
    originals = {}
    copies = Counter()
    for record in records:
        event = contract.decode(record.value)
        identity = (event.event_id.lower(), event.event_time)
        if record.fault and record.fault.startswith("copy"):
            copies[record.fault] += 1
            assert originals[identity].due_at < record.due_at
            assert (originals[identity].value == record.value) is (record.fault == "copy")
            assert originals[identity].key == record.key
        else:
            assert identity not in originals
            originals[identity] = record
    assert set(copies) == {"copy", "copy_upper_case"}


def test_late_events_keep_their_time_and_arrive_minutes_to_hours_later():
    records = list(events(7, START, START + timedelta(hours=6), rate=1, faults=Faults(late=0.1, duplicates=0, malformed=0)))
    delays = [record.due_at - time for record, time in zip(records, times(records), strict=True) if record.fault == "late"]
    assert min(delays) >= timedelta(minutes=1)
    assert max(delays) > timedelta(hours=1)


def test_unknown_fields_are_kept_by_the_contract():
    found = [record for record in taken(8_000) if record.fault in ("extra", "extra_nested")]
    assert {record.fault for record in found} == {"extra", "extra_nested"}
    assert all("_extra" in json.loads(contract.decode(record.value).properties) for record in found)


def test_future_timestamps_lie_days_ahead():
    found = [record for record in taken(10_000, faults=Faults(malformed=0.05)) if record.fault == "future_timestamp"]
    assert found
    assert all(time - record.due_at > timedelta(days=1) for record, time in zip(found, times(found), strict=True))


def test_long_runs_have_sessions_across_hours_and_midnight_and_bounces():
    spans = {}
    sizes = Counter()
    for record in events(7, START, START + timedelta(hours=5), users=1000, rate=1, faults=NO_FAULTS):
        event = contract.decode(record.value)
        if event.session_id:
            spans.setdefault(event.session_id, []).append(event.event_time)
            sizes[event.session_id] += 1
    assert any(span[0].day != span[-1].day for span in spans.values())
    assert any(span[-1].hour - span[0].hour >= 2 for span in spans.values())
    assert any(size == 3 for size in sizes.values())


def test_one_client_session_stays_with_one_user_device_and_version():
    seen = {}
    for record in taken(8_000, faults=NO_FAULTS):
        event = contract.decode(record.value)
        if event.session_id:
            facts = (event.user_id, event.device_model, event.app_version, event.country)
            assert seen.setdefault(event.session_id, facts) == facts


@pytest.mark.parametrize(("rate", "users"), [(50, 2000), (5, 2000), (1000, 1000), (50, 5), (300, 100_000)])
def test_the_mean_is_the_asked_rate_from_the_first_minutes_on(rate, users):
    minutes = max(1, 10_000 // rate // 60)
    found = sum(1 for _ in events(7, START, START + timedelta(minutes=minutes), users=users, rate=rate, faults=NO_FAULTS))
    assert found / (minutes * 60) == pytest.approx(rate, rel=0.2)


@pytest.mark.parametrize(("rate", "users"), [(50, 2000), (5, 2000), (2000, 50_000)])
def test_visits_are_as_long_as_traffic_reckons(rate, users):
    rng, rhythm = stream(1), Rhythm.of(rate, users)
    sizes = [sum(1 for _ in visit(rng, plan(rng, rhythm), 0)) for _ in range(700)]
    assert sum(sizes) / len(sizes) == pytest.approx(rhythm.mean_events, rel=0.1)


@given(seed=st.integers(), rate=st.floats(0.5, 500), start=st.integers(0, 2**51))
def test_a_visit_runs_forward_and_never_pauses_for_a_session_gap(seed, rate, start):
    rng = stream(seed)
    planned: Plan = plan(rng, Rhythm.of(rate, 2000))
    at = [happening.at_us for happening in visit(rng, planned, start)]
    assert at[0] == start
    assert all(0 <= later - earlier <= 1_800_000_000 for earlier, later in pairwise(at))


def test_even_a_slow_wander_stays_one_session():
    slow = Plan(Kind.WANDER, 60, 20 * 60_000_000)
    at = [happening.at_us for happening in visit(stream(3), slow, 0)]
    assert max(later - earlier for earlier, later in pairwise(at)) <= 1_800_000_000


def test_paced_waits_until_due_and_stops_when_told():
    stop, now, waits = threading.Event(), [START], []

    def wait(seconds):
        waits.append(seconds)
        now[0] += timedelta(seconds=seconds)

    sent = []
    for record in paced(events(7, START - timedelta(seconds=5), None), wait, stop, lambda: now[0]):
        assert record.due_at <= now[0]
        sent.append(record)
        if len(sent) == 600:
            stop.set()
    assert len(sent) == 600
    assert sum(waits) == pytest.approx((sent[-1].due_at - START).total_seconds(), abs=0.01)


def test_report_sums_kinds_by_option():
    report = Report(Counter(session=9), Counter(copy=2, copy_upper_case=1, empty=3, late=1))
    assert report.as_json() == {
        "events": 9, "by_topic": {"session": 9},
        "faults": {"late": 1, "duplicates": 3, "unknown_fields": 0, "malformed": 3},
        "fault_kinds": {"copy": 2, "copy_upper_case": 1, "empty": 3, "late": 1},
    }  # fmt: skip


@pytest.fixture(scope="module")
def mock_broker():
    """librdkafka's mock cluster with the three topics; lives as long as its client."""
    from confluent_kafka import Producer

    client = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "unused", "log_level": 0})
    broker = next(iter(client.list_topics(timeout=10).brokers.values()))
    for topic in TOPIC_FAMILIES:
        client.list_topics(topic, timeout=10)
    yield f"{broker.host}:{broker.port}"
    client.flush(0)


def test_sender_counts_what_the_broker_acknowledged(mock_broker, tmp_path):
    said = []
    sender = Sender(load({}, tmp_path, kafka_bootstrap_servers=mock_broker), stop=threading.Event(), say=said.append)
    records = taken(2000)
    sender.wait_for_topics()
    for record in records:
        sender.send(record)
    sender.close()
    assert sender.report.by_topic == Counter(record.topic_family for record in records) | Counter(install=0)
    assert sender.report.kinds == Counter(record.fault for record in records if record.fault)
    assert not said


def test_an_absent_broker_is_told_once_and_waited_for(tmp_path):
    stop, said = threading.Event(), []

    class Impatient(threading.Event):
        def wait(self, timeout=None):
            tries.append(timeout)
            if len(tries) == 3:
                stop.set()
            return True

    tries, patient = [], Impatient()
    patient.is_set = stop.is_set
    sender = Sender(load({}, tmp_path, kafka_bootstrap_servers="127.0.0.1:1"), stop=patient, say=said.append, ask_seconds=0.2)
    sender.wait_for_topics()
    assert tries == [0.5, 1.0, 2.0]
    assert len(said) == 1
    assert "127.0.0.1:1" in said[0]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ("--rate 0", "--rate"), ("--rate nan", "--rate"), ("--rate x", "--rate"), ("--users 0", "--users"), ("--history 6x", "--history"),
        ("--history-only", "--history"), ("--start 2026-01-01", "--start"), ("--late 1.5", "--late"),
        ("--late .6 --malformed .6", "--late"),
        ("--max-events 0", "--max-events"), ("--bogus", "--bogus"),
    ],
)  # fmt: skip
def test_wrong_options_are_one_line_and_exit_2(capsys, options, named):
    assert run(["simulate", *options.split()]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert named in err
