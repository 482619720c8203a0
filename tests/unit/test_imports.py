"""Imports run one way (design §8), and ingest runs where Dagster is not installed."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import engagement.ingest

ROOT = Path(engagement.__file__).parents[1]
OUTER = {"engagement_assets", "sensors", "resources", "quality", "monitoring"}


def loaded_after(statement):
    """Names of all modules that a fresh interpreter holds after a statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(found.stdout))


INGEST = [f"engagement.ingest.{item.name}" for item in pkgutil.iter_modules(engagement.ingest.__path__)]


def test_ingest_loads_without_dagster_duckdb_and_pandas():
    assert len(INGEST) >= 4
    loaded = loaded_after("\n".join(f"import {name}" for name in [*INGEST, "engagement.cli", "engagement.cli.ingest"]))
    assert set(INGEST) <= loaded
    roots = {name.partition(".")[0] for name in loaded}
    assert not roots & ({"dagster", "dagster_aws", "duckdb", "pandas", "streamlit"} | OUTER)


def test_the_command_line_loads_nothing_heavy():
    roots = {name.partition(".")[0] for name in loaded_after("import engagement.cli; engagement.cli.build_app()")}
    assert not roots & {"dagster", "duckdb", "pyarrow", "pandas", "confluent_kafka", "streamlit"}


def imported_at_module_level(tree):
    """Root packages that a module imports when it is loaded: not those inside functions or under TYPE_CHECKING."""
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Import):
            yield from (item.name.partition(".")[0] for item in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.partition(".")[0]
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)


def modules_of(package):
    return sorted((ROOT / package).rglob("*.py"))


def forbidden(package, names):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules_of(package)
        for name in imported_at_module_level(ast.parse(path.read_text()))
        if name in names
    ]


def test_engagement_imports_none_of_the_packages_around_it():
    assert len(modules_of("engagement")) > 20
    assert forbidden("engagement", OUTER | {"dagster"}) == []


@pytest.mark.parametrize("package", ["resources", "sensors", "quality"])
def test_nothing_but_definitions_tests_and_the_command_line_imports_the_assets(package):
    assert forbidden(package, {"engagement_assets"}) == []


def test_the_look_at_imports_sees_what_it_should_and_no_more():
    text = (
        "import a.b\nfrom c.d import e\ntry:\n    import f\nexcept ImportError:\n    import g\n"
        "if TYPE_CHECKING:\n    import x\nelse:\n    import h\ndef z():\n    import y\nclass K:\n    import i\nfrom . import j\n"
    )
    assert set(imported_at_module_level(ast.parse(text))) == set("acfghi")


FLOORS = [
    {"errors", "contract", "progress", "logs", "priority"}, {"settings"}, {"lake", "connection"}, {"raw"}, {"model", "ingest"}, {"tables"},
    {"waiting", "catalog", "export", "backup", "stack", "verdicts"}, {"freshness"}, {"erasure", "maintenance", "dashboard"},
    {"exporter"}, {"cli"}, {"__main__"},
]  # fmt: skip
"""Rooms of `engagement`, the lowest first (docs/decisions/0018-rooms.md)."""


def rooms_imported(path):
    """Rooms that a module takes anything from, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "engagement":
            below = node.module.partition(".")[2]
            yield from [below.partition(".")[0]] if below else [item.name for item in node.names]


def test_rooms_import_from_lower_floors_alone():
    floor_of = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = {}
    for path in modules_of("engagement"):
        room = path.relative_to(ROOT / "engagement").parts[0].removesuffix(".py")
        if room != "__init__":
            found.setdefault(room, set()).update(other for other in rooms_imported(path) if other != room)
    assert found.keys() == floor_of.keys()
    upward = {(room, other) for room, others in found.items() for other in others if floor_of[other] >= floor_of[room]}
    assert not upward
