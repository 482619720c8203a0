"""Spark Structured Streaming on two local cores: bringing it here and running `spark_job.py`.

pyspark is not among the locked packages of the pipeline, so it lies in the cache folder beside the jars.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import measure

from engagement.settings import Settings
from engagement.stack import java
from engagement.stack.jars import cache_folder
from peers import jars

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "spark.txt"
VERSION = "3.5.9"


def run(settings: Settings, folder: Path) -> measure.Usage:
    """Read the topics into a new folder; start-up ends when the session is there."""
    connector = ",".join(str(path) for path in sorted(jars.folder("spark").iterdir()))
    home = java.executable().resolve().parent.parent
    environment = measure.clean_environment(PYTHONPATH=str(pyspark()), JAVA_HOME=str(home), SPARK_LOCAL_DIRS=str(folder / "scratch"))
    arguments = [settings.kafka_bootstrap_servers, ",".join(settings.topics), str(folder), connector]
    return measure.run(
        [sys.executable, str(HERE / "spark_job.py"), *arguments], folder / "output",
        begun=lambda text: "begun" in text, environment=environment,
    )  # fmt: skip


def pyspark() -> Path:
    """The folder with pyspark, installed on first use; it appears whole or not at all. Raises Failed."""
    target = cache_folder() / f"pyspark-{VERSION}"
    if not target.is_dir():
        print(f"bench: installing pyspark {VERSION} (about 320 MB) into {target}…", file=sys.stderr)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=target.parent) as scratch:
            command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", sys.executable, "--no-deps", "--require-hashes"]
            installed = subprocess.run([*command, "--target", f"{scratch}/done", "-r", str(REQUIREMENTS)], check=False)
            if installed.returncode:
                raise measure.Failed(f"pyspark {VERSION} could not be installed")
            Path(scratch, "done").rename(target)
    return target
