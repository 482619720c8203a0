"""The tables as a page for people: every column with its type in both catalogs and its meaning, from the code that makes them.

`docs/data-schema.md` holds this text between two marks; a test compares, so that the page is never behind the code.
"""

from __future__ import annotations

from engagement.catalog import local, shape
from engagement.model import schemas, units
from engagement.model.model import Model, built_in

BEGIN, END = "<!-- generated: begin -->", "<!-- generated: end -->"


def markdown(model: Model | None = None) -> str:
    """A section a table, of the built-in model unless another is given."""
    model = model or built_in()
    return "\n\n".join(_section(table, name, model) for table, name in schemas.NAMES.items())


def _section(table: str, name: str, model: Model) -> str:
    columns = schemas.columns(table, model)
    rows = [(column, schemas.DUCKDB_TYPES[found.kind], shape.TYPES[found.kind], found.comment) for column, found in columns.items()]
    if table == units.SESSIONS:
        rows.append(("is_open", "BOOLEAN", "none", local.IS_OPEN))
    rows += [(key, "INTEGER", "int", schemas.KEY_COMMENTS[key]) for key in schemas.PATH_KEYS[table]]
    head = ["| column | DuckDB | Glue | meaning |", "|---|---|---|---|"]
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
    return "\n".join([f"### {name}", "", f"{schemas.DESCRIPTIONS[table]}. Objects in `{table}/`.", "", *head, *lines])


def with_markdown(page: str, model: Model | None = None) -> str:
    """The page with the text between its marks made anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{markdown(model)}\n\n{END}{after}"
