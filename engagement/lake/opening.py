"""Which store a lake of these settings lies in, and opening it: made when it is new, refused where settings contradict it (R10)."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from datetime import date
from pathlib import Path

from engagement.errors import PermanentError
from engagement.lake.format import LAKE_JSON, LakeFormat
from engagement.lake.interface import AlreadyExists, Lake
from engagement.lake.local import LocalLake
from engagement.settings import S3_SCHEME, Settings


def connect(settings: Settings) -> Lake:
    """The lake of these settings, whether there is one already or not; makes nothing."""
    if not settings.lake_url.startswith(S3_SCHEME):
        return LocalLake(Path(settings.lake_url))
    from engagement.lake.mirror import Mirror
    from engagement.lake.s3 import S3Lake
    from engagement.lake.s3_client import endpoint_of

    bucket, _, prefix = settings.lake_url.removeprefix(S3_SCHEME).partition("/")
    endpoint = endpoint_of(settings.aws_endpoint_url)
    name = hashlib.sha256(f"{endpoint}|{settings.lake_url}".encode()).hexdigest()[:12]
    return S3Lake(bucket, prefix, Mirror(settings.state_dir / "cache" / "mirror" / name, settings.mirror_bytes), endpoint)


def open_lake(settings: Settings) -> tuple[Lake, LakeFormat]:
    """The lake of these settings, created when it is new, with what its `lake.json` says.

    Raises PermanentError where a setting that is fixed for the life of a lake differs from it,
    LakeUnavailable where the store cannot be written.
    """
    lake = connect(settings)
    text = lake.read(LAKE_JSON)
    if text is None:
        with contextlib.suppress(AlreadyExists):
            lake.put_new(LAKE_JSON, LakeFormat.of(settings).to_json())
        text = lake.read(LAKE_JSON) or b""
    found = LakeFormat.from_json(text)
    for name in ("slot_minutes", "session_gap_seconds", "session_mode", "user_ids", "keep_place", "keep_locale", "keep_bytes"):
        if name in settings.sources and getattr(found, name) != getattr(settings, name):
            msg = (
                f"ENGAGEMENT_{name.upper()}={getattr(settings, name)} but the lake {settings.lake_url} was made with "
                f"{getattr(found, name)}, which is fixed for its life: unset it, or name a new lake"
            )
            raise PermanentError(msg)
    if "history_start" in settings.sources and settings.history_start != found.history_start:
        found = _move_history_start(lake, found, settings.history_start)
    return lake, found


def require_lake(settings: Settings) -> None:
    """Raises PermanentError where there is no lake yet: a command that only reads must not make one of a mistyped path."""
    if connect(settings).stat(LAKE_JSON) is None:
        msg = f"there is no lake at {settings.lake_url} (ENGAGEMENT_LAKE_URL); `engagement demo`, `ingest` or `import` makes one"
        raise PermanentError(msg)


def _move_history_start(lake: Lake, found: LakeFormat, start: date) -> LakeFormat:
    if start > found.history_start:
        msg = f"ENGAGEMENT_HISTORY_START={start} is after the lake's own {found.history_start}: it may only be moved back"
        raise PermanentError(msg)
    with lake.replacing(LAKE_JSON):
        entry = lake.stat(LAKE_JSON)
        found = LakeFormat.from_json(lake.read(LAKE_JSON) or b"")
        if start < found.history_start:
            found = replace(found, history_start=start)
            lake.replace(LAKE_JSON, found.to_json(), entry)
    return found
