"""The refresh jobs run in this process, against the instance in the state folder (design §7).

`engagement refresh` and `engagement backfill` go this way: lineage, checks and freshness are recorded as
if the daemon had run them. R4 keeps them apart from runs that the daemon starts at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from dagster import AssetKey, DagsterInstance, Definitions, ExecuteInProcessResult

from engagement.errors import PermanentError
from engagement.settings import Settings
from engagement.tables.context import open_tables
from engagement.waiting import waits
from engagement_assets.definitions import build_definitions
from engagement_assets.home import instance_home
from resources.names import CATALOG
from resources.tables import Tables
from sensors.chunks import Chunk, of_waiting

ROUNDS = 20


class RunFailed(PermanentError):
    """A run in this process did not succeed; the text says which and why."""


@contextmanager
def local_instance(settings: Settings) -> Iterator[DagsterInstance]:
    """The instance in the state folder."""
    os.environ["DAGSTER_HOME"] = str(instance_home(settings))
    with DagsterInstance.get() as instance:
        yield instance


class LocalRuns:
    """Runs jobs in this process with these settings."""

    def __init__(self, settings: Settings, instance: DagsterInstance, *, verbose: bool = False) -> None:
        self._settings = settings
        self._log_level = "DEBUG" if verbose else "CRITICAL"
        self._instance = instance
        tables = Tables.of(settings)
        with open_tables(settings) as opened:
            self._definitions: Definitions = build_definitions(opened.format.history_start, tables)

    def run(
        self, chunk: Chunk, *, lane: str, rebuild: bool = False, assets: Sequence[str] | None = None,
        more_tags: Mapping[str, str] | None = None,
    ) -> ExecuteInProcessResult:  # fmt: skip
        """Run one chunk; raises RunFailed."""
        job = self._definitions.resolve_job_def(chunk.job)
        if assets:  # without a selection of checks Dagster would add all those of the chosen assets
            job = job.get_subset(asset_selection={AssetKey(name) for name in (*assets, CATALOG)}, asset_check_selection=frozenset())
        result = job.execute_in_process(
            instance=self._instance,
            tags=chunk.tags(lane, rebuild=rebuild) | dict(more_tags or {}),
            run_config={"loggers": {"console": {"config": {"log_level": self._log_level}}}},
            raise_on_error=False,
        )
        if not result.success:
            raise RunFailed(f"{chunk.job} {chunk}: {_why(result)} (run {result.run_id}; `engagement status` shows what waits)")
        return result

    def waiting(self) -> waits.Waiting:
        """What waits now."""
        with open_tables(self._settings) as opened:
            return waits.compute(opened)

    def refresh(self) -> Iterator[Chunk]:
        """Run what waits until nothing does, yielding each chunk done.

        A chunk that fails is not tried again and stops no other; at the end it raises RunFailed for all that did.
        """
        failed: dict[Chunk, str] = {}
        for _ in range(ROUNDS):
            found = [chunk for chunk in of_waiting(self.waiting()) if chunk not in failed]
            if not found:
                break
            for chunk in found:
                try:
                    self.run(chunk, lane="day" if chunk.days else "live")
                except RunFailed as error:
                    failed[chunk] = str(error)
                yield chunk
        else:
            raise RunFailed(f"something still waits after {ROUNDS} rounds: is data arriving faster than this process refreshes?")
        if failed:
            raise RunFailed("; ".join(failed.values()))


def _why(result: ExecuteInProcessResult) -> str:
    for event in result.all_events:
        if event.is_step_failure and event.step_failure_data.error:
            error = event.step_failure_data.error
            cause = error.cause or error
            return f"{event.step_key}: {' '.join(cause.message.split())}"
    return "failed without a step's error"
