"""The Dagster home in the state folder. Imports no dagster, so that the supervisor starts fast."""

from __future__ import annotations

import shutil
from pathlib import Path

from engagement.settings import Settings


def instance_home(settings: Settings) -> Path:
    """DAGSTER_HOME in the state folder, with the repository's `dagster.yaml`."""
    home = settings.state_dir / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).parent.parent / "dagster.yaml", home / "dagster.yaml")
    return home
