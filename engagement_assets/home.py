"""The Dagster home in the state folder. Imports no dagster, so that the supervisor starts fast."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from engagement.errors import PermanentError
from engagement.settings import Settings

POSTGRES = """
# By ENGAGEMENT_DAGSTER_STORAGE: runs, events and ticks in PostgreSQL.
storage:
  postgres:
    postgres_url: {env: ENGAGEMENT_DAGSTER_STORAGE}
"""
VARIABLE = "ENGAGEMENT_DAGSTER_STORAGE"


def instance_home(settings: Settings) -> Path:
    """DAGSTER_HOME in the state folder; a new one gets the repository's `dagster.yaml`, which is then the user's.

    A storage in PostgreSQL is added to it where the settings name one and it says nothing of storage itself. Raises
    PermanentError where it names the setting and the setting is gone: a fresh SQLite would hide all history.
    """
    home = settings.state_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    file = home / "dagster.yaml"
    if not file.exists():
        shutil.copyfile(Path(__file__).parent.parent / "dagster.yaml", file)
    text = file.read_text()
    if settings.dagster_storage and not re.search(r"^storage:", text, re.MULTILINE):
        file.write_text(text.rstrip() + "\n" + POSTGRES)
    elif not settings.dagster_storage and VARIABLE in text:
        raise PermanentError(f"{file} keeps Dagster's records in PostgreSQL: set {VARIABLE}, or take its section `storage` out")
    return home
