"""The lake on a real S3 server keeps every promise of the folder, and S3's own mishaps change nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from helpers import eventually
from lake_suite import *  # noqa: F403 - the tests that hold for every store
from lake_suite import KEY, keys
from s3_helpers import opener_of
from s3_proxy import CUT, LATE, LOST, TORN, Error, Proxy

from engagement.errors import PermanentError
from engagement.lake import AlreadyExists, Changed, LakeUnavailable, OutcomeUnknown, s3_client
from engagement.lake.lease import Leases

ZERO, SECOND, HOUR = timedelta(), timedelta(seconds=1), timedelta(hours=1)


@pytest.fixture
def opener(s3_server, tmp_path, monkeypatch):
    made = opener_of(s3_server, tmp_path)
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    return made


@pytest.fixture
def processes():
    return "spawn"  # S3's client does not outlive a fork


@pytest.fixture
def proxy(s3_server):
    with Proxy(s3_server.endpoint) as proxy:
        yield proxy


@pytest.fixture
def far(opener, proxy):
    """The same lake, seen through the proxy."""
    return opener(endpoint=proxy.endpoint)


def once(fault, kind, key=KEY):
    """The fault for the first such request alone."""
    left = [fault]
    return lambda request: left.pop() if left and request.kind == kind and request.key.endswith(key) else None


def always(fault, *kinds):
    return lambda request: fault if request.kind in kinds else None


# What happens to a put


def test_after_a_lost_answer_of_a_claim_the_name_is_taken(far, lake, proxy):
    proxy.fault = once(LOST, "PUT")
    with pytest.raises(AlreadyExists):  # the client asked again, and found its own object
        far.put_new(KEY, b"abc")
    assert lake.read(KEY) == b"abc"


def test_a_claim_whose_answer_does_not_come_in_time_is_an_unknown_outcome(opener, lake, proxy, monkeypatch):
    monkeypatch.setattr(s3_client, "REQUEST_SECONDS", 0.5)
    far = opener(endpoint=proxy.endpoint)
    proxy.fault = once(LATE, "PUT")
    with pytest.raises(OutcomeUnknown, match=f"{KEY}: the store .* did not answer in time"):
        far.put_new(KEY, b"abc")
    proxy.given_up.set()
    assert lake.read(KEY) == b"abc"


def test_a_replacement_whose_answer_does_not_come_in_time_makes_the_writer_start_over(opener, lake, proxy, monkeypatch):
    monkeypatch.setattr(s3_client, "REQUEST_SECONDS", 0.5)
    far, old = opener(endpoint=proxy.endpoint), lake.put_new(KEY, b"old")
    proxy.fault = once(LATE, "PUT")
    with pytest.raises(Changed):
        far.replace(KEY, b"new", old)
    proxy.given_up.set()
    assert lake.read(KEY) == b"new"


def test_a_claim_that_never_gets_through_is_an_unknown_outcome_and_the_name_is_free(far, lake, proxy):
    proxy.fault = always(CUT, "PUT")
    with pytest.raises(OutcomeUnknown):
        far.put_new(KEY, b"abc")
    proxy.fault = always(None)
    assert lake.stat(KEY) is None
    far.put_new(KEY, b"abc")


def test_after_a_lost_answer_of_a_replacement_the_writer_starts_over(far, lake, proxy):
    old = lake.put_new(KEY, b"old")
    proxy.fault = once(LOST, "PUT")
    with pytest.raises(Changed):
        far.replace(KEY, b"new", old)
    assert lake.read(KEY) == b"new"


def test_a_lease_whose_answer_was_lost_is_held_all_the_same(far, proxy):
    proxy.fault = once(LOST, "PUT", ".locks/work")
    with far.lock("work"):
        far.put_new(KEY, b"abc")


def test_a_replacement_that_never_got_through_is_unavailable_and_the_old_object_stays(far, lake, proxy):
    old = lake.put_new(KEY, b"old")
    proxy.fault = always(CUT, "PUT")
    with pytest.raises(LakeUnavailable, match="nobody knows whether it will be replaced"):
        far.replace(KEY, b"new", old)
    assert lake.stat(KEY) == old


def test_a_lost_answer_after_which_another_writer_was_faster_is_a_change(far, lake, proxy):
    old = lake.put_new(KEY, b"old")

    def fault(request):
        if request.kind != "PUT":
            return None
        proxy.fault = lambda _request: None
        lake.replace(KEY, b"theirs", old)
        return CUT

    proxy.fault = fault
    with pytest.raises(Changed):
        far.replace(KEY, b"ours", old)
    assert lake.read(KEY) == b"theirs"


def test_a_server_error_is_tried_again(far, proxy):
    proxy.fault = once(Error(503, "SlowDown"), "PUT")
    far.put_new(KEY, b"abc")
    proxy.fault = once(Error(500, "InternalError"), "GET")
    assert far.read(KEY) == b"abc"
    assert proxy.count("PUT") == 2


def test_a_torn_answer_is_never_taken_for_the_object(far, lake, proxy):
    entry = lake.put_new(KEY, b"abc" * 10_000)
    proxy.fault = always(TORN, "GET")
    with pytest.raises(LakeUnavailable):
        far.local([entry])
    assert not [path for path in far.folder.rglob("*") if path.is_file()]
    proxy.fault = once(TORN, "GET")
    assert far.read(KEY) == b"abc" * 10_000


def test_an_upload_in_pieces_that_fails_leaves_nothing(far, lake, proxy):
    proxy.fault = lambda request: (
        Error(403, "AccessDenied") if "partNumber" in request.query and request.query["partNumber"] == ["3"] else None
    )
    with pytest.raises(PermanentError, match="access denied"):
        far.put_new(KEY, bytes(40 << 20))
    assert lake.stat(KEY) is None
    assert list(lake.left_overs(lake.clock() + SECOND, ZERO, remove=False)) == []


def test_an_upload_that_a_dead_writer_left_is_swept(far, lake, proxy):
    proxy.fault = lambda request: Error(403, "AccessDenied") if request.kind == "DELETE" or "partNumber" in request.query else None
    with pytest.raises(PermanentError):
        far.put_new(KEY, bytes(40 << 20))
    now = lake.clock() + SECOND
    assert [left.name for left in lake.left_overs(now, HOUR, remove=True)] == []
    assert [left.name for left in lake.left_overs(now, ZERO, remove=True)] == [f"incomplete upload of {KEY}"]
    assert list(lake.left_overs(now, ZERO, remove=True)) == []


# Refusals, each one line with the way out


REFUSALS = {
    "AccessDenied": (403, "", "access denied: these AWS credentials need s3:ListBucket"),
    "ExpiredToken": (400, "", "the AWS credentials have expired: renew them"),
    "InvalidAccessKeyId": (403, "", "does not know this access key: check AWS_ACCESS_KEY_ID"),
    "RequestTimeTooSkewed": (403, "", "clock is off by more than 15 minutes"),
    "AuthorizationHeaderMalformed": (400, "<Region>eu-north-1</Region>", "lies in another region: set AWS_REGION=eu-north-1"),
    "PermanentRedirect": (301, "<Endpoint>elsewhere</Endpoint>", "lies in another region: set AWS_REGION to its own"),
    "NoSuchBucket": (404, "", "there is no bucket lake at http://"),
    "InvalidObjectState": (403, "", "lies in an archive class"),
}


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("act", ["read", "stat", "list", "put", "replace", "delete", "local", "large"])
def test_a_refusal_for_good_is_one_line_with_the_way_out(act, code, far, lake, proxy):
    if (act, code) == ("large", "PermanentRedirect"):
        pytest.skip("boto3 follows a redirection by itself")
    status, more, text = REFUSALS[code]
    entry = lake.put_new(KEY, b"abc")
    proxy.fault = lambda _request: Error(status, code, more)
    acts = {
        "read": lambda: far.read(KEY), "stat": lambda: far.stat(KEY), "list": lambda: list(far.list("raw")),
        "put": lambda: far.put_new("t/a", b""), "replace": lambda: far.replace(KEY, b"x", entry), "delete": lambda: far.delete(KEY),
        "local": lambda: far.local([entry]), "large": lambda: far.put_new("t/a", bytes(17 << 20)),
    }  # fmt: skip
    with pytest.raises(PermanentError, match=text) as told:
        acts[act]()
    assert "\n" not in str(told.value)
    assert str(told.value).startswith("s3://lake/")
    assert "Debug" not in str(told.value)


@pytest.mark.parametrize("status", [503, 429])
def test_throttling_to_the_end_of_patience_is_transient(status, far, proxy):
    proxy.fault = lambda _request: Error(status, "SlowDown")
    with pytest.raises(LakeUnavailable, match="the store is throttling"):
        far.read(KEY)


def test_a_bucket_that_is_not_there_is_no_empty_lake(opener):
    lake = replace(opener, bucket="missing")()
    for act in (lambda: lake.stat(KEY), lambda: lake.read(KEY), lambda: list(lake.list("raw")), lambda: lake.put_new(KEY, b"")):
        with pytest.raises(PermanentError, match=r"there is no bucket missing at .*: create it, or correct ENGAGEMENT_LAKE_URL"):
            act()


def test_a_store_that_is_away_is_transient_and_named(opener):
    lake = opener(endpoint="http://127.0.0.1:9")
    with pytest.raises(LakeUnavailable, match=r"nobody answers at http://127\.0\.0\.1:9"):
        lake.put_new(KEY, b"")


def test_a_wrong_secret_is_told(opener, monkeypatch):
    lake = opener()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermanentError, match="the secret key does not fit"):
        lake.stat(KEY)


def test_the_credentials_of_a_profile_are_taken(opener, tmp_path, monkeypatch):
    lake = opener()
    text = "".join(f"{name.lower()}={value}\n" for name, value in opener.environment.items() if name != "AWS_REGION")
    (tmp_path / "credentials").write_text(f"[other]\n{text}")
    for name in opener.environment:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    lake.put_new(KEY, b"abc")
    assert lake.read(KEY) == b"abc"


def test_a_folder_made_by_a_console_and_other_strangers_are_no_harm(lake, opener):
    import boto3

    client = boto3.session.Session().client("s3", endpoint_url=opener.endpoint)
    for key in ("raw/", "raw/notes about it.txt", "raw/session/x y#z?.parquet"):
        client.put_object(Bucket=opener.bucket, Key=f"{opener.prefix}/{key}", Body=b"")
    entry = lake.put_new(KEY, b"abc")
    assert entry in list(lake.list("raw"))
    assert all(key.startswith("raw/") for key in keys(lake, "raw"))


# Leases


def test_a_lease_of_a_dead_holder_is_taken_over_after_its_time(opener):
    dead, living = Leases(opener(), seconds=1.0), Leases(opener(), seconds=1.0)
    dead._take(".locks/work")
    with living.hold("work"):
        pass


def test_a_holder_whose_lease_was_taken_over_writes_nothing_more(opener, lake):
    holder = opener()
    holder._leases = Leases(holder, seconds=1.0)

    def write_late():
        lake.replace(".locks/work", b"{}", lake.stat(".locks/work"))
        eventually(lambda: not holder._leases._stack()[0].until)
        holder.put_new(KEY, b"late")

    with pytest.raises(LakeUnavailable, match="nothing more is written under it"), holder.lock("work"):
        write_late()
    assert lake.stat(KEY) is None


def test_a_holder_that_cannot_renew_writes_nothing_near_the_end(far, lake, proxy):
    far._leases = Leases(far, seconds=1.0)

    def write_late():
        proxy.fault = lambda request: Error(503, "SlowDown") if ".locks" in request.key else None
        held = far._leases._stack()[0]
        eventually(lambda: held.until - time.monotonic() < 0.5)
        far.put_new(KEY, b"late")

    with pytest.raises(LakeUnavailable, match="nothing more is written under it"), far.lock("work"):
        write_late()
    assert lake.stat(KEY) is None


def test_a_lease_is_renewed_while_it_is_held(opener, lake):
    holder = opener()
    holder._leases = Leases(holder, seconds=0.6)
    with holder.lock("work"):
        seen = set()
        eventually(lambda: seen.add(lake.stat(".locks/work")) or len(seen) > 8)  # longer than one lease, a sixth of it each
        holder.put_new(KEY, b"abc")


# The mirror


def test_what_is_there_already_is_not_asked_for_again(far, lake, proxy):
    entry = lake.put_new(KEY, b"abc")
    (first,) = far.local([entry])
    asked = len(proxy.seen)
    assert far.local([entry, entry]) == [first, first]
    assert len(proxy.seen) == asked


def test_a_footer_costs_one_request_and_no_rows(far, lake, proxy):
    lake.put_new(KEY, bytes(1 << 20))
    with far.open(KEY) as file:
        file.seek(-1000, 2)
        assert file.read() == bytes(1000)
    assert proxy.count("GET") == 1
    assert proxy.seen[-1].headers["range"] == "bytes=-65536"
