"""One process that brings the Dagster instance up to date, serves the code location and starts runs fast.

Two processes that initialise a fresh SQLite home at once break it, so this one does it before anything else
opens it. Runs are forked from a process that has imported all they need: Dagster's own way starts a fresh
interpreter a run and pays the imports, 2 CPU-seconds, every minute (docs/decisions/0005-runs-are-forked.md).
"""

import multiprocessing
import os
import sys
from typing import Any

from dagster import DagsterInstance
from dagster._cli.api import grpc_command
from dagster._grpc import server

from engagement.settings import load
from engagement_assets.home import instance_home
from resources import tags

MODULE = "engagement_assets.definitions"
PRELOADED = [MODULE, "engagement_assets.preload"]


def main(host: str, port: str) -> None:
    """Serve until terminated; the Dagster home is the one in the state folder."""
    os.environ["DAGSTER_HOME"] = str(instance_home(load()))
    os.environ[tags.OWN_PROCESS] = "1"
    with DagsterInstance.get() as instance:
        instance.upgrade(print)
        instance.reindex(print)
    fork_runs()
    grpc_command.main(["-h", host, "-p", port, "-m", MODULE, "--location-name", "engagement"])


def fork_runs() -> None:
    """Let Dagster's code server fork its runs from a preloaded process instead of spawning interpreters."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    start = server.DagsterApiServer.__init__

    def with_fork(self: Any, *arguments: Any, **options: Any) -> None:
        start(self, *arguments, **options)
        self._mp_ctx = context

    server.DagsterApiServer.__init__ = with_fork  # type: ignore[method-assign]


if __name__ == "__main__":
    main(*sys.argv[1:])
