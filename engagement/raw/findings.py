"""What the chain audit can find, and its verdict, as plain values (`audit` finds them)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from engagement.raw.coverage import Gap

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with the offsets [start, end) of a chain."""

    chain: str
    start: int
    end: int

    @property
    def kind(self) -> str:
        """Name of the kind of finding, as JSON and metadata show it."""
        return type(self).__name__.lower()

    @property
    def text(self) -> str:
        """One line for a person."""
        raise NotImplementedError

    @property
    def _where(self) -> str:
        return f"{self.chain} offsets [{self.start}, {self.end})"


@dataclass(frozen=True, slots=True)
class Hole(Finding):
    """Offsets that no object claims and no gap record explains: lost after they were read."""

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self._where}: no object claims them and no gap record explains it"


@dataclass(frozen=True, slots=True)
class Overlap(Finding):
    """Offsets that two claims hold: their rows are seen twice."""

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self._where}: two claims hold them, their rows are seen twice"


@dataclass(frozen=True, slots=True)
class Duplicate(Finding):
    """One claim that stands twice, start and end alike."""

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self._where}: the same claim stands twice"


@dataclass(frozen=True, slots=True)
class Backwards(Finding):
    """A claim that ends where or before it starts."""

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self._where}: the claim ends before it begins"


@dataclass(frozen=True, slots=True)
class Miscounted(Finding):
    """Counts that cannot be: more rows than offsets, or rows that are neither good nor rejected."""

    why: str

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self._where}: {self.why}"


@dataclass(frozen=True, slots=True)
class Unreadable(Finding):
    """A raw object that claims offsets and cannot be read; `end` is the next claim's start, or `start` for the last."""

    why: str

    @property
    def text(self) -> str:
        """One line for a person."""
        upto = f"[{self.start}, {self.end})" if self.end > self.start else f"from {self.start}"
        return f"{self.chain} offsets {upto}: its object {self.why}"


@dataclass(frozen=True, slots=True)
class UnreadablePart:
    """An archive part that cannot be read: nobody knows what it covers."""

    key: str
    why: str
    kind: str = "unreadablepart"

    @property
    def text(self) -> str:
        """One line for a person."""
        return f"{self.key}: the archive part cannot be read: {self.why}"


@dataclass(frozen=True, slots=True)
class ChainAudit:
    """One chain: what it holds, each offset once, and what is wrong with it."""

    chain: str
    end: int
    files: int
    """Raw objects that readers see."""
    hidden: int
    """Raw objects whose rows the archive holds as well: readers ignore them (R5)."""
    archived: int
    """Ranges that archive parts hold."""
    rows: int
    without_rows: int
    """Claimed offsets with neither row nor gap record: holes of the log itself."""
    rejects: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    findings: tuple[Finding, ...] = ()
    expired: int = 0
    """Rows that retention took; their offsets are still claimed."""
    may_go_on: bool = False
    """An import whose last object is full: the file may have been longer."""

    @property
    def whole(self) -> bool:
        """Whether the chain runs from 0 to its end, each offset claimed once."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class Audit:
    """All chains, and archive parts that cannot be read."""

    chains: tuple[ChainAudit, ...] = ()
    parts: tuple[UnreadablePart, ...] = ()

    @property
    def findings(self) -> tuple[Finding | UnreadablePart, ...]:
        """Everything that is wrong."""
        return (*self.parts, *(finding for chain in self.chains for finding in chain.findings))

    @property
    def gaps(self) -> tuple[tuple[str, Gap], ...]:
        """Recorded gaps with their chain, oldest first; those behind which nothing came yet are the newest."""
        found = [(chain.chain, gap) for chain in self.chains for gap in chain.gaps]
        return tuple(sorted(found, key=lambda item: (item[1].before or _NEVER, item[0], item[1].start)))

    @property
    def verdict(self) -> str:
        """One line: how many chains are whole, how much is recorded as lost, how much is wrong."""
        whole = sum(chain.whole for chain in self.chains)
        lost = sum(gap.offsets for _, gap in self.gaps)
        words = [f"{whole} of {len(self.chains)} chains whole" if whole < len(self.chains) else f"chains {whole} whole"]
        words += [f"{_count(len(self.gaps), 'gap')} of {_count(lost, 'record')}"] if self.gaps else []
        words += [f"{_count(len(self.findings), 'problem')}"] if self.findings else []
        return ", ".join(words)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
