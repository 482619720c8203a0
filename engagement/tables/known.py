"""What a process of this machine knew of the tables' objects: listing, footers' facts, and what waited day by day.

A cache of the lake in the state folder, shared by its processes; delete it when you like. Facts of a version never change;
a listing is as old as its last look, and who needs it exact lists the lake. What is looked at when, and what follows from
it, is in `recent`; here is only the memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from engagement.lake import LAKE_JSON, Entry, Lake

_SCHEMA = """
create table if not exists facts (key text primary key, version text, text text) without rowid;
create table if not exists objects (key text primary key, size integer, version text) without rowid;
create table if not exists answers (model text, day text, text text, primary key (model, day)) without rowid;
create table if not exists seen (model text primary key, change integer) without rowid;
create table if not exists months (folder text primary key) without rowid;
"""
_SCHEMA_VERSION = 1


class Known:
    """The memory of one lake. Without a state folder it lives as long as the process."""

    def __init__(self, lake: Lake, state_dir: Path | None = None) -> None:
        self._alone = threading.Lock()  # the page's threads share one
        if state_dir is None:
            self._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._db.executescript(_SCHEMA)
            return
        made = lake.stat(LAKE_JSON)
        name = hashlib.sha256(f"{_SCHEMA_VERSION}|{lake.url}|{made and made.version}".encode()).hexdigest()[:12]
        path = state_dir / "cache" / f"tables-{name}.sqlite"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        with path.with_suffix(".lock").open("w") as making:  # SQLite does not wait when two processes turn to WAL at once
            fcntl.flock(making, fcntl.LOCK_EX)
            self._db.execute("pragma journal_mode=wal")
            self._db.execute("pragma synchronous=off")  # what a power cut takes is read again
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """All writes inside are seen by others at once, or none."""
        with self._alone, self._db:
            self._db.execute("begin immediate")
            yield

    def facts(self, entry: Entry) -> dict[str, Any] | None:
        """What the footer of exactly this version says; None where it was never read."""
        found = self._db.execute("select text from facts where key = ? and version = ?", (entry.key, entry.version)).fetchone()
        return None if found is None else json.loads(found[0])

    def keep_facts(self, found: Iterable[tuple[Entry, Mapping[str, Any]]]) -> None:
        """Remember footers that were read; of each object the last version alone."""
        rows = [(entry.key, entry.version, json.dumps(facts)) for entry, facts in found]
        if rows:
            with self.writing():
                self._db.executemany("insert or replace into facts values (?, ?, ?)", rows)

    def objects(self, prefix: str, after: str | None = None, until: str | None = None) -> dict[str, Entry]:
        """The objects below a folder as last listed, by key; those behind the key `after` and up to `until` alone."""
        query = "select key, size, version from objects where key > ? and key < ? and key <= ifnull(?, key) order by key"
        return {row[0]: Entry(*row) for row in self._db.execute(query, (max(f"{prefix}/", after or ""), f"{prefix}0", until))}

    def keep_objects(self, found: Iterable[Entry], gone: Iterable[str]) -> None:
        """Bring the listing forward; inside `writing`."""
        rows = [(item.key, item.size, item.version) for item in found]
        self._db.executemany("insert or replace into objects values (?, ?, ?)", rows)
        months = {key.partition("/day=")[0] for key, *_ in rows}
        self._db.executemany("insert or ignore into months values (?)", ((folder,) for folder in months))
        for key in gone:
            self._db.execute("delete from objects where key = ?", (key,))
            self._db.execute("delete from facts where key = ?", (key,))

    def forget_objects(self) -> None:
        """The listing is unknown; inside `writing`."""
        self._db.execute("delete from objects")

    def months(self) -> list[str]:
        """Folders of tables' months that have, or had, objects, or whose raw records changed."""
        return [folder for (folder,) in self._db.execute("select folder from months order by folder")]

    def keep_months(self, days: Iterable[date], tables: Iterable[str]) -> None:
        """Remember the months of these days of these tables; inside `writing`."""
        folders = {f"{table}/year={day:%Y}/month={day:%m}" for day in days for table in tables}
        self._db.executemany("insert or ignore into months values (?)", ((folder,) for folder in folders))

    def seen_change(self, model: str) -> int | None:
        """The last change of raw that the answers know; None where nothing was answered under this model yet."""
        found = self._db.execute("select change from seen where model = ?", (model,)).fetchone()
        return None if found is None else int(found[0])

    def keep_seen_change(self, model: str, change: int) -> None:
        """Remember it; inside `writing`."""
        self._db.execute("insert or replace into seen values (?, ?)", (model, change))

    def answers(self, model: str) -> Iterator[tuple[str, Any]]:
        """(day, answer as JSON value) of every day that has one which is not empty."""
        for day, text in self._db.execute("select day, text from answers where model = ? order by day", (model,)):
            yield day, json.loads(text)

    def keep_answers(self, model: str, days: Sequence[str] | None, answers: Mapping[str, Any]) -> None:
        """The answers of these days (None: of all) are these, empty where none is given; inside `writing`."""
        if days is None:
            self._db.execute("delete from answers where model = ?", (model,))
        else:
            self._db.executemany("delete from answers where model = ? and day = ?", ((model, day) for day in days))
        self._db.executemany("insert into answers values (?, ?, ?)", ((model, day, json.dumps(answer)) for day, answer in answers.items()))
