"""`engagement forget` beside a real consumer and a real broker: what the consumer holds, and what comes later."""

from __future__ import annotations

import signal
from dataclasses import replace

from helpers import eventually
from ingest_helpers import ingest, log_of, produce, read_to_the_end, records_read, rows_of

from engagement.erasure.forget import forget
from engagement.stack import processes

KEY = "a key beside a broker"


def test_a_flush_that_a_consumer_holds_is_awaited_and_later_records_are_erased_rows(kafka_settings):
    settings = replace(kafka_settings, hash_key=KEY)
    (port,) = processes.free_ports("127.0.0.1", 1)
    produce(settings, 0, 300)
    own = {"ENGAGEMENT_FLUSH_SECONDS": "3600", "ENGAGEMENT_METRICS_PORT": str(port), "ENGAGEMENT_HASH_KEY": KEY}
    child = ingest(settings, **own)
    eventually(lambda: records_read(port) == 900, 60)
    report = forget(settings, ["u7"])
    assert not report.done
    assert report.pending
    assert all("records of the log are not in the lake" in text for text in report.pending)
    assert all("retention.ms" in note for note in report.notes)
    child.send_signal(signal.SIGTERM)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    assert forget(settings, ["u7"], wait_seconds=60).done
    produce(settings, 300, 100)
    read_to_the_end(settings)
    log = log_of(settings)
    rows = rows_of(settings)
    assert len(rows) == len(log)
    for row in rows:
        key, *_ = log[row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]]
        assert (row["reject_reason"] == "erased") == (key == b"u7")
        assert row["user_id"] != "u7"
        assert b"u7" not in (row["key"], row["payload"])
    assert forget(settings, ["u7"]).done
