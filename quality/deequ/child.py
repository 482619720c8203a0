"""The process that Spark lives in: `python -m quality.deequ.child ASKED ANSWERS`.

Reads requests from one file of JSON and writes an answer a line to another as soon as it has it: should Spark die, what was
judged before is not lost. Standard output and error are a log for people.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engagement.priority import give_way
from quality.constraints import Constraint, Kind, Threshold
from quality.deequ.session import spark


def main(asked: Path, answers: Path) -> int:
    """Judge everything that was asked."""
    work = json.loads(asked.read_text())
    give_way(work["nice"])
    with spark(Path(work["jar"]), Path(work["java"])) as session, answers.open("w") as out:
        for request in work["requests"]:
            print(json.dumps(_answer(session, request)), file=out, flush=True)
    return 0


def _answer(session: Any, request: dict[str, Any]) -> dict[str, Any]:
    from quality.deequ import translate

    constraints = [_constraint(item) for item in request["constraints"]]
    try:
        rows = session.read.parquet(*request["files"])
        found, metrics = translate.measure(session, rows, constraints)
    except Exception as error:  # noqa: BLE001 - one suite's; the others are judged all the same
        return {"label": request["label"], "problem": f"Deequ: {' '.join(str(error).split())[:400]}"}
    return {
        "label": request["label"],
        "results": [{"value": item.value, "rows": item.rows, "problem": item.problem} for item in found],
        "metrics": metrics,
    }


def _constraint(found: dict[str, Any]) -> Constraint:
    return Constraint(**{**found, "kind": Kind(found["kind"]), "columns": tuple(found["columns"]), "threshold": Threshold(at_least=0)})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
