"""`engagement forget`: one pass that takes some users out of a lake, and ends only when nothing can bring them back (R1).

1. The list has them: from now on every writer of raw and archive drops their records. 2. Fences: archive writers that
read the list before lose their claims; flushes begun before have passed or are awaited. 3. Raw and archive are scanned
and rewritten until one listing shows nothing that was not seen clean. 4. A mark in the list; then the tables of every
touched slot are made again, and what follows from them. 5. Everything is scanned that has not been seen clean.

Killed anywhere it is run again: what is done is found done. Two at once wait for each other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from engagement.erasure import fences, tables
from engagement.erasure.broker import KafkaBroker
from engagement.erasure.people import People
from engagement.erasure.report import Report, Touched
from engagement.erasure.rewriting import Rewriter, Rewritten
from engagement.erasure.scanning import Scan, Scanner
from engagement.errors import PermanentError, TransientError
from engagement.ingest.kafka import BrokerUnavailable
from engagement.ingest.replay import LOCK as REPLAY_LOCK
from engagement.lake import LOCK_FOLDER, Entry, Lake, LakeFormat, open_lake
from engagement.model import units
from engagement.progress import Progress, silent
from engagement.raw.coverage import ARCHIVE
from engagement.raw.erasures import ErasureList
from engagement.raw.index import RawIndex
from engagement.raw.names import RAW, Chain
from engagement.raw.privacy import Policy
from engagement.settings import Settings
from engagement.tables import engine
from engagement.tables.context import TableContext, open_tables

LOCK = "erasure"
ROUNDS = 20
POLL_SECONDS = 1.0
AT_ONCE = 2
"""Objects that are rewritten at the same time; of each a row group and its bytes are in memory."""
PER_USER = (units.EVENTS, units.FRAGMENTS, units.ACTIVITY, units.SESSIONS)
LEFT_ALONE = timedelta(seconds=5)
"""A temporary file younger than that may be one whose writer is about to lock it."""
Step = Callable[[str], None]
"""Called at each named point, where a test may kill the run."""


def forget(
    settings: Settings,
    user_ids: Iterable[str],
    *,
    dry_run: bool = False,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
    step: Step = lambda _: None,
    broker: Callable[[Settings], fences.Broker] = KafkaBroker,
) -> Report:
    """Take these users out of the lake of these settings; a dry run only says where they stand.

    Flushes of consumers that may have begun before are awaited for `wait_seconds`; what has not come then is pending.

    Raises UsageError for what is no user id, KeyMissing without ENGAGEMENT_HASH_KEY, TransientError where lake or writers
    do not come to rest: then it is run again.
    """
    lake, lake_format = open_lake(settings)
    wanted = list(dict.fromkeys(user_ids))
    policy = Policy.of(settings, lake_format)
    people = People.of(wanted, [policy.stored(user) for user in wanted])
    erasures = ErasureList(lake, settings.hash_keys)
    report = Report(len(wanted), dry_run)
    con = engine.connect(settings)
    try:
        run = _Run(settings, lake, lake_format, people, erasures, report, Scanner(lake, con, people), progress, step, broker, wait_seconds)
        if dry_run:
            run.look()
        else:
            with lake.lock(LOCK), lake.lock(REPLAY_LOCK):
                run.erase()
    finally:
        con.close()
    return report


@dataclass(slots=True)
class _Run:
    settings: Settings
    lake: Lake
    format: LakeFormat
    people: People
    erasures: ErasureList
    report: Report
    scanner: Scanner
    progress: Progress
    step: Step
    broker: Callable[[Settings], fences.Broker]
    wait_seconds: float
    _clean: dict[str, str] = field(default_factory=dict)
    """Key -> version that was seen clean."""
    _frozen: set[str] = field(default_factory=set)
    """Keys of objects that cannot be read before they are restored."""
    _began: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        """A dry run: where they stand, and what would be made again."""
        self.erasures.read()
        scan = self._scan([*self._log(), *self._rest()])
        self.report.objects += [Touched(key, "would rewrite", rows) for key, rows in sorted(scan.found.items())]
        self.report.left |= scan.unreadable
        self._times()

    def erase(self) -> None:
        """The whole of it."""
        self.report.number = self.erasures.add(self.people.names)
        self.step("listed")
        self._thaw()
        self._fence()
        self._clear_log()
        self._await()
        self._clear_log()  # what was flushed meanwhile: the rest was seen clean
        self.step("log cleared")
        self._tables()
        self.step("tables cleared")
        self._elsewhere()
        self._times()

    # Nothing comes back.

    def _fence(self) -> None:
        with self._indexed() as index:
            raw, covered = index.files(), index.archive().coverage()
            days = fences.days_to_fence(raw, covered)
            for key in fences.fence(self.lake, days, self.erasures.read(), self.report.number):
                self._touched(key, "fenced")
        fences.wait_for_imports(self.lake, lambda what: self.progress(what, 0, 0))
        self.step("fenced")

    def _await(self) -> None:
        """Wait for flushes under the new list, as long as asked; what has not come by then is pending."""
        deadline = time.monotonic() + self.wait_seconds
        while True:
            with self._indexed() as index:
                chains = fences.standings(index.files(), index.archive().coverage())
            if not chains and "kafka_bootstrap_servers" not in self.settings.sources:
                self.report.notes.append("no record of this lake came from Kafka, and no broker is set: none was asked")
                return
            pending = self._asked(chains)
            if not pending or time.monotonic() >= deadline:
                self.report.pending += pending
                self.step("awaited")
                return
            self.progress(f"flushes of {len(pending)} partitions are awaited", 0, 0)
            time.sleep(POLL_SECONDS)

    def _asked(self, chains: Mapping[Chain, fences.Standing]) -> list[str]:
        """What the broker leaves uncertain; chains of topics that are gone are sealed."""
        topics = list(self.settings.topics)
        try:
            broker = self.broker(self.settings)
            found = fences.awaited(chains, topics, broker, self.report.number)
            self.report.notes = broker.kept(list(broker.ids(topics)))
        except BrokerUnavailable as error:
            return [f"broker {self.settings.kafka_bootstrap_servers}: {error}; whether a consumer still holds records is not known"]
        for key in fences.seal(self.lake, found.closed, self.erasures.read()):
            self._touched(key, "sealed")
        return found.pending

    # What no listing shows, or no reader can read now.

    def _thaw(self) -> None:
        """Ask for objects of archive classes; the run after the restore reads them."""
        history = self.lake.history
        if history is None:
            return
        for key, under_way in sorted(history.frozen("").items()):
            self._frozen.add(key)
            if not under_way:
                history.restore(key)
                self._touched(key, "restore requested")
            self.report.pending.append(f"{key} is in an archive class and its restore is under way: run it again when it can be read")

    def _elsewhere(self) -> None:
        """Older versions that the store keeps, copies on this machine, and what killed writers left."""
        history = self.lake.history
        # A local store knows which temporaries have a living writer. Elsewhere what was begun in this run is let alone.
        age = LEFT_ALONE if history is None else timedelta(seconds=time.monotonic() - self._began)
        for left in self.lake.left_overs(datetime.now(UTC), age, remove=True):
            if not left.name.startswith(LOCK_FOLDER):
                self._touched(left.name, "deleted")
        if history is None:
            return
        slots = self._touched_slots()
        held = {units.slot_key(table, slot) for table in PER_USER for slot in slots} | {item.key for item in self.report.objects}
        for old in history.versions(""):
            if old.key.startswith((f"{RAW}/", f"{ARCHIVE}/")) or old.key in held:
                try:
                    history.delete(old)
                except Exception as error:  # noqa: BLE001 - whatever the store says against one, the others go
                    self.report.left[f"{old.key} version {old.version}"] = " ".join(str(error).split())
                else:
                    self._touched(f"{old.key} version {old.version}", "deleted")
        history.drop_copies(self.lake.list(""))

    # The log.

    def _clear_log(self) -> None:
        rewriter = Rewriter(self.lake, self.people, self.format.slot_minutes, self.erasures.read().length)
        for _ in range(ROUNDS):
            new = self._unseen(self._log())
            if not new:
                return
            scan = self._scan(new)
            replaced = self._rewrite(sorted(scan.found), rewriter, scan)
            self._seen(new, scan, replaced)
        raise TransientError(f"the lake {self.lake.url} changes faster than it is read: run it again")

    def _rewrite(self, keys: list[str], rewriter: Rewriter, scan: Scan) -> set[str]:
        """Rewrite objects of the log, a few at once; the keys of those that were replaced."""

        def made(key: str) -> Rewritten | PermanentError | None:
            try:
                return rewriter.rewrite(key)
            except PermanentError as error:
                return error

        replaced = set()
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            for number, (key, result) in enumerate(zip(keys, pool.map(made, keys), strict=True)):
                self.progress("objects of the log are rewritten", number, len(keys))
                if isinstance(result, PermanentError):
                    scan.unreadable[key] = str(result)
                elif result is not None:
                    self._touched(key, "rewritten", result.rows)
                    replaced.add(key)
                self.step("rewritten")
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupted run ends with the objects that are under way
        return replaced

    def _seen(self, entries: Iterable[Entry], scan: Scan, replaced: set[str]) -> None:
        """Note what needs no second look: what was clean, and what cannot be read. A replaced object is looked at again."""
        for entry in entries:
            if entry.key not in replaced:
                self._clean[entry.key] = entry.version
        self.report.left |= scan.unreadable

    # The tables.

    def _tables(self) -> None:
        touched = self._touched_slots()
        if touched and max(touched.values()) >= self.erasures.read().length:
            self.erasures.mark()
        self.step("marked")
        now = datetime.now(UTC)
        with open_tables(self.settings) as context:
            is_final = tables.is_final(context, now)
            due = {slot for slot, number in touched.items() if not is_final(slot) and self._is_older(context, slot, number)}
            for _ in range(ROUNDS):
                tables.make_again(context, self.people, due, lambda key, rows: self._touched(key, "rebuilt", rows), self.step)
                self.step("units made")
                waiting = tables.catch_up(context, due | touched.keys(), now, lambda what: self.progress(what, 0, 0))
                self.step("caught up")
                new = self._unseen(self._rest())
                if not new:
                    break
                scan = self._scan(new)
                due = self._take_out(context, new, scan, is_final)
            else:
                raise TransientError(f"tables of the lake {self.lake.url} change faster than they are read: run it again")
        if waiting:
            self.report.pending.append(f"counts of {', '.join(waiting[:5])} may still have them: `engagement refresh` tells why")

    def _take_out(self, context: TableContext, new: list[Entry], scan: Scan, is_final: Callable[[datetime], bool]) -> set[datetime]:
        """Deal with what a scan of everything but the log found; the slots of open days that must be made again."""
        due: set[datetime] = set()
        replaced = set()
        for key in sorted(scan.found):
            if key.startswith(units.EVENTS) and not is_final(slot := units.slot_of_key(key)):
                due.add(slot)
                replaced.add(key)
            elif not key.endswith(".parquet"):
                scan.unreadable[key] = "names them, and is no object of rows: see what it is, and remove it by hand"
            elif rows := tables.take_out(context, self.people, key):
                self._touched(key, "rewritten", rows)
                replaced.add(key)
        self._seen(new, scan, replaced)
        return due

    def _touched_slots(self) -> dict[datetime, int]:
        """Event slot -> length of the erasure list when good rows of it were erased last, of erasures since these users are listed."""
        found: dict[datetime, int] = {}
        with self._indexed() as index:
            held = [raw.erased for raw in index.files()]
            held += [item.erased for ranges in index.archive().ranges().values() for item in ranges]
        for erased in held:
            for slot, number in erased.items():
                if number >= self.report.number:
                    found[slot] = max(number, found.get(slot, 0))
        return found

    def _is_older(self, context: TableContext, slot: datetime, number: int) -> bool:
        """Whether an object of the slot may have been begun before its rows were erased."""
        keys = (units.slot_key(table, slot) for table in (units.EVENTS, units.FRAGMENTS, units.ACTIVITY))
        return any(context.footers.of(self.lake.stat(key)).get("erasures", 0) <= number for key in keys)

    # Listing and scanning.

    def _log(self) -> list[Entry]:
        """Raw first, then the archive: what moved meanwhile is seen (R5). Covered raw objects too, their bytes are there."""
        return [entry for folder in (RAW, ARCHIVE) for entry in self.lake.list(folder) if entry.key not in self._frozen]

    def _rest(self) -> list[Entry]:
        rest = (entry for entry in self.lake.list("") if not entry.key.startswith((f"{RAW}/", f"{ARCHIVE}/")))
        return [entry for entry in rest if entry.key not in self._frozen]

    def _unseen(self, entries: Iterable[Entry]) -> list[Entry]:
        return [entry for entry in entries if self._clean.get(entry.key) != entry.version]

    def _scan(self, entries: list[Entry]) -> Scan:
        began = time.monotonic()
        scan = self.scanner.scan(entries, "bytes are looked through", self.progress)
        self.report.scanned_objects += scan.objects
        self.report.scanned_bytes += scan.size
        self.report.seconds["scan"] = self.report.seconds.get("scan", 0.0) + time.monotonic() - began
        return scan

    @contextmanager
    def _indexed(self) -> Iterator[RawIndex]:
        index = RawIndex(self.lake, self.settings.state_dir)
        try:
            index.sync()
            yield index
        finally:
            index.close()

    def _touched(self, key: str, action: str, rows: int = 0) -> None:
        self.report.objects.append(Touched(key, action, rows))

    def _times(self) -> None:
        self.report.seconds["rewrite"] = time.monotonic() - self._began - self.report.seconds.get("scan", 0.0)
