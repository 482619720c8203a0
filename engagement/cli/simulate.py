"""The command `simulate`: options in, one JSON line out. What is sent is decided in engagement.stack.simulator."""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from engagement import settings as settings_module
from engagement.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engagement.stack.simulator import Faults, Record
    from engagement.stack.simulator.sender import Sender

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
PROGRESS_EVERY = 1000


def simulate(
    *,
    rate: float = 50.0,
    users: int = 2000,
    history: str = "0h",
    history_only: bool = False,
    seed: int = 7,
    start: str | None = None,
    late: float = 0.01,
    duplicates: float = 0.01,
    malformed: float = 0.005,
    max_events: int | None = None,
) -> None:
    """Send a believable app's traffic to the three topics, until SIGTERM, Ctrl-C or --max-events.

    At the end prints one JSON line: the records the broker acknowledged, by topic, and the faults among them.
    The same seed and the same start give the same records, byte for byte. A broker that is away is waited for.

    For example:

        engagement simulate --rate 200
        engagement simulate --history 6h --history-only
        engagement simulate --start 2026-01-15T12:00:00Z --history 90m --max-events 10000

    Parameters
    ----------
    rate
        Mean events a second, in history as in live traffic.
    users
        People who use the app. Few people at a high rate make long, fast sessions.
    history
        First send so much of the past as fast as possible: 90m, 6h, 2d.
    history_only
        Send the history, then leave.
    seed
        Another seed is another population with other traffic.
    start
        Where history ends and live traffic begins, as RFC 3339 with offset; default now. What is due before now is sent at once.
    late
        Share of events that arrive a minute to some hours late.
    duplicates
        Share of events sent again seconds to minutes later, as they were or with event_id in upper case.
    malformed
        Share of records the contract rejects: broken JSON or UTF-8, empty, no user_id, broken or future timestamp, wrong type.
    max_events
        Leave after so many records.
    """
    from engagement.stack.simulator import events

    faults = _faults(late=late, duplicates=duplicates, malformed=malformed)
    past = _duration(history)
    live_from = datetime.now(UTC) if start is None else _instant(start)
    _check(rate=rate, users=users, max_events=max_events)
    if history_only and not past:
        raise UsageError("simulate: --history-only needs a --history, e.g. `--history 6h`")
    end = live_from if history_only else None
    records = events(seed, live_from - past, end, users=users, rate=rate, faults=faults)
    _run(islice(records, max_events), live_from=live_from, past=past)


def _run(records: Iterable[Record], *, live_from: datetime, past: timedelta) -> None:
    from engagement.stack.simulator.sender import Sender, paced

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    sender = Sender(settings_module.load(), stop=stop, say=_say)
    try:
        sender.wait_for_topics()
        for record in _with_progress(paced(records, sender.idle, stop), live_from=live_from, past=past):
            sender.send(record)
        sender.close()
    finally:
        _print_report(sender)


def _with_progress(records: Iterator[Record], *, live_from: datetime, past: timedelta) -> Iterator[Record]:
    """The records, with a bar on stderr while they are history and stderr is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("history"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[sent]:,} events"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not (past and console.is_terminal)) as progress:
        bar = progress.add_task("history", total=past.total_seconds(), sent=0)
        for sent, record in enumerate(records, 1):
            live = record.due_at >= live_from
            if live or sent % PROGRESS_EVERY == 0:
                done = past - max(live_from - record.due_at, timedelta())
                progress.update(bar, completed=done.total_seconds(), sent=sent)
            yield record
            if live:
                break
    yield from records


def _print_report(sender: Sender) -> None:
    print(json.dumps(sender.report.as_json()), flush=True)


def _say(line: str) -> None:
    print(f"simulate: {line}", file=sys.stderr, flush=True)


def _faults(**shares: float) -> Faults:
    from engagement.stack.simulator import Faults

    for name, share in shares.items():
        if not 0 <= share <= 1:
            msg = f"simulate: --{name} {share:g}: must be a share from 0 to 1"
            raise UsageError(msg)
    left = 1 - sum(shares.values())
    if left < 0:
        raise UsageError("simulate: --late, --duplicates and --malformed together exceed 1; an event has one fault at most")
    return Faults(**shares, unknown_fields=min(Faults().unknown_fields, left))


def _check(*, rate: float, users: int, max_events: int | None) -> None:
    if not 0 < rate <= 100_000:
        msg = f"simulate: --rate {rate:g}: must be more than 0 and at most 100000 events a second"
        raise UsageError(msg)
    if users < 1:
        msg = f"simulate: --users {users}: must be at least 1"
        raise UsageError(msg)
    if max_events is not None and max_events < 1:
        msg = f"simulate: --max-events {max_events}: must be at least 1"
        raise UsageError(msg)


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,5})([smhd])", text)
    if found is None:
        msg = f"simulate: --history {text!r}: expected a number and s, m, h or d, as in 90m, 6h, 2d"
        raise UsageError(msg)
    return timedelta(**{UNITS[found[2]]: int(found[1])})


def _instant(text: str) -> datetime:
    msg = f"simulate: --start {text!r}: expected RFC 3339 with offset, 1970 or later, as in 2026-01-15T12:00:00Z"
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(msg) from None
    if found.tzinfo is None or found.year < 1970:
        raise UsageError(msg)
    return found.astimezone(UTC)
