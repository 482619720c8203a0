"""The jars of the real broker, and Deequ's, fetched once by Maven coordinates and checked against `kafka.lock` and `deequ.lock`.

`python -m engagement.stack.jars` makes the cache folders `kafka-4.3.1/` and `deequ-…/` complete; `--lock` resolves the
coordinates anew and rewrites the locks. jgo brings each jar, we add what it leaves out: hashes, retries and
one atomic rename, so that a folder of that name is always whole. The 46th jar gives Kafka a log: without an
SLF4J binding the broker dies silently.
What does not belong here: Java itself (`java.py`) and starting anything (`broker.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engagement.errors import EngagementError, PermanentError, TransientError

VERSION = "4.3.1"
KAFKA = f"org.apache.kafka:kafka_2.13:{VERSION}"
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
LOCK = Path(__file__).with_name("kafka.lock")
DEEQU_VERSION = "2.1.0-spark-3.5"
DEEQU = f"com.amazon.deequ:deequ:{DEEQU_VERSION}"
DEEQU_LOCK = Path(__file__).with_name("deequ.lock")
"""Deequ alone: what it needs, Spark brings."""
ATTEMPTS = 4
FIRST_DELAY_SECONDS = 1.0
PARALLEL = 6
REQUEST_TIMEOUT_SECONDS = 30


class FetchFailed(TransientError):
    """A jar could not be fetched within the bound; trying again later may help."""


class WrongJar(PermanentError):
    """A jar came whole but is not the locked one."""


@dataclass(frozen=True, slots=True, order=True)
class Jar:
    """One line of the lock: Maven coordinates and the SHA-256 of the file."""

    coordinates: str
    sha256: str

    @property
    def name(self) -> str:
        """File name in the folder."""
        _, artifact, version = self.coordinates.split(":")
        return f"{artifact}-{version}.jar"


Download = Callable[[str, Path], Path]
"""Coordinates and a scratch folder -> the file that came; raises whatever the network raises."""


def cache_folder() -> Path:
    """The user's cache: shared by all checkouts, safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "engagement-pipeline"


def locked(lock: Path = LOCK) -> list[Jar]:
    """The jars a complete folder holds."""
    return [Jar(*line.split()) for line in lock.read_text().splitlines() if line and not line.startswith("#")]


def classpath() -> str:
    """What Java is given; raises PermanentError where the jars were never fetched."""
    folder = cache_folder() / f"kafka-{VERSION}"
    if not folder.is_dir():
        msg = f"the broker's jars are not in {folder}: run `make setup`"
        raise PermanentError(msg)
    return f"{folder}/*"


def deequ_jar() -> Path:
    """Deequ's jar; raises PermanentError where it was never fetched."""
    (jar,) = locked(DEEQU_LOCK)
    found = cache_folder() / f"deequ-{DEEQU_VERSION}" / jar.name
    if not found.is_file():
        msg = f"Deequ's jar is not in {found.parent}: run `make setup`"
        raise PermanentError(msg)
    return found


def fetch(
    cache: Path, jars: list[Jar], download: Download, sleep: Callable[[float], None] = time.sleep, name: str = f"kafka-{VERSION}"
) -> Path:
    """The complete folder of this name below `cache`, downloading only where it is not there yet.

    Raises FetchFailed after bounded retries, WrongJar where a file is not the locked one.
    """
    folder = cache / name
    if folder.is_dir():
        return folder
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache) as scratch:
            done = Path(scratch) / "done"
            done.mkdir()
            with ThreadPoolExecutor(PARALLEL) as pool:
                list(pool.map(lambda jar: _fetch_one(jar, Path(scratch), done, download, sleep), jars))
            _publish(done, folder)
    except OSError as error:
        msg = f"{error.filename or cache}: {error.strerror or error}"
        raise FetchFailed(msg) from error
    return folder


