"""The exporter: what is served, what vanishes, and that one source that is away takes no other with it."""

from __future__ import annotations

from datetime import UTC, datetime

import lake_helpers
import pytest
from lake_helpers import screen_view
from prometheus_client.parser import text_string_to_metric_families

from engagement.exporter import lake as lake_source
from engagement.exporter import series
from engagement.exporter.series import SERIES, sample
from engagement.exporter.server import SILENT_AFTER, Answer, Answers, Exporter
from engagement.freshness import ages, sla
from engagement.freshness.sla import State

NOW = datetime(2026, 3, 11, 10, 30, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOW.timestamp()

    def __call__(self):
        return self.now


def values(text):
    return {
        (found.name, *found.labels.values()): found.value for family in text_string_to_metric_families(text) for found in family.samples
    }


def closed(folder, **overrides):
    return lake_helpers.settings_of(folder, kafka_bootstrap_servers="127.0.0.1:1", **overrides)


def test_an_answer_lives_a_while_and_is_gone_then():
    clock = Clock()
    answers = Answers(clock)
    answers.put("lake", Answer(list(sample(series.HELD, 3, "events")), clock()))
    assert [family.samples[0].value for family in answers.collect()] == [3.0]
    clock.now += SILENT_AFTER + 1
    assert list(answers.collect()) == []


def test_what_is_unknown_has_no_sample():
    assert list(sample(series.NEWEST, None)) == []


@pytest.mark.parametrize("name", SERIES)
def test_every_series_is_named_as_prometheus_wants_it(name):
    found = SERIES[name]
    assert name.startswith("engagement_")
    assert not name.endswith(("_total", "_count", "_sum", "_bucket"))
    assert found.meaning[-1] != "."
    assert len(set(found.labels)) == len(found.labels)


def test_without_lake_broker_and_dagster_only_the_machine_answers(tmp_path):
    settings = closed(tmp_path)
    (tmp_path / "state").mkdir()
    work = Exporter(settings)
    work.look()
    found = values(work.text())
    up = {labels[0]: value for (name, *labels), value in found.items() if name == series.SOURCE_UP.name}
    assert up == {"machine": 1, "log": 0, "lake": 0, "dagster": 0, "audit": 0}
    assert found[series.DISK_FREE.name, "state"] > 0
    assert (series.LOG_UP.name,) not in found, "a lake that is away says nothing of the broker"


def test_a_lake_whose_broker_is_away_is_told_but_its_freshness_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr("engagement.exporter.log.TIMEOUT_SECONDS", 0.3)
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [screen_view(0, datetime.now(UTC))])
    work = Exporter(closed(tmp_path))
    work.look()
    found = values(work.text())
    work.close()
    assert found[series.LOG_UP.name,] == 0
    assert found[series.STATE.name, "hourly_engagement", "live"] == State.UNKNOWN
    assert (series.AGE.name, "hourly_engagement", "live") not in found
    assert found[series.WAITING.name, "hour", "live"] == 1
    assert found[series.RAW_ROWS.name, "session"] == 1
    assert found[series.AUDIT_FINDINGS.name, "hole"] == 0


def test_a_source_that_came_back_is_told_again(tmp_path):
    settings = closed(tmp_path)
    work = Exporter(settings)
    work.look()
    assert values(work.text())[series.SOURCE_UP.name, "lake"] == 0
    with lake_helpers.tables_of(tmp_path):
        pass
    work.look()
    assert values(work.text())[series.SOURCE_UP.name, "lake"] == 1
    work.close()


def test_bounds_of_the_late_lane_are_longer():
    slas = sla.parse("", "")
    found = {(item.series.name, *item.labels): item.value for item in lake_source.freshness(ages.judge({}, ages.NO_LOG, slas, NOW), slas)}
    asset = "hourly_engagement"
    assert found[series.SLA.name, asset, "late", "fail"] - found[series.SLA.name, asset, "live", "fail"] == slas[asset].late.total_seconds()
