"""`engagement forget` in a bucket that keeps versions, or has moved objects to an archive class.

Against moto, which stores both and executes neither: when a restore is over, only AWS decides.
"""

from __future__ import annotations

import boto3
import erasure_world as world
import pytest
from erasure_world import Broker, erase

from engagement.lake import open_lake
from engagement.lake.history import History
from engagement.tables.context import open_tables
from engagement.waiting import refresh

BUCKET = "versions"


@pytest.fixture(scope="module")
def endpoint():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint, monkeypatch):
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    client = boto3.session.Session().client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=BUCKET)
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    yield client
    for page in client.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for found in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            client.delete_object(Bucket=BUCKET, Key=found["Key"], VersionId=found["VersionId"])
    client.delete_bucket(Bucket=BUCKET)


@pytest.fixture
def settings(tmp_path, endpoint, bucket):  # noqa: ARG001 - it has to be there
    made = world.settings_of(tmp_path, lake_url=f"s3://{BUCKET}/lake", aws_endpoint_url=endpoint)
    with open_tables(made) as context:
        world.write(context, [world.event(user, world.START, place) for place, user in enumerate(["ann", "ben"])])
        refresh.until_nothing_waits(context)
    return made


def versions(bucket):
    """Bytes of every version of every object, by key."""
    found = {}
    for page in bucket.get_paginator("list_object_versions").paginate(Bucket=BUCKET):
        for item in page.get("Versions", ()):
            body = bucket.get_object(Bucket=BUCKET, Key=item["Key"], VersionId=item["VersionId"])["Body"].read()
            found.setdefault(item["Key"], []).append(body)
    return found


def test_older_versions_and_copies_on_this_machine_go_too(settings, bucket, monkeypatch):
    """At first the bucket refuses to delete versions: they are named, and the next run finishes."""
    lake, _ = open_lake(settings)
    old = {key: bodies for key, bodies in versions(bucket).items() if key.startswith(("lake/raw/", "lake/processed/"))}

    def refuse(_history, _old):
        raise PermissionError("the bucket holds it")

    with monkeypatch.context() as patched:
        patched.setattr(History, "delete", refuse)
        report = erase(settings, "ann", broker=Broker())
    assert not report.done
    assert all(" version " in key for key in report.left)
    assert set(report.left.values()) == {"the bucket holds it"}
    report = erase(settings, "ann", broker=Broker())
    assert report.done, report
    assert any(" version " in item.key and item.action == "deleted" for item in report.objects)
    now = versions(bucket)
    for key, bodies in old.items():
        assert not set(bodies) & set(now[key]), f"{key} is there as it was"
    held = list(lake.folder.rglob("*.parquet"))
    assert held
    assert {path.read_bytes() for path in held}.isdisjoint({body for bodies in old.values() for body in bodies})


def test_an_object_in_an_archive_class_is_asked_for_and_awaited(settings, bucket):
    lake, _ = open_lake(settings)
    (entry,) = lake.list("raw")
    erased = {"Bucket": BUCKET, "Key": f"lake/{entry.key}"}
    bucket.copy_object(**erased, CopySource=erased, StorageClass="GLACIER")
    report = erase(settings, "ann", broker=Broker())
    assert not report.done
    assert [item.key for item in report.objects if item.action == "restore requested"] == [entry.key]
    assert "archive class" in report.pending[0]
    bucket.copy_object(**erased, CopySource=erased, StorageClass="STANDARD")
    assert erase(settings, "ann", broker=Broker()).done
