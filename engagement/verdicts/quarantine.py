"""Candidates that gates refused: kept beside the tables until the unit passes, or somebody releases it (design §7).

`quarantine/{key of the unit}` holds the newest refused candidate, whole, with the verdict in its footer; hour rows, of which
one object holds a day, an object an hour. As long as a unit goes on failing the same checks that is one incident. Nothing
reads these rows but people. What is released is remembered in `releases.json`, by the offsets it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from engagement.errors import PermanentError, TransientError
from engagement.lake import Changed, Entry, Lake
from engagement.model import units
from engagement.tables.objects import Candidate, Footers, encode
from engagement.verdicts.result import Period

FOLDER = "quarantine"
RELEASES = "releases.json"
ATTEMPTS = 10
ASSETS = {units.EVENTS: "events", units.SESSIONS: "sessions"}
HOURLY, DAILY = "hourly_engagement", "daily_engagement"


@dataclass(frozen=True, slots=True)
class Incident:
    """A unit that is held: what failed, since when, and how often its candidates were judged since."""

    key: str
    """Key of the quarantine object."""
    asset: str
    period: Period
    failed: Mapping[str, int]
    """Failed check -> rows that broke it."""
    since: datetime
    judged_at: datetime
    times: int
    offsets: str
    """Digest of the raw offsets that the candidate was made from."""

    @property
    def unit(self) -> str:
        """How people name it: `events/2026-03-11-10:00`."""
        return f"{self.asset}/{self.period.key}"


@dataclass(frozen=True, slots=True)
class Release:
    """A person's word that a unit is to be published as it is: for these offsets, or while no more rows break the same checks."""

    failed: Mapping[str, int]
    offsets: str
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def covers(self, offsets: str, failed: Mapping[str, int]) -> bool:
        """Whether a candidate of these offsets that fails these checks is what was released."""
        if not set(failed) <= set(self.failed):
            return False
        return offsets == self.offsets or all(rows <= self.failed[name] for name, rows in failed.items())


def place(table: str, candidate: Candidate) -> tuple[str, str, Period]:
    """Quarantine key, asset and period of a candidate; raises ValueError where it does not say which unit it is for."""
    if not candidate.unit:
        raise ValueError(f"a candidate of {table} does not say which unit it is for")
    if table == units.BIG_TABLE and candidate.hour:
        folder = candidate.unit.rpartition("/")[0]
        return f"{FOLDER}/{folder}/hour={candidate.hour:%H}/hours.parquet", HOURLY, Period(candidate.hour)
    if table == units.BIG_TABLE:
        return f"{FOLDER}/{candidate.unit}", DAILY, Period.of_day(units.day_of_key(candidate.unit))
    return f"{FOLDER}/{candidate.unit}", ASSETS[table], Period(units.floor_hour(units.slot_of_key(candidate.unit)))


def digest(facts: Mapping[str, Any]) -> str:
    """Tells the raw offsets apart that a candidate was made from."""
    return hashlib.sha256(json.dumps(facts.get("offsets", {}), sort_keys=True).encode()).hexdigest()[:16]


def hold(lake: Lake, table: str, candidate: Candidate, failed: Mapping[str, int], now: datetime | None = None) -> Incident:
    """Put a refused candidate into quarantine, in place of an earlier one; the incident it is part of.

    Raises TransientError where others replace it again and again.
    """
    key, asset, period = place(table, candidate)
    now = now or datetime.now(UTC)
    for _ in range(ATTEMPTS):
        with lake.replacing(key):
            old = lake.stat(key)
            before = _read(lake, old) if old else None
            same = before is not None and set(before.failed) == set(failed)
            since, times = (before.since, before.times + 1) if before and same else (now, 1)
            made = Incident(key, asset, period, dict(failed), since, now, times, digest(candidate.facts))
            try:
                lake.replace(key, encode(candidate.table, {"rows": candidate.table.num_rows, "verdict": _verdict(made)}), old)
            except Changed:
                continue
            return made
    raise TransientError(f"{lake.name(key)}: replaced by other writers {ATTEMPTS} times in a row")


def heal(lake: Lake, keys: Iterable[str]) -> None:
    """The units passed: their refused candidates go."""
    for key in keys:
        lake.delete(key)


def keys(lake: Lake) -> set[str]:
    """Keys of all quarantine objects, by one listing."""
    return {entry.key for entry in lake.list(FOLDER) if entry.key.endswith(".parquet")}


def held(lake: Lake) -> list[Incident]:
    """Every unit that is held, longest first. An object there that is none of ours is passed over."""
    entries = [entry for entry in lake.list(FOLDER) if entry.key.endswith(".parquet")]
    found = [incident for entry in entries if (incident := _read(lake, entry))]
    return sorted(found, key=lambda incident: (incident.since, incident.key))


def of_unit(lake: Lake, unit: str) -> list[Incident]:
    """The incidents of a unit as people name it, one a slot; raises PermanentError where it is not held."""
    incidents = held(lake)
    found = [incident for incident in incidents if incident.unit == unit]
    if not found:
        others = ", ".join(sorted({incident.unit for incident in incidents})) or "none is"
        raise PermanentError(f"{unit} is not held; units that are: {others}")
    return found


def release(lake: Lake, incidents: Sequence[Incident], now: datetime | None = None) -> None:
    """Remember that these candidates are to be published."""
    now = now or datetime.now(UTC)
    for _ in range(ATTEMPTS):
        with lake.replacing(RELEASES):
            old = lake.stat(RELEASES)
            found = _releases(lake)
            found |= {incident.key: Release(incident.failed, incident.offsets, now) for incident in incidents}
            text = {key: {"failed": dict(item.failed), "offsets": item.offsets, "at": item.at.isoformat()} for key, item in found.items()}
            try:
                lake.replace(RELEASES, (json.dumps(text, indent=2, sort_keys=True) + "\n").encode(), old)
            except Changed:
                continue
            return
    raise TransientError(f"{lake.name(RELEASES)}: replaced by other writers {ATTEMPTS} times in a row")


def released(lake: Lake, key: str) -> Release | None:
    """What was released of the unit with this quarantine key."""
    return _releases(lake).get(key)


def _releases(lake: Lake) -> dict[str, Release]:
    text = lake.read(RELEASES)
    try:
        raw = json.loads(text) if text else {}
        return {key: Release(item["failed"], item["offsets"], datetime.fromisoformat(item["at"])) for key, item in raw.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PermanentError(f"{lake.name(RELEASES)} is not readable ({error}): restore it, or no unit is released") from error


def _verdict(incident: Incident) -> dict[str, Any]:
    return {
        "asset": incident.asset, "kind": incident.period.kind, "start": incident.period.start.isoformat(), "failed": dict(incident.failed),
        "since": incident.since.isoformat(), "judged_at": incident.judged_at.isoformat(), "times": incident.times,
        "offsets": incident.offsets,
    }  # fmt: skip


def _read(lake: Lake, entry: Entry) -> Incident | None:
    """The incident in an object's footer; None where it has none, or was healed meanwhile."""
    try:
        raw = Footers(lake).of(entry).get("verdict")
    except FileNotFoundError:
        return None
    if not raw:
        return None
    return Incident(
        entry.key, raw["asset"], Period(datetime.fromisoformat(raw["start"]), raw["kind"]), raw["failed"],
        datetime.fromisoformat(raw["since"]), datetime.fromisoformat(raw["judged_at"]), raw["times"], raw["offsets"],
    )  # fmt: skip
