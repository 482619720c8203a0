"""Logs for central collection: what happened with ids and offsets, and no value of anybody's event, even where things fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from helpers import eventually

from engagement.lake import open_lake
from engagement.raw.index import RawIndex
from engagement.tables import sessions
from engagement_assets.local_runs import LocalRuns, RunFailed, local_instance

MARK = "zz-somebody-zz"
NOW = datetime.now(UTC).replace(microsecond=0)


def event(number, **more):
    return {
        "event_id": f"00000000-0000-4000-8000-{number:012d}",
        "user_id": MARK,
        "event_type": "screen_view",
        "timestamp": NOW.isoformat(),
        "device_info": {"device_type": MARK, "model": MARK},
        "geo_location": {"country": "DE", "city": MARK},
        "properties": {"screen": MARK, "note": MARK},
        **more,
    }


RECORDS = [
    *(json.dumps(event(number)).encode() for number in range(4)),
    json.dumps(event(5, timestamp=MARK)).encode(),
    json.dumps(event(6, user_id=None, session_id=MARK)).encode(),
    json.dumps(event(7, event_id=MARK)).encode(),
    f'{{"user_id": "{MARK}", '.encode(),
    MARK.encode() + b"\xff",
]


def test_consumer_runs_and_exporter_tell_offsets_and_never_a_value(kafka_settings, tmp_path, monkeypatch):
    settings = kafka_settings
    producer = Producer({"bootstrap.servers": settings.kafka_bootstrap_servers})
    topic = f"{settings.topic_prefix}session"
    for record in RECORDS:
        producer.produce(topic, record, key=MARK, headers={"sender": MARK}, partition=0)
    producer.flush(30)
    environment = {**os.environ, **settings.environment(), "ENGAGEMENT_METRICS_PORT": "0", "ENGAGEMENT_FLUSH_SECONDS": "1"}
    with (tmp_path / "ingest.log").open("wb") as log:
        ingest = subprocess.Popen([sys.executable, "-m", "engagement", "ingest"], env=environment, cwd=tmp_path, stderr=log)
        lake, _ = open_lake(settings)
        index = RawIndex(lake)

        def arrived():
            index.sync()
            return sum(raw.rows for raw in index.files()) == len(RECORDS)

        eventually(arrived, 60)
        ingest.send_signal(signal.SIGTERM)
        assert ingest.wait(60) == 0

    def failing(*_given, **_more):
        raise ValueError(f"Could not convert string '{MARK}' to INT64")

    with local_instance(settings) as instance:
        runs = LocalRuns(settings, instance)
        with monkeypatch.context() as patch:
            patch.setattr(sessions, "_stitched", failing)
            with pytest.raises(RunFailed):
                list(runs.refresh())
        list(runs.refresh())
    once = [sys.executable, "-m", "engagement", "exporter", "--once"]
    looked = subprocess.run(once, env=environment, cwd=tmp_path, capture_output=True, check=False)

    consumer = (tmp_path / "ingest.log").read_text()
    told = (settings.state_dir / "logs" / "runs.log").read_text()
    assert MARK not in consumer + told + looked.stderr.decode() + looked.stdout.decode()

    lines = [json.loads(line) for line in told.splitlines()]
    assert {line["event"] for line in lines} >= {"run_started", "run_succeeded", "run_failed", "materialized"}
    assert all(line["run_id"] and line["job"] and line["timestamp"] for line in lines)
    made = next(line for line in lines if line["event"] == "materialized" and line["asset"] == "events")
    assert made["rows"] == 4
    assert list(made["offsets"].values()) == [len(RECORDS)]
    assert made["partition"] == NOW.strftime("%Y-%m-%d-%H:00")
    assert {line["event"] for line in map(json.loads, consumer.splitlines())} >= {"positioned"}
