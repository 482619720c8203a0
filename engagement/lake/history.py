"""What a store keeps beside the objects that a listing shows: older versions, objects in an archive class, copies on this machine.

Only whoever has to get rid of every byte asks (`engagement.erasure`). A local lake has nothing of the kind. By boto3, for
obstore knows neither versions nor restores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engagement.lake.entry import TEMP_FOLDER, Entry

FROZEN = ("GLACIER", "DEEP_ARCHIVE")
"""Storage classes whose objects cannot be read before they are restored."""
RESTORE_DAYS = 7


@dataclass(frozen=True, slots=True)
class OldVersion:
    """A version of an object that is not the present one; `marker`: it only says that the object was deleted."""

    key: str
    version: str
    size: int = 0
    marker: bool = False


class History:
    """Of one prefix of a bucket; methods raise what boto3 raises."""

    def __init__(self, client: Any, bucket: str, prefix: str, mirror: Path, path_of: Callable[[Entry], Path]) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._mirror, self._path_of = mirror, path_of

    def versions(self, prefix: str) -> Iterator[OldVersion]:
        """Versions of keys that begin so which no listing shows; none where the bucket keeps none."""
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        for page in pages:
            for found in page.get("Versions") or ():
                if not found["IsLatest"]:
                    yield OldVersion(found["Key"].removeprefix(self._prefix), found["VersionId"], found["Size"])

    def delete(self, old: OldVersion) -> None:
        """Remove a version for good; one that is gone is no error."""
        self._client.delete_object(Bucket=self._bucket, Key=self._prefix + old.key, VersionId=old.version)

    def frozen(self, prefix: str) -> dict[str, bool]:
        """Key -> whether its restore is under way, of objects that cannot be read now."""
        found: dict[str, bool] = {}
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
        for page in pages:
            for item in page.get("Contents") or ():
                if item.get("StorageClass") in FROZEN:
                    told = str(self._client.head_object(Bucket=self._bucket, Key=item["Key"]).get("Restore", ""))
                    if 'ongoing-request="false"' not in told:
                        found[item["Key"].removeprefix(self._prefix)] = "ongoing" in told
        return found

    def restore(self, key: str) -> None:
        """Ask for an object to be readable; it takes hours."""
        request = {"Days": RESTORE_DAYS, "GlacierJobParameters": {"Tier": "Standard"}}
        self._client.restore_object(Bucket=self._bucket, Key=self._prefix + key, RestoreRequest=request)

    def drop_copies(self, present: Iterable[Entry]) -> int:
        """Remove this machine's files of versions that are no longer there; how many."""
        kept = {self._path_of(entry) for entry in present}
        files = (path for path in self._mirror.rglob("*") if path.is_file() and TEMP_FOLDER not in path.parts)
        old = [path for path in files if path not in kept]
        for path in old:
            path.unlink(missing_ok=True)
        return len(old)
