"""Spark Structured Streaming on two local cores: bringing it here and running `spark_job.py`."""

from __future__ import annotations

import sys
from pathlib import Path

import measure

from engagement.settings import Settings
from engagement.stack import java
from peers import jars, packages

HERE = Path(__file__).parent


def run(settings: Settings, folder: Path) -> measure.Usage:
    """Read the topics into a new folder; start-up ends when the session is there."""
    connector = ",".join(str(path) for path in sorted(jars.folder("spark").iterdir()))
    arguments = [settings.kafka_bootstrap_servers, ",".join(settings.topics), str(folder), connector]
    return measure.run(
        [sys.executable, str(HERE / "spark_job.py"), *arguments], folder / "output",
        begun=lambda text: "begun" in text, environment=environment(folder),
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    """For a Python process that imports pyspark; what it spills goes into the folder."""
    home = java.executable().resolve().parent.parent
    return measure.clean_environment(
        PYTHONPATH=str(packages.folder("spark")), JAVA_HOME=str(home), SPARK_LOCAL_DIRS=str(folder / "scratch")
    )
