"""docs/quality.md lists the checks that the code has."""

from __future__ import annotations

import os
from pathlib import Path

from quality import described
from quality.suites import suites

PAGE = Path(described.__file__).parents[1] / "docs" / "quality.md"
REWRITE = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_quality_page.py"


def test_the_page_lists_every_check_as_the_code_has_it():
    page = PAGE.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(described.with_markdown(page))
    assert PAGE.read_text() == described.with_markdown(page), f"checks changed; rewrite the page: {REWRITE}"


def test_every_constraint_is_a_row():
    text = described.markdown()
    assert all(f"| `{constraint.name}` |" in text for suite in suites() for constraint in suite.constraints)
