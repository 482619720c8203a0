"""A Spark of one process that Deequ runs on: started cheaply, reachable from nowhere, gone without a trace."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engagement.errors import PermanentError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

SPARK_VERSION = "3.5"
"""The one that the locked Deequ jar is made for; pydeequ refuses to load without hearing it."""
HEAP = "1g"
JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xss4m"
"""A session lives for a minute: what the better compiler gains it does not earn back."""


class SparkMissing(PermanentError):
    """A part of Spark is not on this machine; the text says which and what to do."""


@contextmanager
def spark(jar: Path, java: Path) -> Iterator[SparkSession]:
    """A session with Deequ's jar; raises SparkMissing. Stopped, and its folder removed, afterwards."""
    os.environ["SPARK_VERSION"] = SPARK_VERSION
    os.environ["JAVA_HOME"] = str(java.resolve().parents[1])
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ.pop("SPARK_HOME", None)  # another Spark of the machine's
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkMissing(f"pyspark cannot be loaded ({error}): run `make setup`") from error
    with tempfile.TemporaryDirectory(prefix="spark-") as folder:
        builder = SparkSession.builder.master("local[1]").appName("engagement-quality")
        for name, value in _options(jar, folder).items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        try:
            yield session
        finally:
            session.sparkContext._gateway.shutdown_callback_server()  # type: ignore[union-attr]  # noqa: SLF001 - else it never ends
            session.stop()


def _options(jar: Path, folder: str) -> dict[str, str]:
    return {
        "spark.jars": str(jar),
        "spark.driver.memory": HEAP,
        "spark.driver.extraJavaOptions": f"{JAVA_OPTIONS} -Djava.io.tmpdir={folder} -Duser.timezone=UTC",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": folder,
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.sql.catalogImplementation": "in-memory",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": "1",
        "spark.default.parallelism": "1",
        "spark.sql.files.maxPartitionBytes": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }
