"""How old the newest number is and what that means: pure decisions over plain facts, and the words people read.

What does not belong here: reading the lake, which `data` does, and drawing, which `app` does.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from http.client import HTTPException
from typing import Literal

from prometheus_client.parser import text_string_to_metric_families

from engagement.settings import Settings

STALE_AFTER = timedelta(minutes=5)
QUIET_AFTER = timedelta(seconds=90)
"""Beyond the flush interval: no record for so long is a pause of the app, not the rhythm of the flushes."""
SILENT_AFTER = timedelta(minutes=2)
"""A consumer without a turn of its loop for so long hangs."""
PROBE_SECONDS = 0.5

Kind = Literal["live", "complete", "catching_up", "stale", "empty", "error"]


@dataclass(frozen=True, slots=True)
class Consumer:
    """What the consumer says about itself on its metrics port; `alive` is False where nobody answers."""

    url: str
    alive: bool
    lag: int = 0
    stopped: int = 0
    heartbeat: datetime | None = None
    hangs: bool = False
    """It serves its series without a heartbeat: the loop has not turned for long (`ingest.metrics.Heartbeat`)."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the lake and the consumer say about freshness.

    `covered` is the greatest received_at in the newest numbers, `arrived` that of the log's newest record (None:
    the lake has imports only), `pending_since` when the oldest record arrived that the newest hours still lack.
    """

    covered: datetime | None
    arrived: datetime | None
    hours: dict[datetime, str]
    days: dict[date, str]
    pending_since: datetime | None
    consumer: Consumer | None


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the page in words: a headline, what is wrong, what to do. `age` is that of the newest number."""

    kind: Kind
    headline: str
    problem: str = ""
    remedies: tuple[str, ...] = ()
    age: timedelta | None = None


def judge(facts: Facts, settings: Settings, now: datetime) -> Status:
    """The state that these facts mean at this moment."""
    if facts.covered is None:
        return _not_built(facts, settings)
    age = max(now - facts.covered, timedelta(0))
    waits = bool(facts.hours or facts.days)
    fresh = Status("live", f"newest number {words(age)} old", age=age)
    if age <= STALE_AFTER and (waits or age <= QUIET_AFTER + timedelta(seconds=settings.flush_seconds)):
        return fresh
    if waits:
        if facts.pending_since is not None and now - facts.pending_since <= STALE_AFTER:
            since = words(max(now - facts.pending_since, timedelta(0)))
            return Status("catching_up", f"catching up: new events came {since} ago; newest number {words(age)} old", age=age)
        return _stale(age, _what_waits(facts), _mend_tables(settings))
    trouble = _consumer_trouble(facts, settings, now)
    if trouble is None:
        return Status("complete", f"complete, no events for {words(age)}", age=age)
    return fresh if age <= STALE_AFTER else _stale(age, *trouble)


def empty_lake(settings: Settings) -> Status:
    """There is no lake yet."""
    return Status(
        "empty",
        "no data yet",
        f"There is no lake at {settings.lake_url}.",
        ("`make demo` starts everything, with live data.", *_start_reading(settings)),
    )


def failed(error: BaseException) -> Status:
    """The lake could not be read; one line says why."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return Status(
        "error",
        "the lake cannot be read",
        reason[:400],
        ("Mend what the line above names; this page tries again every few seconds.", "`engagement settings` shows which lake this is."),
    )


def words(span: timedelta) -> str:
    """A span as people say it: 42 s, 12 min, 3 h 5 min, 2 days."""
    seconds = int(span.total_seconds())
    if seconds < 120:
        return f"{seconds} s"
    minutes = seconds // 60
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def probe(settings: Settings) -> Consumer:
    """Ask the consumer's metrics port; nobody answering within half a second is an answer too."""
    url = f"http://{settings.host}:{settings.metrics_port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=PROBE_SECONDS) as answer:
            return parse(url, answer.read().decode())
    except (OSError, HTTPException, ValueError):
        return Consumer(url, alive=False)


def parse(url: str, text: str) -> Consumer:
    """The consumer's state from the Prometheus text it serves; raises ValueError where it is none."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    beat = found.get("engagement_heartbeat_seconds")
    return Consumer(
        url,
        "engagement_buffered_bytes" in found,
        int(found.get("engagement_lag_records", 0)),
        int(found.get("engagement_partition_stopped", 0)),
        datetime.fromtimestamp(beat, UTC) if beat else None,
        hangs=beat is None,
    )


def _not_built(facts: Facts, settings: Settings) -> Status:
    if facts.hours:
        waiting = f"Events are in the lake, but no table has been made of them yet: {_count(facts.hours, 'hour')} wait."
        return Status("empty", "no numbers yet", waiting, _mend_tables(settings))
    return Status("empty", "no data yet", f"The lake at {settings.lake_url} holds no events yet.", _start_reading(settings))


def _start_reading(settings: Settings) -> tuple[str, ...]:
    return (
        f"`engagement ingest` reads from Kafka at {settings.kafka_bootstrap_servers}; `engagement import PATH` brings in history.",
        "`engagement refresh` makes the tables where Dagster is not running.",
    )


def _stale(age: timedelta, problem: str, remedies: tuple[str, ...]) -> Status:
    return Status("stale", f"stale: newest number {words(age)} old", problem, remedies, age)


def _what_waits(facts: Facts) -> str:
    parts = [_count(facts.hours, "hour")] if facts.hours else []
    parts += [_count(facts.days, "day")] if facts.days else []
    newest = f", the newest {max(facts.hours):%Y-%m-%d %H:%M} UTC" if facts.hours else ""
    return f"{' and '.join(parts)} wait for their tables{newest}. The Dagster daemon is not running, or its runs fail."


def _mend_tables(settings: Settings) -> tuple[str, ...]:
    return (
        "`engagement status` shows what waits and the last run of every table.",
        f"Dagster at http://{settings.host}:{settings.dagster_port}: are the daemon and the sensor `arrivals` running, has a run failed?",
        "Without Dagster, `engagement refresh` brings the tables up to date now.",
    )


def _consumer_trouble(facts: Facts, settings: Settings, now: datetime) -> tuple[str, tuple[str, ...]] | None:
    """Why the log may hold more than the lake, though nothing waits in it; None where it does not."""
    consumer = facts.consumer
    if facts.arrived is None or consumer is None:  # imports only: nobody reads a log
        return None
    if not consumer.alive:
        return f"No consumer answers at {consumer.url}: new events stay in Kafka.", (
            f"Start it with `engagement ingest`; it reads from {settings.kafka_bootstrap_servers} and loses nothing by the pause.",
            "If it runs elsewhere, ENGAGEMENT_HOST and ENGAGEMENT_METRICS_PORT say where this page looks.",
        )
    quiet = now - consumer.heartbeat if consumer.heartbeat else timedelta()
    silent = "over a minute" if consumer.hangs else words(quiet) if quiet > SILENT_AFTER else None
    if silent:
        return f"The consumer answers but has not read for {silent}.", ("Its log says what it waits for; restarting it loses nothing.",)
    if consumer.stopped:
        partitions = f"{consumer.stopped} partition{'s' if consumer.stopped > 1 else ''}"
        return f"The consumer has stopped {partitions}.", ("Its log names each and what to do; `engagement status` shows the lag.",)
    if consumer.lag:
        return f"The consumer is {consumer.lag:,} records behind the log.", ("`engagement status` shows the lag of each partition.",)
    return None


def _count(things: Iterable[object], name: str) -> str:
    number = len(list(things))
    return f"{number} {name}{'' if number == 1 else 's'}"