def _fetch_one(jar: Jar, scratch: Path, done: Path, download: Download, sleep: Callable[[float], None]) -> None:
    for attempt in range(ATTEMPTS):
        try:
            came = download(jar.coordinates, scratch / f"{jar.name}-{attempt}")
        except Exception as error:  # what the network raises is jgo's and requests' business
            if attempt == ATTEMPTS - 1:
                msg = f"{jar.coordinates} did not come in {ATTEMPTS} tries: {_first_line(error)}"
                raise FetchFailed(msg) from error
            sleep(FIRST_DELAY_SECONDS * 2**attempt)
            continue
        found = hashlib.sha256(came.read_bytes()).hexdigest()
        if found == jar.sha256:
            came.rename(done / jar.name)
            return
        if attempt == ATTEMPTS - 1:
            msg = f"{jar.coordinates} has SHA-256 {found}, {LOCK.name} says {jar.sha256}: the source is broken or was tampered with"
            raise WrongJar(msg)


def _publish(done: Path, folder: Path) -> None:
    """Give the whole folder its name; where another process was faster, its folder is as good."""
    try:
        done.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _artifact(coordinates: str, repository: Path) -> Any:
    from jgo.maven import MavenContext

    logging.getLogger("jgo").setLevel(logging.CRITICAL)  # its failures reach us as exceptions, told once
    group, artifact, version = coordinates.split(":")
    return MavenContext(repo_cache=repository, timeout=REQUEST_TIMEOUT_SECONDS).project(group, artifact).at_version(version).artifact()


def download(coordinates: str, repository: Path) -> Path:
    """One jar by its coordinates, with all that jgo needs on the way, into this folder."""
    return Path(_artifact(coordinates, repository).resolve())


def resolve(repository: Path) -> Iterator[Jar]:
    """Every jar that Kafka needs now, and the log binding alone: resolved together, log4j's BOM would turn Kafka's jackson back."""
    from jgo.maven import Dependency

    kafka = Dependency(_artifact(KAFKA, repository))
    roots, transitive = kafka.artifact.context.resolver.resolve([kafka])
    for artifact in [*(item.artifact for item in (*roots, *transitive)), _artifact(LOG_BINDING, repository)]:
        content = Path(artifact.resolve()).read_bytes()
        yield Jar(f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}", hashlib.sha256(content).hexdigest())


def write_locks() -> None:
    """Resolve the coordinates and write `kafka.lock` and `deequ.lock` anew."""
    with tempfile.TemporaryDirectory() as scratch:
        kafka = sorted(resolve(Path(scratch)))
        deequ = Jar(DEEQU, hashlib.sha256(download(DEEQU, Path(scratch)).read_bytes()).hexdigest())
    _write_lock(LOCK, f"{KAFKA} with all it needs, and {LOG_BINDING}", kafka)
    _write_lock(DEEQU_LOCK, f"{DEEQU} alone", [deequ])


def _write_lock(lock: Path, what: str, jars: list[Jar]) -> None:
    header = f"# {what}; written by `python -m engagement.stack.jars --lock`\n"
    lock.write_text(header + "".join(f"{jar.coordinates} {jar.sha256}\n" for jar in jars))


def main(arguments: list[str]) -> int:
    """Entry point of `python -m engagement.stack.jars`: silent when all is there."""
    if arguments == ["--lock"]:
        write_locks()
        return 0
    cache = cache_folder()
    for name, lock, what in (
        (f"kafka-{VERSION}", LOCK, f"Kafka {VERSION} (about 44 MB)"),
        (f"deequ-{DEEQU_VERSION}", DEEQU_LOCK, f"Deequ {DEEQU_VERSION} (2 MB)"),
    ):
        if (cache / name).is_dir():
            continue
        print(f"setup: fetching {what} into {cache}…", file=sys.stderr)  # noqa: T201 - progress for people
        _sweep(cache)
        try:
            fetch(cache, locked(lock), download, name=name)
        except EngagementError as error:
            print(f"setup: {error}", file=sys.stderr)  # noqa: T201 - the one line a person needs
            return 1
    return 0


def _sweep(cache: Path) -> None:
    """Scratch folders of fetches that were killed more than an hour ago."""
    for left in cache.glob(".fetching-*"):
        with contextlib.suppress(OSError):
            if left.stat().st_mtime < time.time() - 3600:
                shutil.rmtree(left, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
