"""Reading dead letters out of the lake: counts from footers, single rejects, and which of them were replayed.

What the rows mean is decided in `letters`; nothing here knows the broker. Rows lie in raw objects and in ranges of
archive parts, which are treated alike (`raw.sources`). Only objects with rejects in question are opened for them.
Replays are looked for in every object written since the oldest letter in question: its footer's statistics of header
names tell whether one can be in it, so records without headers cost one footer an object, and records with headers the
column of their names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappush, heappushpop
from typing import TYPE_CHECKING, Any

from engagement.errors import PermanentError
from engagement.ingest.letters import ERASED, Address, Letter, Replay, Replays, Selection, holds, replay_of
from engagement.lake import LAKE_JSON, Lake, LakeFormat
from engagement.progress import Progress, silent
from engagement.raw import sources
from engagement.raw.index import UnreadableFile
from engagement.raw.names import IMPORT_TOPIC, REPLAY_HEADER, Chain
from engagement.raw.sources import Source

if TYPE_CHECKING:
    import pyarrow.parquet as pq

CLOCKS_DIFFER = timedelta(hours=1)
"""Log-append times of two brokers may differ: a replay can bear an earlier time than its letter."""
_NARROW = ["kafka_topic_id", "kafka_offset", "received_at", "reject_reason"]
_WIDE = [*_NARROW, "headers", "payload", "key"]


Place = tuple[str, str, int]
"""A partition as the lake names it: topic, the first digits of its id, number."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Rejects of one topic and reason."""

    topic: str
    reason: str
    count: int
    oldest: datetime
    newest: datetime
    replayed: int
    kept: bool = True
    """Whether there are bytes to send."""

    @property
    def waiting(self) -> int:
        """Those that a replay would send."""
        return 0 if self.reason == ERASED or not self.kept else self.count - self.replayed


def keeps_bytes(lake: Lake) -> bool:
    """Whether the lake holds the bytes of rejected records (ENGAGEMENT_KEEP_BYTES)."""
    text = lake.read(LAKE_JSON)
    return text is None or LakeFormat.from_json(text).keep_bytes == "all"


@dataclass(frozen=True, slots=True)
class _Reject:
    """A reject without its bytes."""

    address: Address
    received_at: datetime
    reason: str


