"""`engagement dead-letters`: look at what was rejected, and send it back."""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError
from engagement.raw.names import IMPORT_TOPIC

if TYPE_CHECKING:
    from engagement.ingest.letters import Letter
    from engagement.lake import Lake
    from engagement.settings import Settings

app = App(
    name="dead-letters",
    help="""Look at rejected records, and send them back once.

For example:

    engagement dead-letters list

    engagement dead-letters show --reason bad_json --limit 3

    engagement dead-letters replay --reason too_late --dry-run
""",
)

Flag = Parameter(negative="")
Json = Annotated[bool, Parameter(name="--json", negative="")]
From = Annotated[str | None, Parameter(name="--from")]
Reasons = Annotated[list[str] | None, Parameter(name="--reason", negative="")]


@app.command(name="list")
def list_(*, topic: str | None = None, reason: Reasons = None, from_: From = None, to: str | None = None, json_: Json = False) -> None:
    """Count rejects by topic and reason: how many, since when, how many are replayed, how many wait.

    Sent but not read by `engagement ingest` yet is not counted as replayed here. No broker is needed.

    For example:

        engagement dead-letters list
        engagement dead-letters list --topic session --from 2026-11-01 --to 2026-11-07 --json

    Parameters
    ----------
    topic
        A topic or its family; `import` for imported files.
    reason
        A reason, with or without its field: `missing` is every `missing:FIELD`. May be given several times.
    from_
        First received_at: a UTC day, or an instant as 2026-11-01T10:00:00Z.
    to
        Last UTC day (included), or an instant (not included).
    json_
        One JSON object a line instead of the table.
    """
    from engagement.cli import dead_letter_arguments as arguments
    from engagement.cli import dead_letter_output as output
    from engagement.ingest.replay import reading

    settings, lake = _lake()
    with output.progress_bar() as progress, reading(settings, lake, progress) as found:
        output.tell_unreadable(found)
        meant = arguments.selection(settings, found.topics(), topic=topic, reasons=reason or (), since=from_, until=to)
        tallies = found.tally(meant)
    if not json_:
        output.print_tallies(tallies)
        return
    for tally in tallies:
        times = {"oldest": tally.oldest.isoformat(), "newest": tally.newest.isoformat()}
        print(json.dumps(asdict(tally) | times | {"waiting": tally.waiting}))


@app.command
def show(
    *coordinates: str,
    topic: str | None = None,
    reason: Reasons = None,
    from_: From = None,
    to: str | None = None,
    limit: int = 20,
    payload: Annotated[bool, Flag] = False,
    json_: Json = False,
) -> None:
    """Show single rejects, the newest first.

    For example:

        engagement dead-letters show --reason bad_json --limit 3
        engagement dead-letters show 0f0e0d0c0b0a09080706050403020100/2/1234 --payload > payload.bin

    Parameters
    ----------
    coordinates
        `topic_id/partition/offset` of those to show, instead of filters.
    topic
        A topic or its family; `import` for imported files.
    reason
        A reason, with or without its field. May be given several times.
    from_
        First received_at: a UTC day, or an instant as 2026-11-01T10:00:00Z.
    to
        Last UTC day (included), or an instant (not included).
    limit
        At most so many.
    payload
        Write the exact bytes of one payload to stdout, nothing else.
    json_
        One JSON object a line; payload, key and header values in base64, null where there is none.
    """
    from engagement.cli import dead_letter_arguments as arguments
    from engagement.cli import dead_letter_output as output
    from engagement.ingest.letters import Replays
    from engagement.ingest.replay import reading

    _either(coordinates, topic, reason, from_, to)
    if limit < 1:
        raise UsageError(f"dead-letters show --limit {limit}: must be at least 1")
    if payload and (len(coordinates) != 1 or json_):
        raise UsageError("dead-letters show --payload: name exactly one record by its coordinates, without --json")
    addresses = arguments.addresses(coordinates)
    settings, lake = _lake()
    with output.progress_bar() as progress, reading(settings, lake, progress) as found:
        output.tell_unreadable(found)
        if addresses:
            letters = found.at(addresses)
        else:
            meant = arguments.selection(settings, found.topics(), topic=topic, reasons=reason or (), since=from_, until=to)
            letters = found.newest(meant, limit)
        oldest = min((letter.received_at for letter in letters), default=None)
        replays = Replays(() if payload else found.replays(oldest))
    if payload:
        sys.stdout.buffer.write(letters[0].payload or b"")
        sys.stdout.buffer.flush()
        if letters[0].payload is None:
            print("engagement: the record has no payload (null)", file=sys.stderr)
        return
    for letter in letters:
        print(json.dumps(output.as_json(letter, replays)) if json_ else "\n".join([*output.lines(letter, replays), ""]))


