"""The exporter's loop and its port: each source looked at in its turn, the last answers served at once.

A scrape never waits for a look. A source that fails tells `exporter_source_up` 0 and its other series are gone; a process that
hangs serves nothing older than SILENT_AFTER, so that absence pages.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from engagement.errors import PermanentError
from engagement.exporter import audit, dagster, lake, log, series
from engagement.exporter.series import Sample, sample
from engagement.freshness import sla
from engagement.freshness.ages import NO_LOG, Log, Seen
from engagement.ingest import metrics
from engagement.ingest.kafka import BrokerUnavailable
from engagement.lake import require_lake
from engagement.raw.names import is_import
from engagement.settings import S3_SCHEME, Settings
from engagement.tables.context import TableContext, open_tables

if TYPE_CHECKING:
    from dagster import DagsterInstance

LOOK_SECONDS = 15.0
AUDIT_SECONDS = 300.0
SILENT_AFTER = 60.0
"""Answers older than this are no answers: of what is looked at every LOOK_SECONDS. The audit's live as long as two of its turns."""

logger = structlog.get_logger()


@dataclass
class Answer:
    """What a source said last."""

    samples: list[Sample] = field(default_factory=list)
    at: float = 0.0
    lives: float = SILENT_AFTER


class Answers(Collector):
    """The last answers of all sources, as Prometheus collects them."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[str, Answer] = {}

    def put(self, source: str, answer: Answer) -> None:
        """Replace what a source said."""
        with self._lock:
            self._answers[source] = answer

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every series that has a living sample."""
        with self._lock:
            answers = dict(self._answers)
        now = self._clock()
        families: dict[str, GaugeMetricFamily] = {}
        for answer in answers.values():
            for item in answer.samples if now - answer.at < answer.lives else ():
                found = item.series
                family = families.setdefault(found.name, GaugeMetricFamily(found.name, found.meaning, labels=found.labels))
                family.add_metric(item.labels, item.value)
        yield from families.values()


class Exporter:
    """The loop. `look` is one turn; `run` turns until stopped."""

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._slas = sla.load(settings)
        self._clock = clock
        self._seen = Seen()
        self._log = Log(known=False)
        self._audited = 0.0
        self._troubles: dict[str, str] = {}
        self.answers = Answers(clock)
        self.registry = CollectorRegistry()
        self.registry.register(self.answers)
        self._handles = ExitStack()
        self._context: TableContext | None = None
        self._instance: DagsterInstance | None = None

    def serve(self) -> None:
        """Answer on the exporter's port; raises PermanentError where it is taken."""
        metrics.serve(self.registry, self._settings.host, self._settings.exporter_port, "ENGAGEMENT_EXPORTER_PORT")

    def run(self, stop: threading.Event) -> None:
        """Turn until `stop` is set."""
        try:
            while not stop.is_set():
                began = time.monotonic()
                self.look()
                stop.wait(max(0.0, LOOK_SECONDS - (time.monotonic() - began)))
        finally:
            self.close()

    def look(self) -> bool:
        """Look at every source once, at the audit when its turn has come; whether all of them answered. Raises nothing they raise."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        answered = [
            self._one("machine", lambda: _machine(self._settings)),
            self._one("log", lambda: self._look_at_log(now)),
            self._one("lake", lambda: lake.look(self._tables(), self._log, self._slas, self._seen, now)),
            self._one("dagster", lambda: dagster.look(self._dagster(), now)),
        ]
        if self._clock() - self._audited >= AUDIT_SECONDS:
            answered.append(self._one("audit", lambda: audit.look(self._tables(), now), 2.5 * AUDIT_SECONDS))
            if answered[-1]:
                self._audited = self._clock()
        return all(answered)

    def text(self) -> str:
        """What a scrape gets."""
        return generate_latest(self.registry).decode()

    def close(self) -> None:
        """Give the handles back."""
        self._handles.close()
        self._handles = ExitStack()
        self._context = self._instance = None

    def _one(self, source: str, look: Callable[[], Iterator[Sample]], lives: float = SILENT_AFTER) -> bool:
        began = time.monotonic()
        try:
            samples = list(look())
        except Exception as error:  # noqa: BLE001 - whatever a source raises, the others are told
            self._say(source, " ".join(str(error).split()) or type(error).__name__)
            if source in ("lake", "audit", "dagster"):
                self.close()  # opened anew next time: what was open may be what is broken
            self.answers.put(source, Answer([*sample(series.SOURCE_UP, 0, source), *_down(error)], self._clock(), lives))
            return False
        self._say(source, "")
        about = [
            *sample(series.SOURCE_UP, 1, source),
            *sample(series.LOOKED, self._clock(), source),
            *sample(series.LOOK_SECONDS, time.monotonic() - began, source),
        ]
        self.answers.put(source, Answer([*samples, *about], self._clock(), lives))
        return True

    def _say(self, source: str, trouble: str) -> None:
        """Each trouble once, and once that it is over."""
        if trouble != self._troubles.get(source, ""):
            if trouble:
                logger.warning("source_away", source=source, detail=trouble)
            else:
                logger.info("source_back", source=source)
        self._troubles[source] = trouble

    def _look_at_log(self, now: datetime) -> Iterator[Sample]:
        ends = self._tables().index.ends()
        self._log = Log(known=False)
        try:
            partitions = log.measure(self._settings, ends)
        except BrokerUnavailable:
            if ends and all(map(is_import, ends)):
                self._log = NO_LOG  # nobody reads a log here
            raise
        self._log = Log.of(partitions)
        yield from sample(series.LOG_UP, 1)
        yield from log.look(self._settings, partitions, now)

    def _tables(self) -> TableContext:
        if self._context is None:
            require_lake(self._settings)
            self._context = self._handles.enter_context(open_tables(self._settings))
        return self._context

    def _dagster(self) -> DagsterInstance:
        if self._instance is None:
            home = self._settings.state_dir / "dagster"
            if not (home / "dagster.yaml").exists():
                raise PermanentError(f"no Dagster instance at {home}")
            os.environ["DAGSTER_HOME"] = str(home)
            from dagster import DagsterInstance

            self._instance = self._handles.enter_context(DagsterInstance.get())
        return self._instance


def _down(error: Exception) -> list[Sample]:
    """That the broker is down is told only where it was asked: a lake that is away says nothing of it."""
    return list(sample(series.LOG_UP, 0)) if isinstance(error, BrokerUnavailable) else []


def _machine(settings: Settings) -> Iterator[Sample]:
    folders: Mapping[str, Any] = {"state": settings.state_dir}
    if not settings.lake_url.startswith(S3_SCHEME):
        folders = {"lake": settings.lake_path, **folders}
    for name, path in folders.items():
        if path.exists():
            usage = shutil.disk_usage(path)
            yield from sample(series.DISK_FREE, usage.free, name)
            yield from sample(series.DISK_SIZE, usage.total, name)
