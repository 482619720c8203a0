"""Clients of S3, made from the usual AWS places: environment, profile, web identity, container or instance role.

obstore carries the lake's data: it loads in a thirtieth of boto3's time, which every run would pay. boto3 is loaded only
where it alone can do something: profiles, and multipart uploads whose completion is conditional.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engagement.errors import PermanentError

if TYPE_CHECKING:
    from obstore.store import S3Store

CONNECT_SECONDS = 5
REQUEST_SECONDS = 15
RETRY_SECONDS = 10
RETRIES = 4
BOUND_SECONDS = 2 * REQUEST_SECONDS + CONNECT_SECONDS
"""After so long no request of ours is under way any more: it ended, or was given up (`lease` relies on it)."""
_DEFAULT_REGION = "us-east-1"
_tokio_pid: list[int] = []


def endpoint_of(setting: str) -> str | None:
    """Where S3 answers; None is AWS itself. `AWS_ENDPOINT_URL_S3` wins over the setting, the setting over `AWS_ENDPOINT_URL`."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or setting or os.environ.get("AWS_ENDPOINT_URL") or None


def object_store(bucket: str, prefix: str, endpoint: str | None) -> S3Store:
    """A client for the data of one lake."""
    from obstore.store import S3Store

    require_same_process()
    more: dict[str, Any] = {"endpoint": endpoint} if endpoint else {}
    if (region := region_of()) is not None:
        more["region"] = region
    if _needs_profile():
        from obstore.auth.boto3 import Boto3CredentialProvider

        provider = Boto3CredentialProvider()
        more["credential_provider"] = provider
        more.setdefault("region", provider.config.get("region", _DEFAULT_REGION))
    return S3Store(
        bucket,
        prefix=prefix or None,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
            "timeout": timedelta(seconds=REQUEST_SECONDS),
        },
        retry_config={
            "max_retries": RETRIES,
            "retry_timeout": timedelta(seconds=RETRY_SECONDS),
            "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
        },
        **more,
    )


def boto_client(endpoint: str | None) -> Any:
    """A boto3 client for what obstore lacks, under the same bound: one retry."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=REQUEST_SECONDS,
        retries={"mode": "standard", "total_max_attempts": 2},
        s3={"addressing_style": "path"} if endpoint else {},
    )
    session = boto3.session.Session()  # the default one would keep the credentials that it found first
    return session.client("s3", endpoint_url=endpoint, region_name=region_of(), config=config)


def region_of() -> str | None:
    """The region of the environment; None: that of the profile, or S3's default."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")


def require_same_process() -> None:
    """Raises PermanentError in a process forked from one that used S3: the client's threads are not there, it would wait for ever."""
    if not _tokio_pid:
        _tokio_pid.append(os.getpid())
    if _tokio_pid[0] != os.getpid():
        msg = "this process was forked from one that used S3 already: start it before, or by spawn"
        raise PermanentError(msg)


def _needs_profile() -> bool:
    """Whether the credentials are in the AWS configuration files, which boto3 alone reads (SSO and assumed roles too)."""
    if os.environ.get("AWS_PROFILE"):
        return True
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return False
    if os.environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") or os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        return False
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    return any(Path(os.environ.get(name) or Path.home() / ".aws" / file).expanduser().exists() for name, file in files.items())
