"""How dead letters look: a table of counts, a block a record, JSON for programs, a summary of a replay."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from engagement.ingest.dead_letters import DeadLetters, Tally
from engagement.ingest.letters import ERASED, Address, Letter, Replays
from engagement.ingest.replay import Report
from engagement.progress import Progress

EXCERPT = 200
TOLD_FAILURES = 20


def print_tallies(tallies: Sequence[Tally]) -> None:
    """The table of `list`."""
    from rich.console import Console
    from rich.table import Table

    if not tallies:
        print("no dead letters")
        return
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("topic", "reason"):
        table.add_column(name, no_wrap=True)
    for name in ("rejects", "replayed", "waiting"):
        table.add_column(name, justify="right")
    for name in ("oldest", "newest"):
        table.add_column(name, min_width=len("YYYY-MM-DD"))  # on a narrow terminal the time goes below
    for tally in tallies:
        numbers = (f"{number:,}" for number in (tally.count, tally.replayed, tally.waiting))
        table.add_row(tally.topic, tally.reason, *numbers, instant(tally.oldest)[:19], instant(tally.newest)[:19])
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(table)


def instant(value: datetime) -> str:
    """A time as people read it, UTC."""
    return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def state(letter: Letter, replays: Replays) -> str:
    """`waiting`, `replayed` or `erased`."""
    if letter.reason == ERASED:
        return ERASED
    return "replayed" if replays.answer(letter.address, letter.origin, letter.received_at) else "waiting"


def lines(letter: Letter, replays: Replays) -> Iterator[str]:
    """A record for people; nothing in it can move a terminal's cursor."""
    source = f" row {letter.address.offset + 1:,} of {readable(letter.source.encode())}" if letter.source else ""
    where = f"{letter.address}  {letter.topic}{source}"
    yield f"{where}  {instant(letter.received_at)}  {letter.reason}  {letter.size:,} bytes  {state(letter, replays)}"
    if letter.origin != letter.address:
        yield f"  replay of  {letter.origin}"
    yield f"  key        {readable(letter.key)}"
    if letter.headers is None:
        yield "  headers    not kept"
    for name, value in letter.headers or ():
        yield f"  header     {readable(name.encode())}: {readable(value)}"
    yield f"  payload    {readable(letter.payload)}"


def readable(data: bytes | None) -> str:
    """The beginning of some bytes as one printable line; what is no printable text is escaped."""
    if data is None:
        return "null"
    if not data:
        return "(empty)"
    text = data[: EXCERPT * 4].decode("utf-8", "backslashreplace")
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:EXCERPT])
    return f"{shown} … ({len(data):,} bytes)" if len(text) > EXCERPT or len(data) > EXCERPT * 4 else shown


def as_json(letter: Letter, replays: Replays) -> dict[str, Any]:
    """A record for programs: every byte of it in base64."""
    return {
        "coordinates": str(letter.address),
        "topic": letter.topic,
        "received_at": letter.received_at.isoformat(),
        "reason": letter.reason,
        "state": state(letter, replays),
        "replay_of": None if letter.origin == letter.address else str(letter.origin),
        "source": letter.source,
        "size": letter.size,
        "headers": None if letter.headers is None else [{"name": name, "value": _base64(value)} for name, value in letter.headers],
        "key": _base64(letter.key),
        "payload": _base64(letter.payload),
    }


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode()


def summary(report: Report, *, dry_run: bool) -> str:
    """A replay in one or two lines."""
    if not report.selected:
        return "no dead letters match: nothing to replay"
    sent = sum(report.sent.values())
    where = f" ({', '.join(f'{topic} {count:,}' for topic, count in sorted(report.sent.items()))})" if sent else ""
    rest = [
        f"{count:,} {what}"
        for count, what in (
            (report.already_replayed, "replayed before"),
            (report.unchanged, "rejected again before and unchanged (a fix can mend them)"),
            (report.skipped_by_fix, "left alone by the fix"),
            (report.erased, "erased"),
            (report.failed, "failed"),
        )
        if count
    ]
    text = f"{'would replay' if dry_run else 'replayed'} {sent:,} of {report.selected:,} dead letters{where}"
    text += f"; {', '.join(rest)}" if rest else ""
    if report.rejected_again:
        counts = sorted(report.rejected_again.items(), key=lambda item: -item[1])
        text += f"\n{sum(report.rejected_again.values()):,} of them will be rejected again: "
        text += ", ".join(f"{reason} {count:,}" for reason, count in counts)
    return text


def tell_unreadable(found: DeadLetters) -> None:
    """Name what is missing from the answer."""
    for file in found.unreadable:
        print(f"engagement: left out: {file.key} {file.why}", file=sys.stderr)


class Failures:
    """Tells one line a record that could not be sent, the first of them."""

    def __init__(self) -> None:
        self._count = 0

    def tell(self, address: Address, why: str) -> None:
        """One more."""
        self._count += 1
        if self._count <= TOLD_FAILURES:
            print(f"engagement: {address}: {why}", file=sys.stderr)

    def close(self) -> None:
        """Say how many were not told."""
        if self._count > TOLD_FAILURES:
            print(f"engagement: … and {self._count - TOLD_FAILURES:,} more", file=sys.stderr)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """A bar on stderr while the work is long, nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what)
            bar.update(tasks[what], completed=done, total=total)

        yield tell
