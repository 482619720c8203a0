"""The check of raw_events in a real instance: a whole log passes, a lost object fails, a recorded gap warns."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from dagster import AssetCheckKey, AssetCheckSeverity, AssetKey, DagsterInstance, build_schedule_context
from oracle import RawEvent

from engagement.ingest import importer
from engagement.lake import open_lake
from engagement.raw import audit, files, footers
from engagement.raw.coverage import Gap
from engagement.raw.findings import Audit, ChainAudit
from engagement.raw.names import topic_chain
from engagement.waiting import refresh
from engagement_assets import raw
from engagement_assets.definitions import build_definitions
from engagement_assets.jobs import AUDIT_JOB
from resources.tables import Tables
from resources.tags import LANE

NOW = datetime.now(UTC).replace(microsecond=0)
CHAIN = topic_chain("session", "5e" * 16, 0)
KEY = AssetCheckKey(AssetKey(raw.RAW_EVENTS), raw.CHAINS_WHOLE)


class Log:
    """A raw log that a test writes and damages, with an instance that audits it."""

    def __init__(self, folder, instance) -> None:
        self.settings = lake_helpers.settings_of(folder)
        self.lake, self.format = open_lake(self.settings)
        self.instance = instance
        self.definitions = build_definitions(
            self.settings.history_start, Tables(environment=self.settings.environment(), folder=str(folder))
        )

    def write(self, *numbers, at=NOW) -> None:
        with lake_helpers.tables_of(self.settings.state_dir.parent) as context:
            for number in numbers:
                event = RawEvent(
                    event_id=f"00000000-0000-4000-8000-{number:012d}", user_id="u", session_id=None, event_type="tap", event_time=at,
                    received_at=at, kafka_topic="session", kafka_topic_id="5e" * 16, kafka_partition=0, kafka_offset=number,
                    device_type="iPhone", device_model=None, app_version="1.0", country="DE", screen="Home",
                )  # fmt: skip
                lake_helpers.write(context, [event])

    def refresh(self) -> None:
        with lake_helpers.tables_of(self.settings.state_dir.parent) as context:
            refresh.until_nothing_waits(context)

    def check(self):
        """Run the job; the evaluation that the instance now shows for the check."""
        job = self.definitions.resolve_job_def(AUDIT_JOB)
        assert job.execute_in_process(instance=self.instance).success
        return self.latest()

    def latest(self):
        record = self.instance.event_log_storage.get_latest_asset_check_execution_by_key([KEY])[KEY]
        return record.event.dagster_event.event_specific_data


@pytest.fixture
def log(tmp_path):
    home = tmp_path / "dagster"
    home.mkdir()
    with DagsterInstance.local_temp(str(home)) as instance:
        yield Log(tmp_path, instance)


def rows(found, name):
    return [record.data for record in found.metadata[name].records]


def test_a_whole_log_passes_with_its_counts(log):
    log.write(0, 1, 2)
    found = log.check()
    assert (found.passed, found.description) == (True, "chains 1 whole")
    counts = {name: value.value for name, value in found.metadata.items()}
    assert counts | {"chains": 1, "files": 3, "offsets": 3, "rows": 3, "gaps": 0, "problems": 0, "lost_records": 0} == counts
    assert "findings" not in counts


def test_a_deleted_object_fails_with_its_chain_and_range(log):
    log.write(0, 1, 2)
    log.lake.delete(CHAIN.key(1))
    found = log.check()
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert "session/5e5e5e5e-00000 offsets [1, 2)" in found.description
    assert found.metadata["hint"].value == raw.HINT
    assert rows(found, "findings") == [
        {"kind": "hole", "what": "session/5e5e5e5e-00000 offsets [1, 2): no object claims them and no gap record explains it"}
    ]


def test_a_deleted_last_object_fails_once_events_were_made_from_it(log):
    log.write(0, 1)
    log.refresh()
    log.lake.delete(CHAIN.key(1))
    assert "offsets [1, 2)" in log.check().description


def test_a_torn_object_fails_and_the_rest_is_counted(log):
    log.write(0, 1)
    log.lake.path(CHAIN.key(0)).write_bytes(b"torn")
    found = log.check()
    assert (found.passed, found.severity, found.metadata["rows"].value) == (False, AssetCheckSeverity.ERROR, 1)
    assert [item["kind"] for item in rows(found, "findings")] == ["unreadable"]


def test_a_torn_archive_part_fails(log):
    log.lake.put_new("archive/session/year=2026/month=03/day=11/part-0.parquet", b"torn")
    found = log.check()
    assert [item["kind"] for item in rows(found, "findings")] == ["unreadablepart"]


def test_a_recorded_gap_warns_for_some_days_and_stays_listed(log):
    log.write(0, at=NOW - timedelta(days=30))
    files.write_gap(log.lake, CHAIN, 1, 5)
    found = log.check()
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    text = "session/5e5e5e5e-00000 offsets [1, 5): the log lost them before they were read"
    assert found.description == f"chains 1 whole, 1 gap of 4 records; {text}"
    (gap,) = rows(found, "gap_table")
    assert gap == {
        "chain": CHAIN.label, "start": 1, "end": 5, "records": 4, "from": (NOW - timedelta(days=30)).isoformat(), "to": "now",
    }  # fmt: skip
    log.write(5, at=NOW - timedelta(days=8))
    found = log.check()
    assert found.passed
    assert rows(found, "gap_table")[0]["to"] == (NOW - timedelta(days=8)).isoformat()


@pytest.mark.parametrize(("days", "passed"), [(6.9, False), (7.1, True)])
def test_a_gap_is_recent_for_a_week_after_the_log_went_on(days, passed):
    chain = ChainAudit("c", 9, 1, 0, 0, 5, 0, gaps=(Gap(0, 4, None, NOW - timedelta(days=days)),))
    assert raw.judge(Audit((chain,)), NOW).passed == passed


def test_damage_is_an_error_even_beside_a_recent_gap():
    chain = ChainAudit("c", 9, 1, 0, 0, 5, 0, gaps=(Gap(0, 4),))
    broken = audit.examine("c/5e5e5e5e-00000", [footers.RawFile(topic_chain("c", "5e" * 16, 0), 4, 5, 0)])
    found = raw.judge(Audit((chain, broken)), NOW)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)


def test_an_import_whose_last_object_is_full_warns(log, tmp_path, monkeypatch):
    monkeypatch.setattr(importer, "ROWS_PER_OBJECT", 2)
    monkeypatch.setattr(audit, "IMPORT_ROWS", 2)
    path = tmp_path / "history.jsonl"
    event = {"user_id": "u1", "event_type": "tap", "timestamp": NOW.isoformat()}
    lines = [json.dumps({"event_id": f"00000000-0000-4000-8000-{number:012d}"} | event) for number in range(2)]
    path.write_text("\n".join(lines))
    importer.import_file(importer.inspect(path), log.lake, log.format, log.settings)
    found = log.check()
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert "its file may have been longer" in found.description
    assert len(found.metadata["imports_that_may_go_on"].value) == 1


def test_the_schedule_asks_for_the_audit_and_keeps_out_of_the_live_lanes(log):
    (schedule,) = [found for found in log.definitions.get_repository_def().schedule_defs if found.job_name == AUDIT_JOB]
    with build_schedule_context(instance=log.instance, scheduled_execution_time=NOW) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.run_key is None
    assert log.definitions.resolve_job_def(AUDIT_JOB).tags[LANE] == "maintenance"


def test_the_check_runs_alone_on_demand_as_the_page_starts_it(log):
    log.write(0)
    job = log.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection=set(), asset_check_selection={KEY})
    assert job.execute_in_process(instance=log.instance).success
    assert log.latest().passed
