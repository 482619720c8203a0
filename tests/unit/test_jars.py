"""Fetching the broker's jars: whole or not at all, bounded retries, only the locked bytes."""

import hashlib
from pathlib import Path

import pytest

from engagement.stack import jars, java

GOOD = b"jar"
JARS = [jars.Jar(f"group:{name}:1.0", hashlib.sha256(GOOD).hexdigest()) for name in ("a", "b")]


def no_sleep(_: float) -> None:
    return None


class Source:
    """Fails each jar's first `failures` downloads, then gives `content`."""

    def __init__(self, failures: int = 0, content: bytes = GOOD) -> None:
        self.failures, self.content, self.calls = failures, content, {}

    def __call__(self, coordinates: str, scratch: Path) -> Path:
        self.calls[coordinates] = self.calls.get(coordinates, 0) + 1
        if self.calls[coordinates] <= self.failures:
            raise ConnectionError("connection reset")
        scratch.mkdir()
        (scratch / "came.jar").write_bytes(self.content)
        return scratch / "came.jar"


def test_a_complete_folder_is_never_fetched_again(tmp_path: Path) -> None:
    source = Source()
    folder = jars.fetch(tmp_path, JARS, source, no_sleep)
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.0.jar", "b-1.0.jar"]
    assert jars.fetch(tmp_path, JARS, source, no_sleep) == folder
    assert set(source.calls.values()) == {1}


def test_a_network_that_comes_back_is_enough(tmp_path: Path) -> None:
    folder = jars.fetch(tmp_path, JARS, Source(failures=jars.ATTEMPTS - 1), no_sleep)
    assert sorted(path.name for path in folder.iterdir()) == ["a-1.0.jar", "b-1.0.jar"]


def test_a_network_that_stays_away_is_a_bounded_transient_failure_and_leaves_nothing(tmp_path: Path) -> None:
    source = Source(failures=99)
    with pytest.raises(jars.FetchFailed, match=r"group:a:1.0 did not come in 4 tries: connection reset"):
        jars.fetch(tmp_path, JARS, source, no_sleep)
    assert source.calls["group:a:1.0"] == jars.ATTEMPTS
    assert list(tmp_path.iterdir()) == []


def test_other_bytes_than_the_locked_are_refused(tmp_path: Path) -> None:
    with pytest.raises(jars.WrongJar, match=r"kafka.lock says"):
        jars.fetch(tmp_path, JARS, Source(content=b"other"), no_sleep)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_names_kafka_and_its_log_binding() -> None:
    names = [jar.name for jar in jars.locked()]
    assert {"kafka_2.13-4.3.1.jar", "log4j-slf4j-impl-2.25.4.jar"} < set(names)
    assert len(names) == len(set(names)) == 46


@pytest.mark.parametrize(("version", "own"), [("17.0.15", True), ("21.0.1", False), (None, False)])
def test_java_home_is_taken_only_where_it_is_a_java_17(tmp_path: Path, version: str | None, own: bool) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch()
    if version:
        (tmp_path / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    chosen = java.executable({"JAVA_HOME": str(tmp_path)})
    assert (chosen == tmp_path / "bin" / "java") is own
    assert own or chosen == java.executable({})
