"""The chain audit: proof from footers alone that every chain runs from 0 to its end, each offset claimed once (R1-R5).

`examine` is a plain function over what was listed; `audit` lists. What footers prove: no claim is missing
between 0 and the end, none overlaps another, the counts fit the claims. What they cannot prove:

- that the *last* object of a chain is still there. The consumer would write it again from the log; what the
  tables were already made from (`reached`) shows where it did not.
- that a Kafka object has a row for each offset it claims. A log has holes of its own (control records and
  aborted records of transactions, compaction), so rows + gap <= end - start; the difference is reported as
  `without_rows` and is 0 where no producer uses transactions. An imported file has no holes: rows = end - start.
- that an import reached the end of its file, where its last object is full: then `may_go_on` is true, and the
  same import again either finds it complete or completes it. A shorter last object is the file's end, because
  importing cuts every IMPORT_ROWS rows whatever the settings.
- that the bytes of the columns are intact: only reading them does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from engagement.raw.chain import Coverage
from engagement.raw.coverage import Gap, Range
from engagement.raw.findings import Audit, Backwards, ChainAudit, Duplicate, Finding, Hole, Miscounted, Overlap, Unreadable, UnreadablePart
from engagement.raw.footers import RawFile
from engagement.raw.index import RawIndex, UnreadableFile
from engagement.raw.names import IMPORT_TOPIC, Chain

IMPORT_ROWS = 500_000
"""Rows of every object of an import but the last (`ingest.importer.ROWS_PER_OBJECT`)."""


@dataclass(frozen=True, slots=True)
class _Claim:
    """A raw object or an archived range, as the walk along a chain sees it."""

    start: int
    end: int
    rows: int = 0
    good: int = 0
    rejects: Mapping[str, int] = field(default_factory=dict)
    gaps: tuple[Gap, ...] = ()
    first_received_at: datetime | None = None
    last_received_at: datetime | None = None
    unreadable: str | None = None
    expired: int = 0

    @property
    def lost(self) -> int:
        """Offsets that its gap records explain."""
        return sum(gap.offsets for gap in self.gaps)

    @staticmethod
    def of_file(raw: RawFile) -> _Claim:
        gaps = (Gap(*raw.gap),) if raw.gap else ()
        good = sum(raw.event_slots.values())
        return _Claim(raw.start, raw.end, raw.rows, good, raw.rejects, gaps, raw.first_received_at, raw.last_received_at)

    @staticmethod
    def of_range(item: Range) -> _Claim:
        good = sum(slot.rows for slot in item.slots.values())
        times = item.first_received_at, item.last_received_at
        return _Claim(item.start, item.end, item.rows, good, item.rejects, item.gaps, *times, expired=item.expired)


def examine(
    label: str,
    files: Sequence[RawFile],
    ranges: Sequence[Range] = (),
    unreadable: Sequence[UnreadableFile] = (),
    reached: int = 0,
) -> ChainAudit:
    """Audit one chain: its raw objects, what archive parts hold of it, its objects that cannot be read.

    `reached` is the end of the records that tables were made from: a chain that ends before lost its last objects.
    """
    coverage = Coverage.of(item.link for item in ranges)
    files = [raw for raw in files if not raw.sealed]  # a seal only takes a name
    seen = [raw for raw in files if not coverage.holds(raw.start)]
    dark = [item for item in unreadable if not coverage.holds(item.start)]
    is_import = Chain.parse(label).topic == IMPORT_TOPIC
    claims = sorted([*map(_Claim.of_file, seen), *map(_Claim.of_range, ranges)], key=_by_start)
    walked = sorted([*claims, *_dark(dark, claims)], key=_by_start)
    findings, end = _walk(label, walked)
    findings += [Hole(label, end, reached)] if end < reached else []
    findings += [Miscounted(label, claim.start, claim.end, why) for claim in claims for why in _miscounts(claim, exact=is_import)]
    offsets, rows, lost = (sum(values) for values in zip((0, 0, 0), *((c.end - c.start, c.rows, c.lost) for c in claims), strict=True))
    expired = sum(claim.expired for claim in claims)
    return ChainAudit(
        label,
        end,
        files=len(seen),
        hidden=len(files) - len(seen) + len(unreadable) - len(dark),
        archived=len(ranges),
        rows=rows,
        without_rows=max(0, offsets - rows - lost - expired),
        expired=expired,
        rejects=_added(claim.rejects for claim in claims),
        gaps=_gaps(claims),
        findings=tuple(sorted(findings, key=lambda found: (found.start, found.end, found.kind))),
        may_go_on=is_import and bool(claims) and claims[-1].end - claims[-1].start == IMPORT_ROWS,
    )


def _by_start(claim: _Claim) -> tuple[int, int]:
    return claim.start, claim.end


def _dark(unreadable: Iterable[UnreadableFile], claims: Iterable[_Claim]) -> list[_Claim]:
    """Claims of objects that cannot be read: each is taken to reach to the next claim, as it must have done."""
    starts = sorted({claim.start for claim in claims} | {item.start for item in unreadable})
    return [
        _Claim(item.start, next((start for start in starts if start > item.start), item.start), unreadable=item.why) for item in unreadable
    ]


def _walk(label: str, claims: Sequence[_Claim]) -> tuple[list[Finding], int]:
    """Findings along the chain, and its end."""
    findings: list[Finding] = []
    position = 0
    before: tuple[int, int] | None = None
    for claim in claims:
        if claim.unreadable is not None:
            findings.append(Unreadable(label, claim.start, claim.end, claim.unreadable))
        elif claim.end <= claim.start:
            findings.append(Backwards(label, claim.start, claim.end))
        if claim.start > position:
            findings.append(Hole(label, position, claim.start))
        elif before == (claim.start, claim.end):
            findings.append(Duplicate(label, claim.start, claim.end))
        elif claim.start < min(claim.end, position):
            findings.append(Overlap(label, claim.start, min(claim.end, position)))
        position = max(position, claim.end)
        before = (claim.start, claim.end)
    return findings, position


def _miscounts(claim: _Claim, *, exact: bool) -> Iterator[str]:
    """Why the counts of one claim cannot be; `exact` where every offset has a row."""
    offsets, bad = claim.end - claim.start, sum(claim.rejects.values())
    rows = claim.rows + claim.expired
    if rows + claim.lost > offsets:
        yield f"{rows} rows and {claim.lost} lost offsets do not fit into {offsets} offsets"
    elif exact and rows != offsets:
        yield f"{rows} rows of {offsets} lines of an imported file"
    if claim.good + bad != claim.rows:
        yield f"{claim.rows} rows, but {claim.good} good and {bad} rejected"
    for gap in claim.gaps:
        if not claim.start <= gap.start < gap.end <= claim.end:
            yield f"records a gap [{gap.start}, {gap.end}) outside its claim"


def _gaps(claims: Sequence[_Claim]) -> tuple[Gap, ...]:
    """Recorded gaps, with the times of the records before and behind them where they do not know them themselves."""
    found: list[Gap] = []
    open_from = 0
    after: datetime | None = None
    for claim in claims:
        if came := claim.first_received_at:
            found[open_from:] = [replace(gap, before=gap.before or came) for gap in found[open_from:]]
            open_from = len(found)
        found += [replace(gap, after=gap.after or after) for gap in claim.gaps]
        after = claim.last_received_at or after
    return tuple(found)


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for found in counts:
        for name, count in found.items():
            total[name] = total.get(name, 0) + count
    return dict(sorted(total.items()))


def audit(index: RawIndex, reached: Mapping[str, int] | None = None) -> Audit:
    """Audit every chain of the lake, `reached` by label as in `examine`.

    A listing is no snapshot: it may miss an object that came while it ran and show the next one. So what looks wrong
    is looked at once more. 10,000 objects cost 0.2 CPU-seconds, and 2 where the index does not know them yet.
    """
    found = _look(index, reached or {})
    return _look(index, reached or {}) if found.findings else found


def _look(index: RawIndex, reached: Mapping[str, int]) -> Audit:
    """One audit. `sync` lists raw first, then the archive, never the other way round (R5)."""
    index.sync()
    files: dict[str, list[RawFile]] = {}
    for raw in index.files():
        files.setdefault(raw.chain.label, []).append(raw)
    unreadable: dict[str, list[UnreadableFile]] = {}
    for item in index.unreadable():
        unreadable.setdefault(item.chain.label, []).append(item)
    archive = index.archive()
    ranges = archive.ranges()
    labels = sorted(files.keys() | unreadable.keys() | ranges.keys() | reached.keys())
    chains = (
        examine(label, files.get(label, ()), ranges.get(label, ()), unreadable.get(label, ()), reached.get(label, 0)) for label in labels
    )
    return Audit(tuple(chains), tuple(UnreadablePart(key, why) for key, why in sorted(archive.unreadable.items())))
