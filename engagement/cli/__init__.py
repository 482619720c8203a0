"""The command line. One module a group of commands; this one only names them and turns errors into exit codes.

Data goes to stdout, everything else to stderr. Exit code 0: done, 1: could not be done, 2: wrong use.
Commands are loaded when called, so that `engagement query` does not pay for the imports of `demo`.
"""

from __future__ import annotations

import sys
from typing import NoReturn

from cyclopts import App, CycloptsError

from engagement.errors import EngagementError, UsageError

COMMANDS = {
    "demo": "engagement.cli.demo:demo",
    "broker": "engagement.cli.stack:broker",
    "topics": "engagement.cli.stack:topics",
    "simulate": "engagement.cli.simulate:simulate",
    "ingest": "engagement.cli.ingest:ingest",
    "import": "engagement.cli.imports:import_",
    "refresh": "engagement.cli.tables:refresh",
    "backfill": "engagement.cli.backfill:backfill",
    "query": "engagement.cli.tables:query",
    "tables": "engagement.cli.model:tables",
    "sql": "engagement.cli.model:sql",
    "explain": "engagement.cli.explain:explain",
    "catalog": "engagement.cli.catalog:app",
    "maintain": "engagement.cli.maintain:maintain",
    "check": "engagement.cli.check:check",
    "anomalies": "engagement.cli.anomalies:app",
    "status": "engagement.cli.tables:status",
    "exporter": "engagement.cli.exporter:exporter",
    "monitoring": "engagement.cli.exporter:monitoring",
    "dead-letters": "engagement.cli.dead_letters:app",
    "export": "engagement.cli.export:export",
    "forget": "engagement.cli.forget:forget",
    "backup": "engagement.cli.backup:backup",
    "restore": "engagement.cli.backup:restore",
    "settings": "engagement.cli.about:settings",
    "contract": "engagement.cli.about:contract",
}


def build_app() -> App:
    """The command line as a cyclopts app."""
    app = App(
        name="engagement",
        help="Near-real-time iOS app engagement: Kafka, a lake of Parquet, Dagster, a page.",
        version="0.1.0",
    )
    for name, target in COMMANDS.items():
        app.command(target, name=name)
    return app


def main() -> NoReturn:
    """Entry point of `engagement`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code."""
    app = build_app()
    try:
        result = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        print(f"engagement: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except UsageError as error:
        print(f"engagement: {error}", file=sys.stderr)
        return 2
    except EngagementError as error:
        print(f"engagement: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return result if isinstance(result, int) else 0
