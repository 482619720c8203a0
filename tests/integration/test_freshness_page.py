"""The page of freshness: the same ages as everywhere, in words, with and without a lake's log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lake_helpers
import pytest
from ingest_helpers import produce, read_to_the_end

from engagement.dashboard import slas
from engagement.freshness.ages import Seen
from engagement.lake import open_lake

MINUTE = timedelta(minutes=1)


def shown(settings, now):
    found = slas.table(slas.judged(settings, Seen(), now), settings).set_index("asset")
    return found["SLA"].to_dict(), found["lacks records that are"].to_dict()


def test_what_lies_in_the_log_is_lacked_by_every_asset_and_nothing_is_once_it_was_read(kafka_settings):
    produce(kafka_settings, 0, 30)
    open_lake(kafka_settings)
    states, lacks = shown(kafka_settings, datetime.now(UTC) + 6 * MINUTE)
    assert states["raw_events"] == states["hourly_engagement"] == slas.SHOWN[slas.State.FAIL]
    assert lacks["raw_events"] == lacks["daily_engagement"] == "6 min old"
    read_to_the_end(kafka_settings)
    states, lacks = shown(kafka_settings, datetime.now(UTC))
    assert (states["raw_events"], lacks["raw_events"]) == (slas.SHOWN[slas.State.OK], "none")


def test_of_a_lake_of_imports_no_broker_is_missed(tmp_path):
    settings = lake_helpers.settings_of(tmp_path, kafka_bootstrap_servers="127.0.0.1:1")
    open_lake(settings)
    states, _ = shown(settings, datetime.now(UTC))
    assert set(states.values()) == {slas.SHOWN[slas.State.OK]}


def test_without_its_broker_nobody_knows(tmp_path):
    settings = lake_helpers.settings_of(tmp_path, kafka_bootstrap_servers="127.0.0.1:1")
    now = datetime.now(UTC)
    with lake_helpers.tables_of(tmp_path) as context:
        lake_helpers.write(context, [lake_helpers.screen_view(0, now - MINUTE)])
    states, lacks = shown(settings, now)
    assert states["hourly_engagement"] == slas.SHOWN[slas.State.UNKNOWN]
    assert lacks["hourly_engagement"] == "?"


@pytest.mark.parametrize("made", [True, False], ids=["with a lake", "without"])
def test_the_page_is_drawn(tmp_path, monkeypatch, made):
    from streamlit.testing.v1 import AppTest

    settings = lake_helpers.settings_of(tmp_path)
    monkeypatch.setenv("ENGAGEMENT_LAKE_URL", settings.lake_url if made else "s3://nowhere-at-all/x")
    monkeypatch.setenv("ENGAGEMENT_STATE_DIR", str(settings.state_dir))
    monkeypatch.setenv("ENGAGEMENT_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("ENGAGEMENT_AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    script = (
        "from engagement import settings as s\nimport streamlit as st\nfrom engagement.dashboard import slas\n"
        "st.cache_data.clear()\nslas.page(s.load())\n"
    )
    drawn = AppTest.from_string(script, default_timeout=60).run()
    assert not drawn.exception, drawn.exception
    if made:
        assert drawn.dataframe[0].value["asset"].tolist()[0] == "raw_events"
    else:
        assert drawn.warning[0].value.startswith("The lake cannot be read")
