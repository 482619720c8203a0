"""What people type after `engagement dead-letters`, read into a selection, a destination and a fix."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from engagement.errors import PermanentError, UsageError
from engagement.ingest.letters import REASONS, Address, Fix, Selection
from engagement.raw.names import IMPORT_TOPIC
from engagement.settings import Settings

WITH_FIELD = ("missing", "bad_type", "bad_value")


def addresses(texts: Sequence[str]) -> list[Address]:
    """The coordinates; raises UsageError."""
    found = []
    for text in texts:
        address = Address.parse(text)
        if address is None:
            expected = "topic_id/partition/offset, the topic id as 32 hex digits (imports: 64)"
            raise UsageError(f"dead-letters: {text!r} are no coordinates: expected {expected}")
        found.append(address)
    return found


def selection(
    settings: Settings, known: Collection[str], *, topic: str | None, reasons: Sequence[str], since: str | None, until: str | None
) -> Selection:
    """The filters; `known` are the topics of the lake. Raises UsageError."""
    topics = None if topic is None else {topic_name(settings, known, topic)}
    first, end = instant("--from", since), instant("--to", until, end_of_day=True)
    if first is not None and end is not None and first >= end:
        raise UsageError(f"dead-letters --from {since} is not before --to {until}")
    return Selection(topics, tuple(map(_reason, reasons)), first, end)


def topic_name(settings: Settings, known: Collection[str], text: str) -> str:
    """A topic by its name or its family; raises UsageError with the valid ones."""
    of_family = {family: name for name, family in settings.topics.items()}
    valid = {*known, *settings.topics, IMPORT_TOPIC}
    name = text if text in valid else of_family.get(text)
    if name is None:
        raise UsageError(f"dead-letters --topic {text}: no such topic; valid are {', '.join(sorted(valid))}")
    return name


def destination(settings: Settings, known: Collection[str], text: str) -> str:
    """A topic that ingest reads; raises UsageError: what goes elsewhere is never seen to be replayed."""
    name = topic_name(settings, known, text)
    if name not in settings.topics:
        raise UsageError(f"dead-letters replay --topic {text}: ingest does not read it; valid are {', '.join(settings.topics)}")
    return name


def instant(option: str, text: str | None, *, end_of_day: bool = False) -> datetime | None:
    """A UTC day or an RFC 3339 instant; as an end a day is meant whole. Raises UsageError."""
    if text is None:
        return None
    try:
        if len(text) == len("YYYY-MM-DD"):
            day = date.fromisoformat(text)
            return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=end_of_day)
        found = datetime.fromisoformat(text.upper())
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"dead-letters {option} {text}: expected a day as YYYY-MM-DD, or an instant as 2026-11-01T10:00:00Z")


def load_fix(text: str) -> Fix:
    """The function of `script.py:function`; raises UsageError, PermanentError where the script itself fails."""
    script, _, name = text.rpartition(":")
    path = Path(script)
    if not script or not name:
        raise UsageError(f"dead-letters replay --fix {text}: expected script.py:function")
    if not path.is_file():
        raise UsageError(f"dead-letters replay --fix {text}: there is no file {script}")
    spec = importlib.util.spec_from_file_location("engagement_fix", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"dead-letters replay --fix {text}: {script} is no Python file")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # where dataclasses look for their own module
    sys.path.insert(0, str(path.resolve().parent))  # as for any script: it finds its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise PermanentError(f"{script} cannot be loaded: {type(error).__name__}: {' '.join(str(error).split())}") from error
    function = getattr(module, name, None)
    if not callable(function):
        raise UsageError(f"dead-letters replay --fix {text}: {script} has no function {name}")
    found: Fix = function
    return found


def _reason(text: str) -> str:
    base, colon, field = text.partition(":")
    if base not in REASONS or (colon and (base not in WITH_FIELD or not field)):
        shown = [f"{reason}[:FIELD]" if reason in WITH_FIELD else reason for reason in REASONS]
        raise UsageError(f"dead-letters --reason {text}: no such reason; valid are {', '.join(shown)}")
    return text
