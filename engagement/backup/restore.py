"""A lake from a backup: into a place where none is, every byte compared with the manifest. Tables are made from it afterwards.

`lake.json` says first that the lake is being restored, which every program refuses, and last how it is cut: a killed
restore is run again and goes on, and no consumer begins in half a log. Nothing that is there is overwritten.

The new lake may be cut otherwise than the old one in whatever the log does not depend on, and may keep less of a
person; then rows are rewritten on their way (`recast`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from engagement.backup import dagster_home
from engagement.backup.manifest import KEY, STATE, STATE_OF_DAGSTER, Held, Manifest
from engagement.backup.recast import Recast, erased_also, wished
from engagement.backup.take import bytes_of, manifest_of, place
from engagement.errors import PermanentError
from engagement.lake import LAKE_JSON, AlreadyExists, Entry, Lake, LakeFormat, connect
from engagement.progress import Progress
from engagement.raw import erasures
from engagement.raw.coverage import ARCHIVE
from engagement.raw.names import RAW
from engagement.raw.privacy import Policy
from engagement.settings import Settings

LAKE = "lake"
LOG = (f"{RAW}/", f"{ARCHIVE}/")


@dataclass(slots=True)
class Report:
    """What a restore did; in a dry run what it compared."""

    source: str
    made_at: str
    objects: int = 0
    bytes: int = 0
    there_already: int = 0
    state_files: int = 0


def restore(settings: Settings, source: str, *, only: str = "", dry_run: bool = False, progress: Progress = lambda *_: None) -> Report:
    """Make the lake of these settings and Dagster's home from a backup, or `only` one of `lake` and `state`.

    A dry run compares every byte and writes nothing.
    Raises PermanentError where there is no complete backup, where the lake or the home exists, or where an object of the
    backup is not what the manifest says; LakeUnavailable: then it goes on when it is run again.
    """
    there, lake = place(settings, source), connect(settings)
    manifest = _complete(there)
    total = sum(item.size for item in manifest.objects.values())
    work = _Work(there, lake, manifest, progress, Report(source, manifest.made_at), total)
    held = LakeFormat.from_json(work.read(LAKE_JSON))
    recast = work.recast = wished(settings, held)
    if dry_run:
        for key in manifest.objects:
            work.compare(key)
        return work.report
    marker = LakeFormat.restoring(hashlib.sha256(manifest.to_json() + recast.format.to_json()).hexdigest())
    goes_on = only != STATE and lake.read(LAKE_JSON) == marker  # then a home that is there, which appears whole, is from the killed run
    if only != LAKE and not goes_on:
        dagster_home.require_none(settings)
    if only == STATE:
        work.report.state_files = dagster_home.restore(settings, work.state())
        return work.report
    with lake.lock("restore"):
        _claim(lake, marker)
        for key in work.of_lake():
            work.copy(key)
        if recast.policy is not None and recast.policy.keys:
            documents = {key: work.read(key) for key in manifest.objects if key.startswith(f"{erasures.FOLDER}/")}
            if documents:
                erasures.ErasureList(lake, settings.hash_keys).add(erased_also(settings, held, documents))
        if only != LAKE and not (goes_on and dagster_home.is_there(settings)):
            work.report.state_files = dagster_home.restore(settings, work.state())
        with lake.replacing(LAKE_JSON):
            noted = lake.stat(LAKE_JSON)
            if lake.read(LAKE_JSON) != marker:
                raise PermanentError(f"{lake.name(LAKE_JSON)} was written by somebody else meanwhile: is another program using this lake?")
            lake.replace(LAKE_JSON, recast.format.to_json(), noted)
    return work.report


@dataclass(slots=True)
class _Work:
    there: Lake
    lake: Lake
    manifest: Manifest
    progress: Progress
    report: Report
    total: int
    recast: Recast | None = None
    _done: int = 0

    def of_lake(self) -> Iterator[str]:
        """Keys of the lake's objects, all but `lake.json`; the log last, so that the list of erased users is there before."""
        keys = [key for key in self.manifest.objects if not key.startswith(f"{STATE}/") and key != LAKE_JSON]
        if self._policy is not None:
            keys = [key for key in keys if not key.startswith("processed/")]
        yield from sorted(keys, key=lambda key: (key.startswith(LOG), key))

    def state(self) -> Iterator[tuple[str, bytes]]:
        """Files of Dagster's home."""
        prefix = f"{STATE_OF_DAGSTER}/"
        for key in self.manifest.objects:
            if key.startswith(prefix):
                yield key.removeprefix(prefix), self.read(key)

    def copy(self, key: str) -> None:
        """Place an object in the lake unless it is there; objects appear whole, so the right size is the right object."""
        held = self.manifest.objects[key]
        found = self.lake.stat(key)
        anew = self._policy is not None and key.startswith(LOG)
        if found is not None and (anew or found.size == held.size):
            self.report.there_already += 1
        else:
            with bytes_of(self.there, self._entry(key)) as data:
                self._require(key, held, data)
                try:
                    self.lake.put_new(key, self.recast.rewritten(key, data) if anew and self.recast else data)
                except AlreadyExists as error:
                    raise PermanentError(
                        f"{self.lake.name(key)} is there already and is not what the backup has: name another place"
                    ) from error
        self._count(held)

    def compare(self, key: str) -> None:
        """Raises PermanentError where the backup's object is not what the manifest says."""
        held = self.manifest.objects[key]
        with bytes_of(self.there, self._entry(key)) as data:
            self._require(key, held, data)
        self._count(held)

    def read(self, key: str) -> bytes:
        """A small object's bytes, compared."""
        data = self.there.read(key)
        if data is None:
            raise PermanentError(f"{self.there.name(key)} is missing: the backup was changed since it was taken")
        self._require(key, self.manifest.objects[key], memoryview(data))
        return data

    @property
    def _policy(self) -> Policy | None:
        return None if self.recast is None else self.recast.policy

    def _entry(self, key: str) -> Entry:
        found = self.there.stat(key)
        if found is None:
            raise PermanentError(f"{self.there.name(key)} is missing: the backup was changed since it was taken")
        return found

    def _require(self, key: str, held: Held, data: memoryview) -> None:
        if len(data) != held.size or hashlib.sha256(data).hexdigest() != held.sha256:
            raise PermanentError(
                f"{self.there.name(key)} is not what {KEY} says ({len(data)} bytes, {held.size} expected): it was changed or damaged"
            )

    def _count(self, held: Held) -> None:
        self._done += held.size
        self.report.objects += 1
        self.report.bytes += held.size
        self.progress("restore", self._done, self.total)


def _complete(there: Lake) -> Manifest:
    manifest = manifest_of(there)
    if manifest is None:
        raise PermanentError(f"there is no backup at {there.url}: it has no {KEY}")
    if not manifest.complete or LAKE_JSON not in manifest.objects:
        raise PermanentError(f"the backup at {there.url} is not complete: run `engagement backup` again, or take an older one")
    return manifest


def _claim(lake: Lake, marker: bytes) -> None:
    """Say that the lake is being restored, from which backup and as what; raises PermanentError where something else is there."""
    found = lake.read(LAKE_JSON)
    if found is None:
        stray = next((entry.key for entry in lake.list("")), None)
        if stray is not None:
            raise PermanentError(f"{lake.url} is not empty (it has {stray}) and is no lake: name another place")
        with suppress(AlreadyExists):
            lake.put_new(LAKE_JSON, marker)
        found = lake.read(LAKE_JSON)
    if found == marker:
        return
    if b'"restoring"' in (found or b"") and "restoring" in json.loads(found or b"{}"):
        raise PermanentError(f"{lake.url} holds half a restore of another backup: remove it, or finish that one")
    raise PermanentError(f"there is a lake at {lake.url} already, and nothing is overwritten: name a new place by ENGAGEMENT_LAKE_URL")
