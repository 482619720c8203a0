"""A policy as lifecycle rules of a bucket: what moves to another class, and what goes even if none of our programs runs.

Our rules carry ids that begin with `engagement-PREFIX:`; every other rule of the bucket belongs to somebody else and is
put back exactly as it was. Expiry is exact by `retention`; the bucket's own comes `retention.BACKSTOP` later, because it
counts from an object's birth, and archive parts are never deleted by it: they must keep covering their offsets (R5).
Before a rule that deletes is set, the lake records it (`tables.finality`), for from then on days become final by the
calendar alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Lake
from engagement.lake.s3_errors import code_of, explained, status_of
from engagement.maintenance import retention
from engagement.maintenance.layers import ARCHIVE_LAYER, LAYERS, RAW_LAYER
from engagement.maintenance.policy import UNREADABLE, Policy, Rule
from engagement.maintenance.report import Step
from engagement.settings import Settings
from engagement.tables import finality
from engagement.tables.finality import Finality

NAME = "lifecycle"
_LEAST_SIZE = "TransitionDefaultMinimumObjectSize"
"""A setting of the bucket that a put without it would reset."""
_CLAIMS = {RAW_LAYER.name, ARCHIVE_LAYER.name}
"""Layers whose objects claim offsets: no rule of a bucket may delete one."""
UPLOAD_DAYS = 2
"""Unfinished uploads are given up after so long, should nobody sweep."""


def apply(settings: Settings, lake: Lake, policy: Policy, now: datetime, *, dry_run: bool = False, client: Any = None) -> Step:
    """Bring the bucket's rules in step with the policy; a lake in a folder has none. Raises EngagementError with the way out."""
    step = Step(NAME)
    if "://" not in lake.url:
        if policy.moves:
            step.notes.append("the lake is a folder: it has no storage classes, `infrequent` and `glacier` do nothing")
        return step
    if not policy.declared:
        step.notes.append("the bucket's lifecycle rules are left alone: there is no retention.toml")
        return step
    bucket, prefix = _place(lake.url)
    client = client or _client(settings)
    wanted = rules(policy, prefix)
    config = _read(client, bucket, lake)
    if config is None:
        step.notes.append("the store knows no lifecycle rules: objects stay in their class; what expires goes by `maintain` alone")
        return step
    merged = merge(config["Rules"], wanted, prefix)
    step.items = _changes(config["Rules"], merged)
    step.objects = len(step.items)
    if policy.glacier_class in UNREADABLE and any(rule.glacier for rule in policy.rules.values()):
        step.notes.append(f"{policy.glacier_class} objects must be restored before erasure or a backfill can read them")
    if dry_run:
        return step
    _record(lake, now, expires_after(wanted), tightening=True)
    if step.items:
        _write(client, bucket, {**config, "Rules": merged}, lake)
        _require_kept(config["Rules"], (_read(client, bucket, lake) or {}).get("Rules", []), prefix)
    _record(lake, now, expires_after(wanted), tightening=False)
    return step


def rules(policy: Policy, prefix: str) -> list[dict[str, Any]]:
    """The rules of a lake under this prefix, by id."""
    made = [_upload_rule(prefix)]
    for folder in sorted({folder for layer in LAYERS.values() for folder in layer.folders}):
        layers = [layer.name for layer in LAYERS.values() if folder in layer.folders]
        actions = _actions(_longest([_rule(policy, name) for name in layers]), policy.glacier_class, deletes=not _CLAIMS & set(layers))
        if actions:
            made.append({"ID": _id(prefix, folder), "Filter": {"Prefix": _join(prefix, folder)}, "Status": "Enabled", **actions})
    return made


def merge(found: Sequence[dict[str, Any]], wanted: Sequence[dict[str, Any]], prefix: str) -> list[dict[str, Any]]:
    """All rules of the bucket with ours as wanted; those of others stay as they are and where they are."""
    return [rule for rule in found if not _is_ours(rule, prefix)] + list(wanted)


def expires_after(wanted: Sequence[Mapping[str, Any]]) -> int | None:
    """After how many days the first of these rules deletes an object that a table is made from; None if none does."""
    feeding = {folder for layer in LAYERS.values() if layer.feeds for folder in layer.folders}
    days = [
        rule["Expiration"]["Days"]
        for rule in wanted
        if "Expiration" in rule and any(str(rule["Filter"]["Prefix"]).endswith(f"{folder}/") for folder in feeding)
    ]
    return min(days, default=None)


def _rule(policy: Policy, layer: str) -> Rule:
    """A layer's rule. Raw objects follow the archive, which holds the same rows, and are moved nowhere: they are read or gone in a day."""
    archive = policy.rules.get(ARCHIVE_LAYER.name, Rule())
    return Rule(expire=archive.expire) if layer == RAW_LAYER.name else policy.rules.get(layer, Rule())


