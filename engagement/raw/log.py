"""The whole log as one look found it: the objects that hold every record exactly once (R5), for readers of everything.

Which rows are meant, and how many objects are read at once, is theirs to say. Planning reads `index`, never this: it
opens the footer of every archive part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from engagement.lake import Changed, Entry, Lake, LakeUnavailable
from engagement.raw.chain import NO_COVERAGE, Coverage, Link
from engagement.raw.coverage import ARCHIVE, PartName, read_part
from engagement.raw.names import RAW, Chain, parse_key

LOOKS = 3


@dataclass(frozen=True, slots=True)
class Log:
    """Raw objects that no part covers, and all archive parts; no record is in two of them."""

    raw: tuple[Entry, ...]
    parts: tuple[Entry, ...]
    coverage: Mapping[str, Coverage] = field(default_factory=dict)
    """Chain label -> what the parts cover of it."""

    @property
    def objects(self) -> tuple[Entry, ...]:
        """What is to be read, by key."""
        return (*self.parts, *self.raw)

    def hides(self, key: str) -> bool:
        """Whether a part covers the raw object of this key, which then nobody reads and which may be deleted at any time."""
        parsed = parse_key(key)
        return parsed is not None and _hidden(self.coverage, *parsed)


def look(lake: Lake) -> Log:
    """The log now: raw is listed first, then the archive of all days.

    Raises UnreadablePart where a part cannot be read, for what it covers is not known then; LakeUnavailable.
    """
    for _ in range(LOOKS):
        raw = [(entry, parsed) for entry in lake.list(RAW) if (parsed := parse_key(entry.key))]
        parts = tuple(entry for entry in lake.list(ARCHIVE) if PartName.parse(entry.key))
        ranges: dict[str, list[Link]] = {}
        try:
            for entry in parts:
                for label, found in read_part(lake, entry.key).ranges.items():
                    ranges.setdefault(label, []).extend(item.link for item in found)
        except FileNotFoundError:  # retention took a part since the listing
            continue
        coverage = {label: Coverage.of(links) for label, links in ranges.items()}
        return Log(tuple(entry for entry, parsed in raw if not _hidden(coverage, *parsed)), parts, coverage)
    raise LakeUnavailable(f"{lake.name(ARCHIVE)}: parts vanished at each of {LOOKS} looks")


def _hidden(coverage: Mapping[str, Coverage], chain: Chain, start: int) -> bool:
    return coverage.get(chain.label, NO_COVERAGE).holds(start)


def require_same(lake: Lake, found: Log) -> None:
    """Raises Changed where an object of the log was deleted or replaced since; to be asked after its rows were read.

    A freed name may have been taken by a writer that slept through it all: its rows are in the archive too.
    """
    now = {entry.key: entry.version for folder in (RAW, ARCHIVE) for entry in lake.list(folder)}
    for entry in found.objects:
        if now.get(entry.key) != entry.version:
            msg = f"{entry.key} was {'replaced' if entry.key in now else 'deleted'} while it was read"
            raise Changed(msg)
