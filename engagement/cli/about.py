"""Commands that only tell: `settings` and `contract`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from engagement import settings as settings_module


def settings(*, json_: Annotated[bool, Parameter(name="--json", negative="")] = False) -> None:
    """Print each setting, its value and where it came from; secrets are masked.

    For example:

        engagement settings
        ENGAGEMENT_FLUSH_SECONDS=10 engagement settings --json

    Parameters
    ----------
    json_
        One JSON object instead of the table.
    """
    rows = settings_module.load().masked()
    if json_:
        print(json.dumps({name: {"value": value, "source": source} for name, (value, source) in rows.items()}))
        return
    width = max(len(name) for name in rows)
    for name, (value, source) in rows.items():
        print(f"{name:<{width}}  {value:<32}  {source}")


def contract(*, check: Path | None = None) -> int:
    """Print the JSON Schema of an event, or check samples against the contract.

    For example:

        engagement contract > event.schema.json
        engagement contract --check samples.jsonl

    Parameters
    ----------
    check
        File of events, one JSON object a line; each bad line is printed with its reason, exit 1 if any.
    """
    from engagement import contract as event_contract

    if check is None:
        print(json.dumps(event_contract.json_schema(), indent=2))
        return 0
    try:
        lines = check.read_bytes().splitlines()
    except OSError as error:
        print(f"engagement: {check}: {error.strerror}", file=sys.stderr)
        return 1
    bad = 0
    for number, line in enumerate(lines, 1):
        reason = event_contract.reason(line)
        if reason:
            bad += 1
            print(f"{check}:{number}: {reason}")
    print(f"{len(lines) - bad} good, {bad} bad", file=sys.stderr)
    return 1 if bad else 0
