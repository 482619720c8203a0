"""The documentation hangs together: every page is linked, every link leads somewhere, the drawing is that of its text."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page):
    """The anchors of a page's headings, as the usual renderers make them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    return [target for target in LINK.findall(text) if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    dead = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(target)
    assert not dead


def test_every_page_is_linked_from_the_readme():
    linked = {(ROOT / target.partition("#")[0]).resolve() for target in links(ROOT / "README.md")}
    assert set(PAGES) - linked - {ROOT / "README.md"} == set()


def test_the_drawing_is_that_of_its_text():
    text = (ROOT / "docs/architecture.dot").read_bytes()
    drawing = (ROOT / "docs/images/architecture.svg").read_text()
    assert f"<!-- drawn from {hashlib.sha256(text).hexdigest()} -->" in drawing, "make docs"
    for label in re.findall(r'label="([^"]+)"', text.decode()):
        for line in label.split("\\n"):
            assert line in drawing
