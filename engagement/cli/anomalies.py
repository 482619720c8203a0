"""`engagement anomalies`: what was out of line, and what people say of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

from cyclopts import App, Parameter

from engagement import settings as settings_module
from engagement.errors import UsageError

app = App(
    name="anomalies",
    help="""Hours whose numbers are out of line: list them, accept them, withdraw that.

    For example:

        engagement anomalies list
        engagement anomalies accept hourly_engagement/2026-11-24-13:00 --why "push campaign"
    """,
)
CHECK = "anomalies"


@app.command(name="list")
def list_(*, days: int = 14, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """List the hours of the last days that are out of line, newest first, with what was expected.

    For example:

        engagement anomalies list
        engagement anomalies list --days 60 --json

    Parameters
    ----------
    days
        So many days back.
    json_
        One JSON object a line.
    """
    from engagement.lake import open_lake, require_lake
    from engagement.verdicts import accepted, records

    if days < 1:
        raise UsageError(f"anomalies list --days {days}: at least one day")
    settings = settings_module.load()
    require_lake(settings)
    lake, _ = open_lake(settings)
    today = datetime.now(UTC).date()
    said = {item.unit: item for item in accepted.read(lake) if item.check == CHECK}
    standing = records.latest(lake, today - timedelta(days=days), today).values()
    found = [item.result for item in standing if item.result.engine == "anomaly" and item.result.status.value == "failed"]
    for result in sorted(found, key=lambda result: result.period, reverse=True):
        unit = f"{result.asset}/{result.period.key}"
        word = f"accepted: {said[unit].why or 'without a reason'}" if unit in said else ""
        if json_:
            print(json.dumps({"unit": unit, "message": result.message, "severity": result.severity.value, "accepted": word}))
        else:
            print(f"{unit}  {result.message}{f'  ({word})' if word else ''}")
    if not found and not json_:
        print(f"no hour of the last {days} days is out of line")


@app.command
def accept(unit: str, *, why: str = "") -> None:
    """Say that a deviation is as it should be, or has a known cause: the hour is suspect no more and teaches later ones nothing.

    For example:

        engagement anomalies accept hourly_engagement/2026-11-24-13:00 --why "push campaign"

    Parameters
    ----------
    unit
        ASSET/PARTITION, as `engagement anomalies list` shows it.
    why
        The reason, for those who come after.
    """
    from engagement.lake import open_lake, require_lake
    from engagement.verdicts import accepted

    if "/" not in unit:
        raise UsageError(f"anomalies accept {unit}: not ASSET/PARTITION, such as hourly_engagement/2026-11-24-13:00")
    settings = settings_module.load()
    require_lake(settings)
    accepted.accept(open_lake(settings)[0], unit, CHECK, why)
    print(f"{unit}: accepted")


@app.command
def withdraw(unit: str) -> None:
    """Take an acceptance back.

    For example:

        engagement anomalies withdraw hourly_engagement/2026-11-24-13:00
    """
    from engagement.lake import open_lake, require_lake
    from engagement.verdicts import accepted

    settings = settings_module.load()
    require_lake(settings)
    accepted.withdraw(open_lake(settings)[0], unit, CHECK)
    print(f"{unit}: no longer accepted")
