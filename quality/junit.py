"""Results as JUnit XML, which every CI shows: a suite a suite and period, a case a constraint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from xml.etree import ElementTree as ET

from engagement.verdicts.result import Result, Severity, Status

_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def xml(results: Iterable[Result]) -> bytes:
    """The document. An error that failed is a failure, a check that could not run an error, one without rows is skipped.

    A warning that failed passes with what it says, for warnings never block.
    """
    root = ET.Element("testsuites", name="engagement check")
    by_suite = groupby(sorted(results, key=_order), key=lambda result: (result.suite, result.asset, result.period.key))
    for (suite, asset, key), group in by_suite:
        found = list(group)
        counts = {
            "tests": len(found),
            "failures": sum(result.status is Status.FAILED and result.is_error for result in found),
            "errors": sum(result.status is Status.BROKEN for result in found),
            "skipped": sum(result.status is Status.EMPTY for result in found),
        }
        node = ET.SubElement(root, "testsuite", {"name": f"{asset}/{key} {suite}"} | {name: str(count) for name, count in counts.items()})
        for result in found:
            case = ET.SubElement(node, "testcase", classname=f"{asset}.{suite}", name=f"{result.check} [{key}]")
            _outcome(case, result)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(node.get(name, "0")) for node in root)))
    made: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return made


def _order(result: Result) -> tuple[str, str, str, str]:
    return result.suite, result.asset, result.period.key, result.check


def _outcome(case: ET.Element, result: Result) -> None:
    text = _clean(
        "\n".join(line for line in (f"{result.message}; wanted {result.threshold}", f"hint: {result.hint}", result.query) if line)
    )
    if result.status is Status.BROKEN:
        ET.SubElement(case, "error", message=_clean(result.message)).text = text
    elif result.status is Status.EMPTY:
        ET.SubElement(case, "skipped", message="no row to look at")
    elif result.status is Status.FAILED and result.severity is Severity.ERROR:
        ET.SubElement(case, "failure", message=_clean(result.message)).text = text
    elif result.status is Status.FAILED:
        ET.SubElement(case, "system-out").text = f"warning: {text}"


def _clean(text: str) -> str:
    """Without the characters that XML has no way to say."""
    return _NO_XML.sub("?", text)
