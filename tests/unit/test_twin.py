"""The DuckDB twin: each number means what Deequ means by it; offending rows are those that break it, told without the person."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engagement.verdicts.result import Severity
from quality import samples, twin
from quality.constraints import Constraint, Kind, Threshold

ROWS = "(VALUES (1, 'a', NULL), (1, 'a', 'x'), (2, NULL, 'y'), (NULL, NULL, NULL)) AS t(n, s, z)"


EVERY = Threshold(1, 1)


def constraint(kind, columns="", predicate="", where="", threshold=EVERY, name="c"):
    return Constraint(name, kind, Severity.ERROR, "", "", tuple(columns.split()), predicate, threshold, where)


CASES = {
    "size": (constraint(Kind.SIZE), 4.0, 4, None),
    "size with a filter": (constraint(Kind.SIZE, where="n = 1"), 2.0, 2, None),
    "completeness": (constraint(Kind.COMPLETENESS, "z"), 0.5, 4, 2),
    "completeness with a filter": (constraint(Kind.COMPLETENESS, "z", where="n = 1"), 0.5, 2, 1),
    "completeness of nothing": (constraint(Kind.COMPLETENESS, "z", where="n = 9"), None, 0, 0),
    "uniqueness leaves out rows that are null altogether": (constraint(Kind.UNIQUENESS, "n s"), 1 / 3, 3, 2),
    "uniqueness with a filter": (constraint(Kind.UNIQUENESS, "n", where="z IS NOT NULL"), 1.0, 2, 0),
    "a predicate that is null does not hold": (constraint(Kind.COMPLIANCE, predicate="n > 1"), 0.25, 4, 3),
    "a pattern does not match null": (constraint(Kind.PATTERN, "s", "^a$"), 0.5, 4, 2),
    "minimum": (constraint(Kind.MINIMUM, "n", threshold=Threshold(2)), 1.0, 4, 2),
    "maximum": (constraint(Kind.MAXIMUM, "n", threshold=Threshold(at_most=1)), 2.0, 4, 1),
    "mean": (constraint(Kind.MEAN, "n"), 4 / 3, 4, None),
    "sum": (constraint(Kind.SUM, "n"), 4.0, 4, None),
    "sum of no value": (constraint(Kind.SUM, "n", where="n IS NULL"), None, 1, None),
}


@pytest.fixture(scope="module")
def con():
    with duckdb.connect() as found:
        yield found


@pytest.mark.parametrize("name", CASES)
def test_a_number_is(name, con):
    asked, value, rows, violations = CASES[name]
    (found,) = twin.measure(con, ROWS, [asked])
    assert (found.value, found.rows, found.violations, found.problem) == (value, rows, violations, "")


def test_all_constraints_of_rows_are_measured_together_in_their_order(con):
    asked = [replace(item, name=name) for name, (item, *_) in CASES.items()]
    assert [found.name for found in twin.measure(con, ROWS, asked)] == list(CASES)
    assert [found.value for found in twin.measure(con, ROWS, asked)] == [value for _, value, *_ in CASES.values()]


def test_a_constraint_that_the_rows_do_not_fit_has_a_problem_and_stops_no_other(con):
    good, missing, nonsense = (
        constraint(Kind.COMPLETENESS, "z"), constraint(Kind.COMPLETENESS, "nope"), constraint(Kind.COMPLIANCE, predicate="n >"),
    )  # fmt: skip
    found = twin.measure(con, ROWS, [good, missing, nonsense])
    assert found[0].value == 0.5
    assert "nope" in found[1].problem
    assert found[2].problem


def test_rows_that_cannot_be_read_are_raised_and_no_result(con):
    with pytest.raises(duckdb.Error):
        twin.measure(con, "read_parquet('nothing.parquet')", [constraint(Kind.SIZE)])


@pytest.mark.parametrize("name", [name for name, (_, value, _, violations) in CASES.items() if violations and value is not None])
def test_offending_rows_are_as_many_as_were_counted(name, con):
    asked, _, _, violations = CASES[name]
    found = con.execute(f"SELECT * FROM {ROWS} WHERE {twin.offending(asked)}").fetchall()
    assert len(found) == violations


@given(st.lists(st.tuples(st.integers(0, 3) | st.none(), st.integers(0, 2) | st.none()), max_size=12))
def test_uniqueness_is_that_of_counting_by_hand(con, rows):
    con.execute("CREATE OR REPLACE TEMP TABLE t(a INTEGER, b INTEGER)")
    if rows:
        con.execute(f"INSERT INTO t VALUES {', '.join(['(?, ?)'] * len(rows))}", [value for row in rows for value in row])
    (found,) = twin.measure(con, "t", [constraint(Kind.UNIQUENESS, "a b")])
    kept = [row for row in rows if row != (None, None)]
    alone = sum(kept.count(row) == 1 for row in kept)
    assert (found.rows, found.value) == (len(kept), alone / len(kept) if kept else None)


def test_a_sample_is_bounded_ordered_and_names_no_person(con):
    rows = (
        "(SELECT 'person ' || (n % 2) AS user_id, n AS kafka_offset, 'secret' AS properties, 'Berlin' AS city, repeat('x', 200) AS country"
        " FROM range(50) AS r(n))"
    )
    asked = constraint(Kind.COMPLIANCE, predicate="user_id = 'nobody'")
    found = samples.sample(con, rows, asked)
    assert [row["kafka_offset"] for row in found] == ["0", "2", "4", "6", "8"]
    assert {row["user_id"] for row in found} == {"user 1"}
    assert not {"properties", "city"} & found[0].keys()
    assert len(found[0]["country"]) == samples.LONGEST
    keyed = samples.sample(con, rows, asked, (b"k",))
    assert "person" not in str(keyed)
    assert keyed[0]["user_id"] == samples.sample(con, rows, constraint(Kind.COMPLIANCE, predicate="user_id = 'x'"), (b"k",))[0]["user_id"]


def test_where_rows_cannot_be_told_apart_there_is_no_sample(con):
    assert samples.sample(con, ROWS, constraint(Kind.MEAN, "n")) == ()
