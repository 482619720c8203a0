"""`engagement catalog`: how other programs find the tables, and whether what they find is right."""

from __future__ import annotations

import json
from typing import Annotated

from cyclopts import App, Parameter

from engagement import settings as settings_module

app = App(
    name="catalog",
    help="""Show, refresh or mend what other programs find the tables by: lake.duckdb, or Glue (ENGAGEMENT_CATALOG).

For example:

    engagement catalog show

    engagement catalog mend
""",
)

Json = Annotated[bool, Parameter(name="--json", negative="")]


@app.command
def show(*, json_: Json = False) -> None:
    """List the tables: name, place, path keys; with --json as Glue takes them, for templates of your own.

    Asks no service; `mend` compares with what is there.

    For example:

        engagement catalog show
        engagement catalog show --json

    Parameters
    ----------
    json_
        One JSON object a line: a TableInput of Glue.
    """
    from engagement.catalog import upkeep
    from engagement.lake import open_lake, require_lake

    settings = settings_module.load()
    require_lake(settings)
    lake, _ = open_lake(settings)
    tables = upkeep.tables(settings, lake)
    if json_:
        print("\n".join(json.dumps(table, ensure_ascii=False) for table in tables.values()))
        return
    where = settings.state_dir / "lake.duckdb" if settings.catalog == "local" else f"database {settings.glue_database}"
    partitions = f", partitions {settings.glue_partitions}" if settings.catalog == "glue" else ""
    print(f"{settings.catalog}: {where}{partitions}")
    width = max(len(table["Name"]) for table in tables.values())
    for table in tables.values():
        keys = ", ".join(key["Name"] for key in table["PartitionKeys"])
        print(f"  {table['Name']:<{width}}  {table['StorageDescriptor']['Location']}  by {keys}")


@app.command
def refresh(*, json_: Json = False) -> None:
    """Add what the lake has and the catalog lacks, as each run does at its end for what it made; removes nothing.

    For example:

        engagement catalog refresh

    Parameters
    ----------
    json_
        One JSON object: what was written, and the calls it took.
    """
    _keep(json_, mend=False)


@app.command
def mend(*, dry_run: Annotated[bool, Parameter(negative="")] = False, json_: Json = False) -> None:
    """Compare the whole catalog with the lake and put right what differs: hand-made changes, partitions too many or too few.

    For example:

        engagement catalog mend --dry-run

    Parameters
    ----------
    dry_run
        Only tell what differs and what would be written.
    json_
        One JSON object: what differed, what was written, and the calls it took.
    """
    _keep(json_, mend=True, dry_run=dry_run)


def _keep(json_: bool, *, mend: bool, dry_run: bool = False) -> None:
    from engagement import catalog
    from engagement.lake import open_lake, require_lake

    settings = settings_module.load()
    require_lake(settings)
    lake, _ = open_lake(settings)
    report = catalog.mend(settings, lake, dry_run=dry_run) if mend else catalog.refresh(settings, lake)
    if json_:
        print(json.dumps(report.as_json(), ensure_ascii=False))
        return
    for line in report.drift:
        print(f"differed: {line}")
    print(f"{'dry run, would have done: ' if dry_run else ''}{report}")
