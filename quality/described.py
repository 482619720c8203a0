"""The suites as a page shows them: docs/quality.md holds this text between its marks, and a test keeps it in step."""

from __future__ import annotations

from quality.constraints import Suite
from quality.suites import suites

BEGIN, END = "<!-- suites -->\n", "<!-- /suites -->"


def markdown() -> str:
    """Every suite with its constraints, of the built-in model."""
    return "\n\n".join(_section(suite) for suite in suites()) + "\n"


def with_markdown(page: str) -> str:
    """The page with the present text between the marks."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{markdown()}\n{END}{rest.partition(END)[2]}"


def _section(suite: Suite) -> str:
    lines = [
        f"**{suite.asset}**, suite `{suite.name}`: {suite.grain}",
        "",
        "| check | passes when | wanted | severity | if not |",
        "|---|---|---|---|---|",
    ]
    for constraint in suite.constraints:
        kind = f"{constraint.severity.value}{', gate' if constraint.gate else ''}"
        lines.append(f"| `{constraint.name}` | {constraint.description} | {constraint.threshold} | {kind} | {constraint.hint} |")
    return "\n".join(lines)