class DeadLetters:
    """The rejects of these sources."""

    def __init__(self, lake: Lake, files: Sequence[Source], unreadable: Sequence[UnreadableFile] = (), progress: Progress = silent) -> None:
        self._lake = lake
        self._files = files
        self.unreadable = unreadable
        """Objects whose rejects and replays are not known."""
        self._progress = progress
        self._seen: dict[tuple[str, Chain, int], list[_Reject]] = {}

    def topics(self) -> set[str]:
        """Topics of all objects, `import` for imported files."""
        return {raw.chain.topic for raw in self._files}

    def ends(self) -> dict[Place, int]:
        """From where on the lake does not tell what the log has: its end (R3), or the first object that cannot be read."""
        chains = [raw for raw in self._files if raw.chain.topic != IMPORT_TOPIC]
        found = {_place(raw.chain): raw.end for raw in sorted(chains, key=lambda raw: raw.start)}  # the greatest start comes last
        for place, doubt in self.doubts().items():
            found[place] = min(doubt.start, found.get(place, doubt.start))
        return found

    def doubts(self) -> dict[Place, UnreadableFile]:
        """The first object of a partition that cannot be read."""
        found: dict[Place, UnreadableFile] = {}
        for doubt in sorted(self.unreadable, key=lambda doubt: doubt.start):
            if doubt.chain.topic != IMPORT_TOPIC:
                found.setdefault(_place(doubt.chain), doubt)
        return found

    def count(self, selection: Selection) -> int:
        """How many letters are meant at most, from footers alone."""
        return sum(sum(selection.counts(raw).values()) for raw in self._files)

    def since(self, selection: Selection) -> datetime | None:
        """A time before which no letter in question lies; None where there is none."""
        return min((raw.first_received_at for raw in self._files if raw.first_received_at and selection.counts(raw)), default=None)

    def letters(self, selection: Selection) -> Iterator[Letter]:
        """The letters that are meant, whole; each partition's in the order of its log."""
        for raw in self._files:
            if selection.counts(raw):
                yield from self._letters(raw, selection)

    def newest(self, selection: Selection, limit: int) -> list[Letter]:
        """The letters received last, newest first; opens no more objects than it must."""
        newest: list[tuple[datetime, Address, Letter]] = []
        for raw in sorted((raw for raw in self._files if selection.counts(raw)), key=_last, reverse=True):
            if len(newest) == limit and _last(raw) < newest[0][0]:
                break
            for letter in self._letters(raw, selection):
                push = heappush if len(newest) < limit else heappushpop
                push(newest, (letter.received_at, letter.address, letter))
        return [letter for *_, letter in sorted(newest, reverse=True)]

    def at(self, addresses: Iterable[Address]) -> list[Letter]:
        """The letters of these addresses, in their order; raises PermanentError for one that is none."""
        wanted = list(addresses)
        found = {letter.address: letter for letter in self.letters(Selection(addresses=wanted))}
        for address in wanted:
            if address not in found:
                known = any(holds(raw, address) for raw in self._files)
                why = "that record was not rejected" if known else "the lake has no such record"
                raise PermanentError(f"no dead letter at {address}: {why}")
        return [found[address] for address in dict.fromkeys(wanted)]

    def tally(self, selection: Selection) -> list[Tally]:
        """Rejects by topic and reason, by number."""
        counts: dict[tuple[str, str], int] = {}
        where: dict[tuple[str, str], list[Source]] = {}
        for raw in self._files:
            for reason, count in self._counted(raw, selection).items():
                group = (raw.chain.topic, reason)
                counts[group] = counts.get(group, 0) + count
                where.setdefault(group, []).append(raw)
        replayed, kept = self._replayed(selection), keeps_bytes(self._lake)
        made = [
            Tally(*group, count, self._edge(where[group], group[1], selection, last=False),
                  self._edge(where[group], group[1], selection, last=True), replayed.get(group, 0), kept)
            for group, count in counts.items()
        ]  # fmt: skip
        return sorted(made, key=lambda tally: (tally.topic, -tally.count, tally.reason))

    def replays(self, since: datetime | None) -> Iterator[Replay]:
        """Every row with the replay header in objects of that time or later; nothing where there is no time."""
        if since is None:
            return
        objects = [raw for raw in self._files if raw.chain.topic != IMPORT_TOPIC and raw.rows and _last(raw) >= since - CLOCKS_DIFFER]
        for number, raw in enumerate(objects):
            self._progress("replays in the lake", number, len(objects))
            with sources.opened(self._lake, raw) as file:
                yield from _replays(file, raw)

    def _counted(self, raw: Source, selection: Selection) -> dict[str, int]:
        counts = selection.counts(raw)
        if not counts or selection.whole(raw):
            return counts
        exact: dict[str, int] = {}
        for reject in self._rejects(raw):
            if selection.takes(reject.reason, reject.received_at, reject.address):
                exact[reject.reason] = exact.get(reject.reason, 0) + 1
        return exact

    def _edge(self, objects: list[Source], reason: str, selection: Selection, *, last: bool) -> datetime:
        """The oldest or newest received_at of a reason; an object that cannot better it stays closed."""
        best: datetime | None = None
        for raw in sorted(objects, key=_last if last else _first, reverse=last):
            if best is not None and (_last(raw) <= best if last else _first(raw) >= best):
                break
            times = [
                reject.received_at
                for reject in self._rejects(raw)
                if reject.reason == reason and selection.takes(reason, reject.received_at, reject.address)
            ]
            best = (max if last else min)([*times, *([best] if best else [])])
        if best is None:
            raise PermanentError(f"{objects[0].key} counts rejects of {reason} in its footer and has none")
        return best

    def _replayed(self, selection: Selection) -> dict[tuple[str, str], int]:
        """Letters that are meant and replayed, by topic and reason: a look-up of the few that anything replays."""
        rows = list(self.replays(self.since(selection)))
        replays = Replays(rows)
        again = [(row.topic, _Reject(row.address, row.received_at, row.reason), row.origin) for row in rows if row.reason is not None]
        first = [(topic, reject, reject.address) for topic, reject in self._origins({row.origin for row in rows})]
        found: dict[tuple[str, str], int] = {}
        for topic, reject, origin in [*first, *again]:
            if selection.takes(reject.reason, reject.received_at, reject.address) and replays.answer(
                reject.address, origin, reject.received_at
            ):
                found[topic, reject.reason] = found.get((topic, reject.reason), 0) + 1
        return found

    def _origins(self, addresses: set[Address]) -> Iterator[tuple[str, _Reject]]:
        """The rejects at these addresses that are no replays themselves."""
        by_chain: dict[tuple[str, int], list[Address]] = {}
        for address in addresses:
            by_chain.setdefault((address.topic_id, address.partition), []).append(address)
        wanted: dict[tuple[str, Chain, int], tuple[Source, set[Address]]] = {}
        for raw in self._files:
            if not raw.rejects:
                continue
            for (topic_id, partition), members in by_chain.items():
                if raw.chain.partition == partition and topic_id.startswith(raw.chain.topic_id):
                    inside = {address for address in members if holds(raw, address)}
                    if inside:
                        wanted.setdefault(_name(raw), (raw, set()))[1].update(inside)
        for raw, inside in wanted.values():
            yield from ((raw.chain.topic, reject) for reject in self._rejects(raw) if reject.address in inside)

    def _rejects(self, raw: Source) -> list[_Reject]:
        if _name(raw) not in self._seen:
            with sources.opened(self._lake, raw) as file:
                self._seen[_name(raw)] = [
                    _Reject(_address(raw, row), row["received_at"].astimezone(UTC), row["reject_reason"])
                    for batch in sources.batches(file, raw, _NARROW)
                    for row in batch.filter(batch["reject_reason"].is_valid()).to_pylist()
                ]
        return self._seen[_name(raw)]

    def _letters(self, raw: Source, selection: Selection) -> Iterator[Letter]:
        with sources.opened(self._lake, raw) as file:
            for batch in sources.batches(file, raw, _WIDE):
                for row in batch.filter(batch["reject_reason"].is_valid()).to_pylist():
                    address, received_at = _address(raw, row), row["received_at"].astimezone(UTC)
                    if selection.takes(row["reject_reason"], received_at, address):
                        yield Letter(
                            raw.chain.topic, address, received_at, row["reject_reason"], row["payload"], row["key"],
                            _headers(row["headers"]), raw.source,
                        )  # fmt: skip


