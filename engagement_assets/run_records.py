"""Dagster's records kept bounded: old runs go with their events, checks and logs, but for those that tell how a partition stands.

`DagsterInstance.delete_run` alone would not do. It takes the materializations of the run with it, so that partitions that
nothing refreshed since look as if they had never been made; it leaves the run's tags, its check evaluations, its event file
(SQLite) and what it printed; and it commits three times a run. So a run stays as long as a partition's newest materialization
is its own, and the rest is removed here, many runs at a time, through the tables that Dagster declares. Ticks go by Dagster's
own `retention` in dagster.yaml.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import DagsterInstance, DagsterRunStatus

from engagement.maintenance.report import Step, Tell, quiet
from sensors.arrivals import free_silent_runs

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

NAME = "runs"
ENDED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
AT_ONCE = 10_000
"""So many runs go in one maintenance run at most, the oldest first: more than come in between, and some minutes of work."""
BATCH = 500


@dataclass(frozen=True, slots=True)
class Tidied:
    """How many went: runs, check evaluations, and events outside of runs (reports of raw objects, freshness)."""

    runs: int
    evaluations: int
    events: int
    stay: int
    """Runs older than wished that tell how a partition stands."""


def step(instance: DagsterInstance, keep: timedelta, now: datetime, *, dry_run: bool = False, tell: Tell = quiet) -> Step:
    """`tidy` as a step of the maintenance run, after runs whose process is gone were told to have failed."""
    found = Step(NAME)
    if not dry_run:
        free_silent_runs(instance, now)
    done = tidy(instance, now - keep, dry_run=dry_run, tell=tell)
    found.objects = done.runs
    found.notes.append(
        f"{done.runs:,} runs, {done.evaluations:,} check evaluations and {done.events:,} events outside of runs are older than "
        f"{keep.days} days; {done.stay:,} older runs tell how a partition stands and stay"
    )
    return found


def tidy(instance: DagsterInstance, before: datetime, *, dry_run: bool = False, tell: Tell = quiet, at_once: int = AT_ONCE) -> Tidied:
    """Remove what ended, or was told, before an instant; `dry_run` only counts it. May be killed anywhere and done again."""
    old, newest = _ended_before(instance, before), _newest(instance)
    superseded = [run for run in old if run not in newest.runs]
    doomed, evaluations = superseded[:at_once], 0
    for number, batch in enumerate(_batches(doomed)):
        tell(f"{NAME} {100 * number * BATCH // len(doomed)}%")
        evaluations += _forget(instance, batch, newest.evaluations, dry_run=dry_run)
    events = _forget_runless(instance, before, newest.events, dry_run=dry_run)
    return Tidied(len(doomed), evaluations, events, len(old) - len(superseded))


@dataclass(frozen=True, slots=True)
class _Newest:
    """What tells how things stand: ids of the newest event a kind, asset and partition, their runs, the newest evaluation a check."""

    events: frozenset[int]
    runs: frozenset[str]
    evaluations: frozenset[int]


def _newest(instance: DagsterInstance) -> _Newest:
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
    from sqlalchemy import func, select

    log, checks = SqlEventLogStorageTable.c, AssetCheckExecutionsTable.c
    newest = select(func.max(log.id)).where(log.asset_key.is_not(None)).group_by(log.asset_key, log.dagster_event_type, log.partition)
    made = select(log.id, log.run_id, log.dagster_event_type).where(log.id.in_(newest))
    with _events(instance).index_connection() as connection:
        events = connection.execute(made).all()
        evaluations = connection.execute(select(func.max(checks.id)).group_by(checks.asset_key, checks.check_name)).scalars().all()
    runs = frozenset(run for _, run, kind in events if kind == "ASSET_MATERIALIZATION" and run)
    return _Newest(frozenset(number for number, _, _ in events), runs, frozenset(evaluations))


def _ended_before(instance: DagsterInstance, before: datetime) -> list[str]:
    """Ids of runs that had ended by then, the oldest first."""
    from dagster._core.storage.runs.schema import RunsTable
    from sqlalchemy import select

    runs = RunsTable.c
    wanted = select(runs.run_id).where(runs.status.in_([status.value for status in ENDED]), runs.end_time < before.timestamp())
    with _runs(instance).connect() as connection:
        return list(connection.execute(wanted.order_by(runs.id)).scalars().all())


def _forget(instance: DagsterInstance, runs: Sequence[str], stay: frozenset[int], *, dry_run: bool) -> int:
    """Remove these runs with everything that hangs on them, the runs themselves last; how many check evaluations that were."""
    from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
    from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
    from sqlalchemy import delete, select

    checks, log = AssetCheckExecutionsTable.c, SqlEventLogStorageTable.c
    with _events(instance).index_connection() as connection:
        found = connection.execute(select(checks.id).where(checks.run_id.in_(runs))).scalars().all()
        gone = [number for number in found if number not in stay]
        if dry_run:
            return len(gone)
        _delete(connection, AssetCheckExecutionsTable, gone)
        _delete_events(connection, connection.execute(select(log.id).where(log.run_id.in_(runs))).scalars().all())
    for run in runs:
        _remove_files(instance, run)
    with _runs(instance).connect() as connection:
        for table in (RunTagsTable, RunsTable):
            connection.execute(delete(table).where(table.c.run_id.in_(runs)))
    return len(gone)


def _forget_runless(instance: DagsterInstance, before: datetime, stay: frozenset[int], *, dry_run: bool) -> int:
    """Remove events that no run wrote: raw objects that the sensor reported, freshness that the daemon evaluated."""
    from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
    from sqlalchemy import delete, select

    log, naive = SqlEventLogStorageTable.c, before.replace(tzinfo=None)  # as Dagster stores instants: UTC, and without saying so
    wanted = (log.run_id == "", log.timestamp < naive)
    with _events(instance).index_connection() as connection:
        gone = [number for number in connection.execute(select(log.id).where(*wanted)).scalars().all() if number not in stay]
        if dry_run:
            return len(gone)
        _delete_events(connection, gone)
    if _has_files(instance):  # the copy that SQLite keeps beside its index; nothing reads it
        with _events(instance).run_connection("") as connection:
            connection.execute(delete(SqlEventLogStorageTable).where(*wanted))
    return len(gone)


def _batches(found: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (found[start : start + BATCH] for start in range(0, len(found), BATCH))


def _delete(connection: Connection, table: Any, ids: Sequence[int]) -> None:
    from sqlalchemy import delete

    for batch in _batches(ids):
        connection.execute(delete(table).where(table.c.id.in_(batch)))


def _delete_events(connection: Connection, ids: Sequence[int]) -> None:
    """Events of the index with their tags."""
    from dagster._core.storage.event_log.schema import AssetEventTagsTable, SqlEventLogStorageTable
    from sqlalchemy import delete

    for batch in _batches(ids):
        connection.execute(delete(AssetEventTagsTable).where(AssetEventTagsTable.c.event_id.in_(batch)))
    _delete(connection, SqlEventLogStorageTable, ids)


def _remove_files(instance: DagsterInstance, run: str) -> None:
    """Of a run on one machine: its event file and what it printed."""
    from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager

    if _has_files(instance):
        path = Path(_events(instance).path_for_shard(run))
        for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
            path.with_name(name).unlink(missing_ok=True)
        _events(instance)._initialized_dbs.discard(run)  # noqa: SLF001 - else it grows with each run of this process
    if isinstance(instance.compute_log_manager, LocalComputeLogManager):
        instance.compute_log_manager.delete_logs(prefix=[run])


def _has_files(instance: DagsterInstance) -> bool:
    """Whether events lie in a file a run."""
    return hasattr(_events(instance), "path_for_shard")


def _events(instance: DagsterInstance) -> Any:
    return instance.event_log_storage


def _runs(instance: DagsterInstance) -> Any:
    return instance.run_storage
