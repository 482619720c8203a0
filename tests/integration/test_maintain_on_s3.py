"""The maintenance run over a lake in a bucket: against moto, which stores lifecycle rules (and does not act on them), and versitygw, which
has none. That a bucket acts on its rules, only AWS shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import boto3
import lake_helpers
import pytest

from engagement import settings as settings_module
from engagement.lake import open_lake
from engagement.maintenance import lifecycle, policy, run, sweep
from engagement.tables import finality
from engagement.tables.context import open_tables
from engagement.waiting import refresh, waits

NOW = datetime.now(UTC)
OLD = NOW.replace(hour=10, minute=0, second=0, microsecond=0) - timedelta(days=60)
POLICY = "[archive]\ninfrequent = 30\nexpire = 50\n[events]\nexpire = 50\n"
LOGS = {"ID": "logs", "Filter": {"Prefix": "logs/"}, "Status": "Enabled", "Expiration": {"Days": 3}}


@pytest.fixture(scope="module")
def moto():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def aws(monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def settings_of(folder, endpoint, bucket):
    (folder / "retention.toml").write_text(POLICY)
    told = {"LAKE_URL": f"s3://{bucket}/one/lake", "AWS_ENDPOINT_URL": endpoint, "ARCHIVE_AFTER_MINUTES": "0", "THREADS": "1"}
    return settings_module.load({f"ENGAGEMENT_{name}": value for name, value in told.items()}, folder)


@pytest.mark.usefixtures("aws")
def test_rules_of_a_bucket_are_set_beside_those_of_others_and_unfinished_uploads_go(moto, tmp_path):
    client = boto3.session.Session().client("s3", endpoint_url=moto, region_name="us-east-1")
    client.create_bucket(Bucket="rules")
    client.put_bucket_lifecycle_configuration(Bucket="rules", LifecycleConfiguration={"Rules": [LOGS]})
    settings = settings_of(tmp_path, moto, "rules")
    lake, _ = open_lake(settings)
    step = lifecycle.apply(settings, lake, policy.load(settings), NOW)
    found = {rule["ID"]: rule for rule in client.get_bucket_lifecycle_configuration(Bucket="rules")["Rules"]}
    assert found.pop("logs") == LOGS
    assert set(found) == {f"engagement-one/lake:{name}" for name in ("archive", "processed/app_events", "raw", "uploads")}
    assert found["engagement-one/lake:processed/app_events"]["Expiration"]["Days"] == 57
    assert (step.objects, finality.read(lake).store_expires_after) == (4, 57)
    assert lifecycle.apply(settings, lake, policy.load(settings), NOW).objects == 0
    place = {"Bucket": "rules", "Key": "one/lake/archive/session/part"}
    client.upload_part(**place, UploadId=client.create_multipart_upload(**place)["UploadId"], PartNumber=1, Body=b"half")
    for dry_run in (True, False):  # moto says of every upload that it began in 2010
        assert sweep.apply(lake, NOW, dry_run=dry_run).items == ["delete incomplete upload of archive/session/part"]
    assert "Uploads" not in client.list_multipart_uploads(Bucket="rules")


def test_in_a_bucket_without_such_rules_a_run_says_so_and_lets_go_by_itself(s3_server, tmp_path, monkeypatch):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    s3_server.bucket("maintained")
    settings = settings_of(tmp_path, s3_server.endpoint, "maintained")
    with open_tables(settings) as context:
        for day in range(2):
            events = [lake_helpers.screen_view(10 * day + number, OLD + timedelta(days=20 * day, minutes=number)) for number in range(3)]
            lake_helpers.write(context, events)
        refresh.until_nothing_waits(context)
        result = run.maintain_opened(context, NOW)
        assert result.problems == []
        steps = {step.name: step for step in result.steps}
        assert "knows no lifecycle rules" in steps["lifecycle"].notes[0]
        assert sorted(item.split("/")[0] for item in steps["retention"].items) == ["delete processed", "empty archive", "empty raw"]
        sizes = {size.layer: size.objects for size in result.sizes}
        assert sizes | {"events": 1, "archive": 2} == sizes
        assert finality.read(context.lake).store_expires_after is None
        assert not waits.compute(context)
        before = {entry.key: entry.version for entry in context.lake.list("")}
        assert not any(step.objects for step in run.maintain_opened(context, NOW).steps)
        assert {entry.key: entry.version for entry in context.lake.list("")} == before