def _replays(file: pq.ParquetFile, raw: Source) -> Iterator[Replay]:
    import pyarrow.compute as pc

    for group, first, end in sources.row_groups(file, raw):
        column = _names_column(file, group)
        if column is None:
            continue
        names = file.read_row_group(group, columns=[column])["headers"].slice(first, end - first).combine_chunks()
        hits = pc.equal(pc.struct_field(pc.list_flatten(names), "name"), REPLAY_HEADER)
        rows = pc.unique(pc.filter(pc.list_parent_indices(names), hits))
        if not len(rows):
            continue
        wanted = ["kafka_topic_id", "kafka_partition", "kafka_offset", "received_at", "reject_reason", "headers"]
        for row in file.read_row_group(group, columns=wanted).slice(first, end - first).take(rows).to_pylist():
            origin = replay_of(_headers(row["headers"]))
            if origin is not None:
                address = Address(row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"])
                yield Replay(origin, address, raw.chain.topic, row["received_at"].astimezone(UTC), row["reject_reason"])


def _names_column(file: pq.ParquetFile, group: int) -> str | None:
    """Path of the column of header names, None where its statistics rule the replay header out."""
    metadata = file.metadata.row_group(group)
    for number in range(metadata.num_columns):
        column = metadata.column(number)
        path: str = column.path_in_schema
        if path.startswith("headers.") and path.endswith(".name"):
            told = column.statistics
            if told is None or (not told.has_min_max and told.num_values):
                return path
            return path if told.num_values and told.min <= REPLAY_HEADER <= told.max else None
    return None


def _name(raw: Source) -> tuple[str, Chain, int]:
    return raw.key, raw.chain, raw.start


def _address(raw: Source, row: dict[str, Any]) -> Address:
    return Address(row["kafka_topic_id"], raw.chain.partition, row["kafka_offset"])


def _headers(found: list[dict[str, Any]] | None) -> list[tuple[str, bytes | None]] | None:
    return None if found is None else [(header["name"], header["value"]) for header in found]


def _place(chain: Chain) -> Place:
    return chain.topic, chain.topic_id, chain.partition


def _first(raw: Source) -> datetime:
    return raw.first_received_at or datetime.min.replace(tzinfo=UTC)


def _last(raw: Source) -> datetime:
    return raw.last_received_at or datetime.min.replace(tzinfo=UTC)