def _longest(found: Sequence[Rule]) -> Rule:
    """One rule for layers that share a folder, which a bucket cannot tell apart: nothing comes sooner than any of them wants."""

    def longest(days: Sequence[int | None]) -> int | None:
        return None if None in days else max(day for day in days if day is not None)

    return Rule(
        longest([rule.infrequent for rule in found]), longest([rule.glacier for rule in found]), longest([rule.expire for rule in found])
    )


def _actions(rule: Rule, glacier_class: str, *, deletes: bool) -> dict[str, Any]:
    """What a rule does; in a bucket that keeps versions, what `retention` took is gone for good after a while."""
    moves = [
        {"Days": days, "StorageClass": name}
        for days, name in ((rule.infrequent, "STANDARD_IA"), (rule.glacier, glacier_class))
        if days is not None
    ]
    actions: dict[str, Any] = {"Transitions": moves} if moves else {}
    if rule.expire is not None:
        actions["NoncurrentVersionExpiration"] = {"NoncurrentDays": retention.BACKSTOP.days}
        if deletes:
            actions["Expiration"] = {"Days": rule.expire + retention.BACKSTOP.days}
    return actions


def _upload_rule(prefix: str) -> dict[str, Any]:
    return {
        "ID": _id(prefix, "uploads"), "Filter": {"Prefix": _join(prefix, "")}, "Status": "Enabled",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UPLOAD_DAYS},
    }  # fmt: skip


def _id(prefix: str, name: str) -> str:
    return f"engagement-{prefix}:{name}"


def _is_ours(rule: Mapping[str, Any], prefix: str) -> bool:
    return str(rule.get("ID", "")).startswith(_id(prefix, ""))


def _join(prefix: str, folder: str) -> str:
    return "".join(f"{part}/" for part in (prefix, folder) if part)


def _changes(found: Sequence[dict[str, Any]], merged: Sequence[dict[str, Any]]) -> list[str]:
    before, after = ({str(rule.get("ID")): rule for rule in which} for which in (found, merged))
    lines = [f"set rule {name}" for name, rule in after.items() if before.get(name) != rule]
    return lines + [f"remove rule {name}" for name in before if name not in after]


def _record(lake: Lake, now: datetime, days: int | None, *, tightening: bool) -> None:
    """Record after how many days the bucket deletes by itself: sooner is recorded before its rules are set, later after it."""

    def change(old: Finality) -> Finality:
        return replace(old, store_expires_after=_sooner(old.store_expires_after, days) if tightening else days)

    retention.record(lake, retention.Due({}, finality.read(lake).first_open_day(now)), change)


def _sooner(first: int | None, second: int | None) -> int | None:
    return min((days for days in (first, second) if days is not None), default=None)


def _place(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def _client(settings: Settings) -> Any:
    from engagement.lake import s3_client

    return s3_client.boto_client(s3_client.endpoint_of(settings.aws_endpoint_url))


def _read(client: Any, bucket: str, lake: Lake) -> dict[str, Any] | None:
    """The bucket's rules and what is set beside them; None where the store has no such thing."""
    try:
        found = client.get_bucket_lifecycle_configuration(Bucket=bucket)
    except Exception as error:
        if code_of(error) == "NoSuchLifecycleConfiguration":
            return {"Rules": []}
        if code_of(error) == "NotImplemented" or status_of(error) == 501:
            return None
        raise _explained(error, bucket, lake, "s3:GetLifecycleConfiguration") from error
    return {name: found[name] for name in ("Rules", _LEAST_SIZE) if name in found}


def _write(client: Any, bucket: str, config: Mapping[str, Any], lake: Lake) -> None:
    beside = {name: value for name, value in config.items() if name == _LEAST_SIZE}
    try:
        client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": config["Rules"]}, **beside)
    except Exception as error:
        raise _explained(error, bucket, lake, "s3:PutLifecycleConfiguration") from error


def _require_kept(before: Sequence[dict[str, Any]], after: Sequence[dict[str, Any]], prefix: str) -> None:
    """Rules are written whole and nothing compares: another owner may have written in the same second."""
    lost = [str(rule.get("ID")) for rule in before if not _is_ours(rule, prefix) and rule not in after]
    if lost:
        raise PermanentError(f"lifecycle rules of others changed while ours were set: {', '.join(lost)}; look at the bucket's rules")


def _explained(error: Exception, bucket: str, lake: Lake, permission: str) -> Exception:
    if code_of(error) == "AccessDenied":
        return PermanentError(f"{lake.url}: setting lifecycle rules needs {permission} on the bucket {bucket}")
    return explained(error, lake.url, bucket, None)
