"""A real PostgreSQL server of Debian's package, on a free port of loopback, until the block ends."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from pathlib import Path

from helpers import eventually

from engagement.stack import processes

USER = "postgres"
"""Of Debian's package: the server refuses to run as root."""


def programs() -> Path:
    """The newest installed version's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if not found:
        raise FileNotFoundError("PostgreSQL is missing: apt-get install --no-install-recommends postgresql")
    return found[-1]


@contextlib.contextmanager
def server(folder: Path):
    """The address of an empty database."""
    folder.mkdir(parents=True)
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
    if as_user:
        shutil.chown(folder, USER, USER)
        for parent in [folder, *folder.parents]:  # pytest's folders are root's alone
            if parent.stat().st_uid == 0 and parent != Path("/"):
                parent.chmod(parent.stat().st_mode | 0o011)
    (port,) = processes.free_ports("127.0.0.1", 1)
    password = secrets.token_hex(8)
    word = folder / "password"
    word.write_text(password)
    word.chmod(0o644)
    data, log = folder / "data", folder / "server.log"
    initdb = [str(programs() / "initdb"), "-D", str(data), "-U", "dagster", "-A", "scram-sha-256", f"--pwfile={word}", "--no-sync"]
    subprocess.run([*as_user, *initdb], check=True, capture_output=True, cwd=folder)
    argv = [str(programs() / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-c", "fsync=off"]
    with log.open("wb") as output:
        child = processes.start([*as_user, *argv], output)
    try:
        ready = [str(programs() / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
        eventually(lambda: subprocess.run(ready, check=False).returncode == 0, 60)
        yield f"postgresql://dagster:{password}@127.0.0.1:{port}/postgres"
    finally:
        processes.stop(child, 20)
