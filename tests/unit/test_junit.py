"""JUnit XML: what CI shows as failed, broken, skipped and passed, whatever characters are in it."""

from __future__ import annotations

from datetime import UTC, datetime
from xml.etree import ElementTree as ET

from engagement.verdicts.result import Period, Result, Severity, Status
from quality import junit

HOUR = datetime(2026, 3, 11, 10, tzinfo=UTC)


def result(check, status, severity=Severity.ERROR, message="3 of 5 rows", period=None):
    return Result(
        "suite",
        check,
        "events",
        period or Period(HOUR),
        "duckdb",
        severity,
        status,
        0.4,
        "= 1",
        "look at it",
        message=message,
        query="SELECT 1",
    )


FOUND = [
    result("good", Status.PASSED), result("bad", Status.FAILED), result("warned", Status.FAILED, Severity.WARNING),
    result("empty", Status.EMPTY), result("broken", Status.BROKEN, message="no Java"),
    result("good", Status.PASSED, period=Period.of_day(HOUR.date())),
]  # fmt: skip


def root_of(document):
    return ET.fromstring(document)  # noqa: S314 - our own document


def cases(document):
    return {case.get("name"): case for case in root_of(document).iter("testcase")}


def test_each_status_is_told_as_ci_understands_it():
    root = root_of(junit.xml(FOUND))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6", "failures": "1", "errors": "1", "skipped": "1",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["events/2026-03-11 suite", "events/2026-03-11-10:00 suite"]
    found = cases(junit.xml(FOUND))
    kinds = {name: [child.tag for child in case] for name, case in found.items()}
    assert kinds == {
        "good [2026-03-11]": [], "good [2026-03-11-10:00]": [], "bad [2026-03-11-10:00]": ["failure"],
        "warned [2026-03-11-10:00]": ["system-out"], "empty [2026-03-11-10:00]": ["skipped"], "broken [2026-03-11-10:00]": ["error"],
    }  # fmt: skip
    failure = found["bad [2026-03-11-10:00]"][0]
    assert failure.get("message") == "3 of 5 rows"
    assert failure.text == "3 of 5 rows; wanted = 1\nhint: look at it\nSELECT 1"


def test_no_character_makes_the_document_unreadable():
    awkward = result("bad", Status.FAILED, message="\x00 <&\"'> ￿ \ud800 é")
    assert cases(junit.xml([awkward]))["bad [2026-03-11-10:00]"][0].get("message") == "? <&\"'> ? ? é"


def test_no_result_is_a_document_without_suites():
    assert root_of(junit.xml([])).get("tests") == "0"
