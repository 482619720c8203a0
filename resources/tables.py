"""`tables`: the open lake, index and engine of one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from dagster import ConfigurableResource
from pydantic import PrivateAttr

from engagement import priority
from engagement import settings as settings_module
from engagement.settings import Settings
from engagement.tables.context import TableContext, open_tables
from resources import tags

_GIVEN: dict[str, Settings] = {}


class Tables(ConfigurableResource):  # type: ignore[type-arg]
    """Opens the tables with the settings of the process, or with those given (tests).

    Within a run the handles are opened once and shared by its steps: runs use the in-process executor.
    """

    environment: dict[str, str] | None = None
    folder: str | None = None
    given: str | None = None
    """Names settings of this process (`of`). What is a resource's field stands in each run's snapshot: no secret may be one."""
    _open: TableContext | None = PrivateAttr(default=None)
    _held: dict[str, str] = PrivateAttr(default_factory=dict)
    _made: set[str] = PrivateAttr(default_factory=set)

    @staticmethod
    def of(settings: Settings) -> Tables:
        """The tables of these very settings, for runs in this process."""
        name = uuid4().hex
        _GIVEN[name] = settings
        return Tables(given=name)

    def settings(self) -> Settings:
        """The settings, read now."""
        if self.given is not None:
            return _GIVEN[self.given]
        return settings_module.load(self.environment, Path(self.folder) if self.folder else None)

    @contextmanager
    def yield_for_execution(self, context: object) -> Iterator[Tables]:  # noqa: ARG002 - Dagster's signature
        """Open for a run, closed after it."""
        with open_tables(self.settings()) as opened:
            self._open = opened
            yield self
        self._open = None

    def give_way(self) -> None:
        """Let the live path go first: the rest of this run takes one engine thread, where no setting says how many, at the lowest priority.

        Runs that share their process with others stay as they are.
        """
        if tags.OWN_PROCESS in os.environ:
            priority.give_way(self.context.settings.background_nice)
            if "threads" not in self.context.settings.sources:
                self.context.con.execute("SET threads = 1")

    @property
    def context(self) -> TableContext:
        """The open handles; only inside a run."""
        if self._open is None:
            raise RuntimeError("tables are open only inside a run")
        return self._open

    @property
    def held(self) -> dict[str, str]:
        """Partition key -> why, of the units of this run that were not published."""
        return self._held

    @property
    def made(self) -> set[str]:
        """Keys of the objects that lie in the lake for units of this run, new or as they were."""
        return self._made
