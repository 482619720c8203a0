"""One process for the demo: brings the Dagster instance up to date, then serves the code location.

Two processes that initialise a fresh SQLite home at once break it, so this one does it before anything else
opens it; doing both here saves the two seconds that a second import of dagster takes.
"""

import os
import sys

from dagster import DagsterInstance
from dagster._cli.api import grpc_command

from engagement.settings import load
from engagement_assets.home import instance_home

MODULE = "engagement_assets.definitions"


def main(host: str, port: str) -> None:
    """Serve until terminated; the Dagster home is the one in the state folder."""
    os.environ["DAGSTER_HOME"] = str(instance_home(load()))
    with DagsterInstance.get() as instance:
        instance.upgrade(print)
        instance.reindex(print)
    grpc_command.main(["-h", host, "-p", port, "-m", MODULE, "--location-name", "engagement"])


if __name__ == "__main__":
    main(*sys.argv[1:])
