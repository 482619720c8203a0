"""The real Deequ on a real Spark: it agrees with its DuckDB twin, and whatever befalls the child there is an answer and no process left."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import lake_helpers
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import eventually

from engagement.errors import PermanentError
from engagement.stack import jars, java
from engagement.tables import engine
from engagement.verdicts.result import Severity
from quality import deequ, twin
from quality.constraints import Constraint, Kind, Suite, Threshold
from quality.deequ import Request, runner
from quality.measured import status

AT = datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=UTC)
SCHEMA = pa.schema(
    [("id", pa.string()), ("n", pa.int64()), ("x", pa.float64()), ("moment", pa.timestamp("us", tz="UTC")), ("flag", pa.bool_())]
)
DATA = {
    "right": [("a", 1, 0.5, AT, True), ("b", 2, 1.5, AT, True), ("c", 3, 2.5, AT, False)],
    "twice": [("a", 1, 0.5, AT, True), ("a", 1, 0.5, AT, True), ("b", 2, 1.0, AT, False)],
    "nulls": [("a", None, 0.5, AT, None), (None, 2, None, None, True), (None, None, None, None, None)],
    "one row": [("a", 1, 0.5, AT, True)],
    "all null": [(None,) * 5, (None,) * 5],
    "unicode": [("ünï \N{SNOWMAN}", 1, -0.0, AT, True), ("ünï \N{SNOWMAN}", 2, 1e300, AT, True), ("'; --", 3, -1e300, AT, False)],
    "big": [("a", 2**62, 0.1, AT, True), ("b", -(2**62), 0.2, AT, True)],
    "empty": [],
}
WHERE = ("", "flag", "n > 1", "id IS NULL")


def constraint(name, kind, columns=(), predicate="", where=""):
    return Constraint(name, kind, Severity.ERROR, "", "", columns, predicate, Threshold(at_least=1.0), where)


def suite():
    found = []
    for number, where in enumerate(WHERE):
        kinds = [
            (Kind.SIZE, (), ""), (Kind.COMPLETENESS, ("id",), ""), (Kind.COMPLETENESS, ("moment",), ""), (Kind.UNIQUENESS, ("id",), ""),
            (Kind.UNIQUENESS, ("id", "n"), ""), (Kind.COMPLIANCE, (), "n >= 1 AND x < 2"), (Kind.COMPLIANCE, (), "flag"),
            (Kind.COMPLIANCE, (), "length(id) BETWEEN 1 AND 3 AND hour(moment) = 23"), (Kind.PATTERN, ("id",), "^[a-z]$"),
            (Kind.MINIMUM, ("n",), ""), (Kind.MAXIMUM, ("x",), ""), (Kind.MEAN, ("x",), ""), (Kind.SUM, ("n",), ""),
            (Kind.COMPLETENESS, ("missing",), ""), (Kind.COMPLIANCE, (), "nonsense("),
        ]  # fmt: skip
        found += [constraint(f"{kind}_{place}_{number}", kind, columns, text, where) for place, (kind, columns, text) in enumerate(kinds)]
    return Suite("agreement", "events", "rows", "one row", tuple(found))


@pytest.fixture
def settings(tmp_path):
    return lake_helpers.settings_of(tmp_path)


def written(folder, name, rows):
    file = folder / f"{name.replace(' ', '_')}.parquet"
    pq.write_table(pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA), file)
    return file


def test_deequ_and_its_twin_say_the_same_of_the_same_rows(tmp_path, settings):
    asked = suite()
    files = {name: written(tmp_path, name, rows) for name, rows in DATA.items()}
    answers = deequ.run([Request(name, (file,), asked) for name, file in files.items()], settings)
    assert [answer.label for answer in answers] == list(DATA)
    assert [answer.problem for answer in answers] == [""] * len(DATA)
    different = []
    with contextlib.closing(engine.connect(settings)) as con:
        for answer in answers:
            twins = twin.measure(con, f"read_parquet('{files[answer.label]}')", asked.constraints)
            for item, theirs, ours in zip(asked.constraints, answer.results, twins, strict=True):
                same = (theirs.value is None) == (ours.value is None) and (
                    ours.value is None or theirs.value == pytest.approx(ours.value, rel=1e-9)
                )
                if status(item, theirs) is not status(item, ours) or not same or (ours.value is not None and theirs.rows != ours.rows):
                    different.append((answer.label, item.kind.value, item.columns, item.predicate, item.where, theirs, ours))
    assert different == [], "\n".join(map(str, different[:12]))
    assert any(metric.name == "Uniqueness" for metric in answers[0].metrics)
    assert not list((settings.state_dir / "cache").iterdir()), "nothing is left behind"


def rows_of(tmp_path):
    return [Request("one", (written(tmp_path, "one", DATA["right"]),), replace(suite(), constraints=suite().constraints[:2]))]


def children():
    """Living processes of the child and of Spark; a broker of other tests may live below us too."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            words = " ".join(child.cmdline())
            if child.status() != psutil.STATUS_ZOMBIE and ("quality.deequ.child" in words or "org.apache.spark" in words):
                found.append(child)
    return found


def test_a_spark_that_dies_midway_is_a_problem_of_what_was_not_answered(tmp_path, settings):
    def kill():
        for child in eventually(lambda: [item for item in children() if item.name() == "java"], 60):
            child.send_signal(signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    (answer,) = deequ.run(rows_of(tmp_path), settings)
    killer.join()
    assert answer.problem
    assert eventually(lambda: not children(), 20)


def test_one_that_takes_too_long_is_stopped_with_all_that_it_started(tmp_path, settings):
    (answer,) = deequ.run(rows_of(tmp_path), settings, limit_seconds=3)
    assert answer.problem == "Deequ was stopped after 3 s without an answer"
    assert eventually(lambda: not children(), 20)


def test_without_the_jar_it_says_how_to_get_it(tmp_path, settings, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nowhere"))
    (answer,) = deequ.run(rows_of(tmp_path), settings)
    assert "run `make setup`" in answer.problem


def test_a_java_that_is_none_is_a_problem_and_no_hang(tmp_path, settings, monkeypatch):
    false_java = tmp_path / "jdk" / "bin" / "java"
    false_java.parent.mkdir(parents=True)
    false_java.write_text("#!/bin/sh\nexit 1\n")
    false_java.chmod(0o755)
    monkeypatch.setattr(java, "executable", lambda: false_java)
    (answer,) = deequ.run(rows_of(tmp_path), settings)
    assert "Spark ended with exit code" in answer.problem


def test_a_file_that_is_no_parquet_is_a_problem_of_its_request_alone(tmp_path, settings):
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    bad = Request("bad", (tmp_path / "bad.parquet",), replace(suite(), constraints=suite().constraints[:1]))
    answers = deequ.run([bad, *rows_of(tmp_path)], settings)
    assert [bool(answer.problem) for answer in answers] == [True, False]
    assert answers[1].results[0].value == 3


def test_nothing_asked_starts_nothing(settings, monkeypatch):
    def never(*_asked):
        raise PermanentError("started")

    monkeypatch.setattr(runner, "_run", never)
    assert deequ.run([], settings) == []
    assert jars.deequ_jar().is_file()
    assert Path(os.devnull).exists()
