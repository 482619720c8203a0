"""The catalog's two operations, whatever its kind: what each needs of settings and lake is gathered here."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engagement.catalog.report import Report
from engagement.lake import LAKE_JSON, Lake, LakeFormat
from engagement.model import declared, schemas
from engagement.model.model import Model
from engagement.settings import Settings
from engagement.tables import views
from engagement.tables.context import TableContext

if TYPE_CHECKING:
    from engagement.catalog.glue import GlueCatalog

NO_FOLDER = "no file of views: the lake is no folder of this machine; ENGAGEMENT_CATALOG=glue shows it to others"
_REGION = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE")


def refresh(settings: Settings, lake: Lake, *, keys: Collection[str] | None = None, opened: TableContext | None = None) -> Report:
    """Bring the catalog up to date with what is new in the lake.

    `keys` are the objects that the run made or found, so that the lake need not be listed; None lists it. `opened` are the
    run's own handles, so that nothing is read twice. Raises PermanentError, or TransientError where the catalog's service
    does not answer.
    """
    if settings.catalog == "local":
        return _views(settings, lake, opened)
    report, catalog = _glue(settings, lake, opened)
    catalog.refresh(_listed(lake) if keys is None else keys)
    return report


def mend(settings: Settings, lake: Lake, *, dry_run: bool = False) -> Report:
    """Compare the whole catalog with the lake and put right what differs; raises as `refresh`. A dry run only tells what it would do."""
    if settings.catalog == "local":
        return _views(settings, lake, None, always=not dry_run, dry_run=dry_run)
    report, catalog = _glue(settings, lake, dry_run=dry_run)
    catalog.mend(lambda folder: (entry.key for entry in lake.list(folder)))
    return report


def tables(settings: Settings, lake: Lake, opened: TableContext | None = None, today: date | None = None) -> dict[str, dict[str, Any]]:
    """Folder of each table -> Glue's TableInput under these settings (`engagement catalog show --json`)."""
    from engagement.catalog import shape

    days = None
    if settings.glue_partitions == "projected":
        last = today or datetime.now(UTC).date()
        lake_format = opened.format if opened else LakeFormat.from_json(lake.read(LAKE_JSON) or b"")
        days = (lake_format.history_start, last.replace(year=last.year + 1, day=1))
    return shape.table_inputs(place(lake), *_models(settings, lake, opened), days)


def place(lake: Lake) -> str:
    """The lake's URL, as other programs take it."""
    return lake.url if "://" in lake.url else Path(lake.url).as_uri()


def _models(settings: Settings, lake: Lake, opened: TableContext | None) -> tuple[Model, Mapping[str, str]]:
    if opened:
        return opened.model, opened.retired
    model = declared.load(settings)
    return model, declared.retired(lake, model)


def _views(settings: Settings, lake: Lake, opened: TableContext | None, *, always: bool = False, dry_run: bool = False) -> Report:
    if "://" in lake.url:
        return Report("local", lake.url, note=NO_FOLDER)
    from engagement.catalog import local

    def read_to() -> datetime:
        if opened is None:
            return views.read_to(lake, settings)
        return opened.index.newest_received_at() or datetime.max.replace(tzinfo=UTC)

    return local.refresh(settings, lake, *_models(settings, lake, opened), read_to, always=always, dry_run=dry_run)


def _glue(settings: Settings, lake: Lake, opened: TableContext | None = None, *, dry_run: bool = False) -> tuple[Report, GlueCatalog]:
    from engagement.catalog import calls
    from engagement.catalog.glue import Database, GlueCatalog
    from engagement.catalog.noted import Noted

    report = Report("glue", settings.glue_database)
    database = Database(settings.glue_database, tables(settings, lake, opened), settings.glue_partitions == "listed")
    of_service = calls.Calls(lambda: calls.client(settings), report.calls, dry_run=dry_run)
    return report, GlueCatalog(database, of_service, Noted(_note(settings, lake), dry_run=dry_run), report)


def _note(settings: Settings, lake: Lake) -> Path:
    """Tells databases, accounts and lakes apart."""
    parts = [settings.glue_database, lake.url, *(os.environ.get(name, "") for name in (*_REGION, "AWS_ENDPOINT_URL_GLUE"))]
    return settings.state_dir / "cache" / f"catalog-glue-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:12]}.json"


def _listed(lake: Lake) -> Iterable[str]:
    return (entry.key for table in schemas.NAMES for entry in lake.list(table))
