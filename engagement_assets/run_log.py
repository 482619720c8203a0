"""What runs do, as JSON lines in `logs/runs.log` of the state folder: begun, made, failed, ended, with ids and offsets.

A handler for `python_logs` of dagster.yaml, so that Dagster hands it every record of every run, whoever started it. A line
names things and counts them. The text of a foreign exception may quote a value of somebody's event: of it the type is told, and
the run's own page in the UI has the rest.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engagement.errors import EngagementError
from resources import tags

NAME = "runs.log"
MOST_BYTES = 64 << 20
"""A longer file becomes `runs.log.1`, in place of the one before."""
EVENTS = {
    "PIPELINE_START": "run_started",
    "PIPELINE_SUCCESS": "run_succeeded",
    "PIPELINE_FAILURE": "run_failed",
    "PIPELINE_CANCELED": "run_canceled",
    "STEP_FAILURE": "step_failed",
    "ASSET_MATERIALIZATION": "materialized",
    "ASSET_CHECK_EVALUATION": "check_failed",
}
"""Dagster's events that are told -> our word. Evaluations only of checks that failed."""


class RunLines(logging.Handler):
    """Appends a line a record; what cannot be written is lost, and no run fails for it."""

    def emit(self, record: logging.LogRecord) -> None:
        """As logging's handlers do."""
        try:
            found = line(record)
            if found is not None:
                _append(json.dumps(found, default=str, ensure_ascii=False))
        except OSError:
            return
        except Exception:  # noqa: BLE001 - as logging's own handlers: said on stderr, never raised
            self.handleError(record)


def line(record: logging.LogRecord) -> dict[str, Any] | None:
    """What a record of Dagster's says in our words; None where it is not told."""
    meta: Mapping[str, Any] = getattr(record, "dagster_meta", None) or {}
    event = meta.get("dagster_event")
    said = dict(_of_event(event)) if event is not None else dict(_of_message(record, meta))
    if not said:
        return None
    run_tags = meta.get("job_tags") or {}
    about = {
        "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(), "level": record.levelname.lower(), **said, "process": "run",
        "run_id": meta.get("run_id"), "job": meta.get("job_name"), "step": meta.get("step_key"), "lane": run_tags.get(tags.LANE),
        "units": run_tags.get(tags.UNITS),
    }  # fmt: skip
    return {name: value for name, value in about.items() if value is not None}


def _of_event(event: Any) -> Iterator[tuple[str, Any]]:
    kind, data = event.event_type_value, event.event_specific_data
    if kind not in EVENTS or (kind == "ASSET_CHECK_EVALUATION" and data.passed):
        return
    yield "event", EVENTS[kind]
    if kind == "ASSET_MATERIALIZATION":
        made = data.materialization
        yield "asset", made.asset_key.to_user_string()
        yield "partition", made.partition
        for name, key in (("dagster/partition_row_count", "rows"), ("raw_offsets", "offsets"), ("objects_published", "published")):
            if name in made.metadata:
                yield key, getattr(made.metadata[name], "value", None)
    elif kind == "ASSET_CHECK_EVALUATION":
        yield from (("asset", data.asset_key.to_user_string()), ("check", data.check_name), ("partition", data.partition))
    elif error := getattr(data, "error", None):
        yield "error", [found.cls_name for found in _chain(error)]


def _chain(error: Any) -> Iterator[Any]:
    while error is not None:
        yield error
        error = error.cause


def _of_message(record: logging.LogRecord, meta: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """What our own code logs, from level info on."""
    if record.levelno < logging.INFO:
        return
    error = record.exc_info[1] if record.exc_info else None
    yield "event", "log"
    if error is not None:
        yield "error", [type(error).__name__]
    if error is None or isinstance(error, EngagementError):
        yield "detail", meta.get("orig_message", record.getMessage())


def _append(text: str) -> None:
    folder = Path(os.environ["DAGSTER_HOME"]).parent / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    with path.open("ab", buffering=0) as file:  # one write a line: many runs append at once
        file.write(text.encode() + b"\n")
        size = file.tell()
    if size > MOST_BYTES:
        path.replace(path.with_suffix(".log.1"))
