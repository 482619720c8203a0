"""docs/data-schema.md lists the columns that the code makes."""

from __future__ import annotations

import os
from pathlib import Path

from engagement.catalog import described
from engagement.model import schemas

PAGE = Path(described.__file__).parents[2] / "docs" / "data-schema.md"
REWRITE = "UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/unit/test_data_schema_page.py"


def test_the_page_lists_every_column_as_the_code_has_it():
    page = PAGE.read_text()
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(described.with_markdown(page))
    assert PAGE.read_text() == described.with_markdown(page), f"columns changed; rewrite the page: {REWRITE}"


def test_every_described_column_is_a_row():
    text = described.markdown()
    for row in schemas.described():
        assert f"| {row['column']} | {row['type']} |" in text
