"""How a client of S3 is made, and what its errors become, without any server."""

from __future__ import annotations

import os

import lake_helpers
import pytest

from engagement import settings as settings_module
from engagement.errors import PermanentError, TransientError
from engagement.lake import LakeUnavailable, LocalLake, connect, s3_client
from engagement.lake.s3 import S3Lake
from engagement.lake.s3_errors import explained, is_refusal
from engagement.stack import s3

PLACES = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_REGION", "AWS_DEFAULT_REGION",
)  # fmt: skip


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """A machine that knows nothing of AWS."""
    for name in PLACES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def test_the_service_s_own_endpoint_wins_over_the_setting_and_that_over_the_general_one(monkeypatch):
    assert s3_client.endpoint_of("") is None
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://general")
    assert s3_client.endpoint_of("") == "http://general"
    assert s3_client.endpoint_of("http://setting") == "http://setting"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3")
    assert s3_client.endpoint_of("http://setting") == "http://s3"


def test_boto3_is_needed_only_for_what_lies_in_configuration_files(monkeypatch, tmp_path):
    assert not s3_client._needs_profile()
    (tmp_path / "config").write_text("[default]\n")
    assert s3_client._needs_profile()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "x")
            assert not s3_client._needs_profile()
            patch.setenv("AWS_PROFILE", "mine")
            assert s3_client._needs_profile()


def test_a_process_forked_from_one_that_used_s3_is_told_so(monkeypatch):
    monkeypatch.setattr(s3_client, "_tokio_pid", [])
    s3_client.require_same_process()
    child = os.fork()
    if child == 0:
        try:
            s3_client.require_same_process()
        except PermanentError as error:
            os._exit(0 if "forked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_url_says_which_store_a_lake_lies_in(tmp_path):
    assert isinstance(connect(lake_helpers.settings_of(tmp_path)), LocalLake)
    far = connect(settings_module.load({}, tmp_path, lake_url="s3://bucket/some/prefix/", state_dir=tmp_path / "state"))
    assert isinstance(far, S3Lake)
    assert far.url == "s3://bucket/some/prefix"
    assert far.name("raw/a") == "s3://bucket/some/prefix/raw/a"
    assert far.folder.is_relative_to(tmp_path / "state" / "cache" / "mirror")


@pytest.mark.parametrize("url", ["s3://", "s3:///x", "s3://Bucket/x", "s3://b/x", "s3://bucket//x", "gs://bucket/x", "http://host/x"])
def test_a_url_of_no_store_is_refused(url, tmp_path):
    with pytest.raises(PermanentError, match="must be a folder or s3://bucket/prefix"):
        settings_module.load({"ENGAGEMENT_LAKE_URL": url}, tmp_path)


def test_two_lakes_or_endpoints_share_no_mirror(tmp_path):
    def folder(url, endpoint):
        return connect(settings_module.load({}, tmp_path, lake_url=url, aws_endpoint_url=endpoint)).folder

    assert len({folder("s3://bucket/a", ""), folder("s3://bucket/b", ""), folder("s3://bucket/a", "http://x")}) == 3


TEXTS = {
    "Error performing PUT http://169.254.169.254/latest/api/token - 403 Forbidden": (LakeUnavailable, "no AWS credentials", True),
    "Generic S3 error - HTTP error: error sending request kind: Connect": (LakeUnavailable, "nobody answers", True),
    "Generic S3 error: operation timed out": (LakeUnavailable, "did not answer in time", False),
    "Received redirect without LOCATION, an incorrectly configured region": (PermanentError, "lies in another region", True),
    "non-2xx status code: 500 Internal: <Code>InternalError</Code> what Debug source: long": (LakeUnavailable, "InternalError", False),
    "non-2xx status code: 503 Slow: <Code>SlowDown</Code>": (LakeUnavailable, "throttling", True),
}


@pytest.mark.parametrize("text", TEXTS)
def test_an_error_is_told_in_one_line_and_by_what_it_may_have_done(text):
    kind, told, refusal = TEXTS[text]
    error = RuntimeError(text)
    found = explained(error, "s3://b/k", "b", "http://there")
    assert type(found) is kind
    assert told in str(found)
    assert "Debug" not in str(found)
    assert is_refusal(error) is refusal


def test_a_server_that_was_never_built_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(PermanentError, match=r"is not there: run `python -m engagement\.stack\.s3`"):
        s3.program()


def test_a_build_is_tried_a_few_times_and_then_tells_the_last_line(monkeypatch, tmp_path):
    monkeypatch.setattr(s3.time, "sleep", lambda _seconds: None)
    tried = tmp_path / "tried"
    with pytest.raises(TransientError, match=r"failed 3 times: no network"):
        s3._tried(["sh", "-c", f"echo x >> {tried}; echo no network >&2; exit 1"], dict(os.environ))
    assert tried.read_text() == "x\n" * s3.ATTEMPTS


@pytest.mark.parametrize(("version", "taken"), [("go1.26.8", True), ("go1.30", True), ("go1.9.2", False), ("devel", False), ("", False)])
def test_an_old_go_is_left_alone(version, taken, monkeypatch, tmp_path):
    program = tmp_path / "go"
    program.write_text(f"#!/bin/sh\necho {version}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert s3._go() == (str(program) if taken else None)
