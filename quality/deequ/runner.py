"""Runs the child and reads its answers. Whatever happens to it, each request gets an answer and no process stays behind."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from engagement.errors import EngagementError
from engagement.settings import Settings
from engagement.stack import jars, java, processes
from quality.constraints import Constraint
from quality.deequ import Answer, DeequMetric, Request
from quality.measured import Measured

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
SAYS_MOST = 300


def judge(requests: Sequence[Request], settings: Settings, limit_seconds: float, tell: Callable[[str], None] | None) -> list[Answer]:
    """An answer to each request, in their order; see `quality.deequ.run`."""
    if not requests:
        return []
    parent = settings.state_dir / "cache"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="deequ-", dir=parent) as folder:
        asked, answers, log = (Path(folder) / name for name in ("asked.json", "answers.jsonl", "log.txt"))
        try:
            asked.write_text(json.dumps(_asked(requests, settings)))
            problem = _run(asked, answers, log, limit_seconds, len(requests), tell)
        except (EngagementError, OSError, ImportError) as error:
            problem = " ".join(str(error).split())
        found = {answer.label: answer for answer in _answers(answers, requests)}
    return [found.get(request.label) or Answer(request.label, problem=problem or "Deequ gave no answer") for request in requests]


def _asked(requests: Sequence[Request], settings: Settings) -> dict[str, Any]:
    """What the child reads; raises where a part is missing on this machine."""
    return {
        "jar": str(jars.deequ_jar()),
        "java": str(java.executable()),
        "nice": settings.background_nice,
        "requests": [
            {
                "label": request.label,
                "files": [str(file) for file in request.files],
                "constraints": [_plain(constraint) for constraint in request.suite.constraints],
            }
            for request in requests
        ],
    }


def _plain(constraint: Constraint) -> dict[str, Any]:
    return {name: value for name, value in asdict(constraint).items() if name != "threshold"}


def _run(asked: Path, answers: Path, log: Path, limit_seconds: float, count: int, tell: Callable[[str], None] | None) -> str:
    """Run the child to its end or the limit; returns why it did not answer all, empty where it did."""
    deadline = time.monotonic() + limit_seconds
    with log.open("wb") as output:
        child = processes.start([sys.executable, "-m", "quality.deequ.child", str(asked), str(answers)], output)
        try:
            while child.poll() is None and time.monotonic() < deadline:
                _say(answers, count, tell)
                _wait(child)
            code = child.poll()
        finally:
            processes.stop(child, GRACE_SECONDS)
    if code is None:
        return f"Deequ was stopped after {limit_seconds:.0f} s without an answer"
    return f"Spark ended with exit code {code}: {_last_words(log)}" if code else ""


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return


def _say(answers: Path, count: int, tell: Callable[[str], None] | None) -> None:
    if tell:
        done = answers.read_text().count("\n") if answers.exists() else 0
        tell(f"Deequ: {done} of {count} suites")


def _answers(file: Path, requests: Sequence[Request]) -> list[Answer]:
    """The answers that stand whole in the file."""
    suites = {request.label: request.suite for request in requests}
    found = []
    for line in file.read_text().splitlines(keepends=True) if file.exists() else []:
        if not line.endswith("\n"):
            continue
        told = json.loads(line)
        names = [constraint.name for constraint in suites[told["label"]].constraints]
        results = tuple(
            Measured(name, item["value"], item["rows"], None, item["problem"])
            for name, item in zip(names, told.get("results", ()), strict=bool(told.get("results")))
        )
        metrics = tuple(
            DeequMetric(item["entity"], item["instance"], item["name"], float(item["value"])) for item in told.get("metrics", ())
        )
        found.append(Answer(told["label"], results, metrics, told.get("problem", "")))
    return found


def _last_words(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:SAYS_MOST] if lines else "it said nothing"