@app.command
def replay(
    *coordinates: str,
    topic: str | None = None,
    reason: Reasons = None,
    from_: From = None,
    to: str | None = None,
    fix: str | None = None,
    again: Annotated[bool, Flag] = False,
    dry_run: Annotated[bool, Flag] = False,
    json_: Json = False,
) -> int:
    """Send rejects back to the topic they came from: the same bytes, key and headers, and one header `engagement-replay-of`.

    What was replayed before is not sent again: neither what is in the lake nor what waits in the log to be read. A
    replay that is rejected again takes the place of its original, and is sent only if a fix changes it. Erased records
    are never sent. `too_late` is not judged on replays, so a plain replay mends it; most other reasons need a fix.

    A fix is a function of (payload, key, headers, reason) that returns the new payload as bytes, or (payload, key), or
    None to leave the record alone. Where it raises, or a record cannot be sent, one line tells the coordinates, the
    record stays what it was, the others go on, and the exit code is 1.

    For example:

        engagement dead-letters replay --reason too_late --dry-run
        engagement dead-letters replay --reason bad_json --topic session --fix mend.py:quotes
        engagement dead-letters replay 0f0e0d0c0b0a09080706050403020100/2/1234 --again

    Parameters
    ----------
    coordinates
        `topic_id/partition/offset` of those to send, instead of filters.
    topic
        Only what came from this topic (or family), and imported rejects, which go there instead of to the topic of
        their family; `import` is imported rejects alone, to their families' topics.
    reason
        A reason, with or without its field. May be given several times.
    from_
        First received_at: a UTC day, or an instant as 2026-11-01T10:00:00Z.
    to
        Last UTC day (included), or an instant (not included).
    fix
        `script.py:function` that mends each record.
    again
        Send also what was replayed before.
    dry_run
        Only count what would be sent; the fix is run.
    json_
        One JSON object instead of the summary.
    """
    from engagement.cli import dead_letter_arguments as arguments
    from engagement.cli import dead_letter_output as output
    from engagement.ingest.letters import Selection
    from engagement.ingest.replay import Request, reading
    from engagement.ingest.replay import replay as send

    _either(coordinates, None, reason, from_, to)
    addresses = arguments.addresses(coordinates)
    function = None if fix is None else arguments.load_fix(fix)
    settings, lake = _lake()
    with reading(settings, lake) as found:
        output.tell_unreadable(found)
        known = found.topics()
        where = None if topic in {None, IMPORT_TOPIC} else arguments.destination(settings, known, str(topic))
        if addresses:
            _require_topic(found.at(addresses), settings, where)
            meant = Selection(addresses=addresses)
        else:
            meant = arguments.selection(settings, known, topic=topic, reasons=reason or (), since=from_, until=to)
            if where is not None:
                meant = replace(meant, topics={where, *(name for name in known if name not in settings.topics)})
    failures = output.Failures()
    with output.progress_bar() as progress, contextlib.redirect_stdout(sys.stderr):  # what a fix prints is no data
        request = Request(meant, where, function, again, dry_run)
        report = send(settings, lake, request, trouble=failures.tell, progress=progress)
    failures.close()
    print(json.dumps({"dry_run": dry_run} | asdict(report)) if json_ else output.summary(report, dry_run=dry_run))
    return 1 if report.failed else 0


def _lake() -> tuple[Settings, Lake]:
    from engagement.lake import open_lake, require_lake

    settings = settings_module.load()
    require_lake(settings)
    return settings, open_lake(settings)[0]


def _either(coordinates: tuple[str, ...], *filters: object) -> None:
    if coordinates and any(filters):
        raise UsageError("dead-letters: name records by their coordinates or by filters, not by both")


def _require_topic(letters: list[Letter], settings: Settings, where: str | None) -> None:
    """Only what has no topic of its own can be sent to a topic by name."""
    for letter in letters:
        if where is not None and letter.topic in settings.topics and letter.topic != where:
            raise UsageError(f"dead-letters replay --topic {where}: {letter.address} came from topic {letter.topic} and goes back there")
