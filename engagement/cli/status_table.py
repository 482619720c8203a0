"""The facts of `status` as a page that a person reads in five seconds. Nothing is looked up here."""

from __future__ import annotations

import sys
from collections.abc import Sized
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

NAMED = 5
"""So many findings, gaps, hours and days are named one by one; `--json` has them all."""
STYLES = {"ok": "green", "unknown": "dim", "warn": "yellow", "fail": "red"}
PARTITIONS = 12
"""So many partitions of a topic are named, those furthest behind first."""


def show(found: dict[str, Any]) -> None:
    """The page, on stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 130, highlight=False)
    table = Table("asset", "newest data", "age", "lacks", "SLA", "rows", "last run", title=f"lake {found['lake']}", title_justify="left")
    for row in found["assets"]:
        table.add_row(
            row["asset"],
            _moment(row["newest_received_at"]),
            _age(row["age_seconds"]),
            _age(row["lacks_seconds"]),
            f"[{STYLES[row['sla']]}]{row['sla']}[/]",
            f"{row['rows']:,}",
            _moment(row["last_run"]),
        )
    console.print(table)
    _lag(console, found["partitions"])
    rejects = found["raw"]["rejects"]
    text = f"raw    {found['raw']['rows']:,} rows in {found['raw']['objects']:,} objects; rejected {sum(rejects.values()):,}"
    console.print(text + (": " + ", ".join(f"{reason} {count:,}" for reason, count in rejects.items()) if rejects else ""))
    _audit(console, found["audit"])
    _waits(console, found["waits"])
    _delays(console, found["delays"])
    for item in found["backfills"]:
        failed = f", {item['failed']} failed" if item["failed"] else ""
        console.print(
            f"rebuild {item['what']}: {item['done']} runs done, {item['left']} left{failed}, asked {_moment(item['since'])}", markup=False
        )
    _layers(console, found["layers"])
    _retention(console, found["retention"])
    _trust(console, found["held"], found["suspects"])
    for problem in found["problems"]:
        console.print(problem, style="yellow", markup=False)


def _lag(console: Console, partitions: list[dict[str, Any]] | None) -> None:
    """One line a topic: the sum, the oldest record, and the partitions that are furthest behind."""
    topics: dict[str, list[dict[str, Any]]] = {}
    for item in partitions or ():
        topics.setdefault(item["topic"], []).append(item)
    for place, (topic, items) in enumerate(topics.items()):
        behind = sorted((item for item in items if item["lag"]), key=lambda item: -item["lag"])
        text = f"{sum(item['lag'] for item in items):,} records behind" if behind else f"read to the end, {_count(items, 'partition')}"
        ages = [item["lag_seconds"] for item in behind if item["lag_seconds"] is not None]
        text += f", the oldest {_age(max(ages))} old" if ages else ""
        each = " ".join([f"{item['partition']}:{item['lag']:,}" for item in behind[:PARTITIONS]] + ["..."] * (len(behind) > PARTITIONS))
        console.print(f"{'lag' if place == 0 else '':<7}{topic}: {text}{f' ({each})' if each else ''}")


def _waits(console: Console, waits: dict[str, dict[str, str]]) -> None:
    """How many hours and days wait, and the newest of them."""
    hours, days = waits["hours"], waits["days"]
    counts = [_count(found, word) for found, word in ((hours, "hour"), (days, "day")) if found]
    newest = [f"{hour[:16].replace('T', ' ')} ({why})" for hour, why in [*hours.items()][-NAMED:]]
    newest += [f"{day} ({why})" for day, why in [*days.items()][-NAMED:]]
    console.print(f"waits  {' and '.join(counts)}: {', '.join(newest)}" if counts else "waits  nothing")


def _delays(console: Console, delays: dict[str, dict[str, Any]]) -> None:
    """What the page lacks of the live hours and of old ones: the two delays of R9."""
    lanes = []
    for lane, delay in delays.items():
        rows, hours = _count(range(delay["rows"]), "row"), _count(range(delay["hours"]), "hour")
        lanes += [f"{lane} {rows} of {hours}, the oldest {_age(delay['oldest_seconds'])} old"] if delay["rows"] else []
    console.print(f"delay  {'; '.join(lanes)}" if lanes else "delay  none: every good raw row is on the page")


def _layers(console: Console, layers: list[dict[str, Any]]) -> None:
    """What each layer holds, and how much of it lies in small objects."""
    held = [layer for layer in layers if layer["objects"]]
    for place, layer in enumerate(held):
        name, small = f"{'layers' if place == 0 else '':<7}{layer['layer']:<11}", 100 * layer["small"] // layer["objects"]
        console.print(f"{name}{_count(range(layer['objects']), 'object'):>16} {_bytes(layer['bytes']):>10}  {small}% below 1 MiB")


def _retention(console: Console, retention: dict[str, Any]) -> None:
    """Since when data is kept; silent where nothing ever went."""
    kept = [f"{layer} since {day}" for layer, day in retention["kept_since"].items()]
    if retention["first_open_day"]:
        kept.append(f"days before {retention['first_open_day']} are final")
    if kept:
        console.print(f"kept   {', '.join(kept)}")
    if late := retention["hours_with_rows_too_late"]:
        console.print(f"       rows of {_count(late, 'hour')} came when those were final: they are in raw and in no table", style="yellow")


def _trust(console: Console, held: list[dict[str, Any]], suspects: list[dict[str, Any]]) -> None:
    """Units that show their last good rows, and published ones that may be wrong; silent where there are none."""
    for place, unit in enumerate(held[:NAMED]):
        failed, lacks = ", ".join(unit["failed"]), f", {unit['rows_lacking']:,} newer rows lacking" if unit["rows_lacking"] else ""
        text = f"{unit['unit']} since {_moment(unit['since'])}: {failed}{lacks}; judged {unit['judged']} times"
        console.print(f"{'held' if place == 0 else '':<7}{text}", style="red", markup=False)
    if len(held) > NAMED:
        console.print(f"       and {len(held) - NAMED:,} more (--json)", style="red")
    for place, unit in enumerate(suspects[:NAMED]):
        text = f"{unit['unit']} since {_moment(unit['since'])}: {', '.join(unit['checks'][:3])}; {unit['message']}"
        console.print(f"{'suspect' if place == 0 else '':<8}{text}", style="yellow", markup=False)
    if len(suspects) > NAMED:
        console.print(f"        and {len(suspects) - NAMED:,} more (--json)", style="yellow")


def _bytes(number: float) -> str:
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        units.pop(0)
    return f"{number:.0f} B" if units[0] == "B" else f"{number:.1f} {units[0]}"


def _audit(console: Console, audit: dict[str, Any]) -> None:
    """The verdict, then what is wrong, the newest recorded gaps, and imports that may not be complete."""
    console.print(f"audit  {audit['verdict']}", style="red" if audit["findings"] else None)
    _some(console, [finding["text"] for finding in audit["findings"]], "red")
    _some(
        console,
        [
            f"{gap['chain']} offsets [{gap['start']}, {gap['end']}): {gap['offsets']:,} records lost by the log before they were read, "
            f"{_moment(gap['after'], 'the beginning')} to {_moment(gap['before'], 'now')}"
            for gap in reversed(audit["gaps"])
        ],
        "yellow",
    )
    _some(console, [f"{chain}: its file may have been longer; import it again to be sure" for chain in audit["imports_that_may_go_on"]])


def _some(console: Console, lines: list[str], style: str | None = None) -> None:
    for line in lines[:NAMED]:
        console.print(f"       {line}", style=style, markup=False)
    if len(lines) > NAMED:
        console.print(f"       and {len(lines) - NAMED:,} more (--json)", style=style)


def _count(found: Sized, word: str) -> str:
    return f"{len(found):,} {word}{'' if len(found) == 1 else 's'}"


def _moment(instant: str | None, otherwise: str = "never") -> str:
    return otherwise if instant is None else instant[:19].replace("T", " ")


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
