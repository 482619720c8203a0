"""The Dagster home in the state folder. Imports no dagster, so that the supervisor starts fast."""

from __future__ import annotations

import shutil
from pathlib import Path

from engagement.settings import Settings


def instance_home(settings: Settings) -> Path:
    """DAGSTER_HOME in the state folder; a new one gets the repository's `dagster.yaml`, which is then the user's."""
    home = settings.state_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(Path(__file__).parent.parent / "dagster.yaml", home / "dagster.yaml")
    return home
