"""The comparison of the lake with the log, record by record: pure findings, and the reader of raw objects that feeds them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engagement.lake import Lake
from engagement.raw import files, footers
from engagement.raw.names import topic_chain
from engagement.settings import Settings
from faults.log import History, Log, Logged
from faults.traffic import EXPECT, GOOD

SHOWN = 5


@dataclass(slots=True)
class Findings:
    """What is wrong, by kind, with the first few places; and how much was compared."""

    wrong: Counter[str] = field(default_factory=Counter)
    places: dict[str, list[str]] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)

    def note(self, what: str, where: str) -> None:
        self.wrong[what] += 1
        places = self.places.setdefault(what, [])
        if len(places) < SHOWN:
            places.append(where)

    def add(self, other: Findings) -> None:
        self.wrong += other.wrong
        self.counted += other.counted
        for what, places in other.places.items():
            self.places[what] = (self.places.get(what, []) + places)[:SHOWN]

    def __str__(self) -> str:
        shown = [f"{self.wrong[what]} {what}" for what in ("lost", "doubled")]
        shown += [f"{count} {what}" for what, count in sorted(self.wrong.items()) if what not in ("lost", "doubled")]
        return "\n".join([", ".join(shown), *(f"  {what}: {'; '.join(places)}" for what, places in self.places.items())])


def compare(
    shown: str, history: History, objects: Iterable[tuple[footers.RawFile, list[dict[str, Any]]]], acknowledged: Iterable[int] = ()
) -> Findings:
    """One partition: all its log ever held against its raw objects in the order of their names."""
    found = Findings()
    records = history.records
    seen: set[int] = set()
    gone: set[int] = set()
    end = 0
    for raw, rows in objects:
        _compare_object(found, shown, raw, end, len(rows), history.cuts)
        end = max(end, raw.end)
        gone.update(range(*(raw.gap or (0, 0))))
        for row in rows:
            offset = row["kafka_offset"]
            if not raw.start <= offset < raw.end:
                found.note("outside their claim", f"{shown}/{offset} in [{raw.start}, {raw.end})")
            if trouble := "doubled" if offset in seen else _wrong(row, records.get(offset), offset in history.aborted):
                found.note(trouble, f"{shown}/{offset}")
            seen.add(offset)
    for offset in sorted(seen & gone):
        found.note("visible though recorded as a gap", f"{shown}/{offset}")
    for offset in sorted(records.keys() - seen - gone):
        found.note("lost" if offset < end else "not read to the end", f"{shown}/{offset}")
    for offset in sorted(set(acknowledged) - records.keys()):
        found.note("acknowledged but not in the log", f"{shown}/{offset}")
    rejects = sum(EXPECT_GOOD not in record.headers for record in records.values())
    counted = {"records": len(records), "rejects": rejects, "aborted": len(history.aborted), "in gaps": len(records.keys() & gone)}
    found.counted.update(counted)
    return found


def _compare_object(found: Findings, shown: str, raw: footers.RawFile, end: int, rows: int, cuts: set[int]) -> None:
    """An object itself: its place in the chain, its count, and a gap only up to where the log really was cut."""
    if raw.start != end:
        found.note("broken chains", f"{shown}: {raw.start} after an object that ends at {end}")
    if raw.rows != rows:
        found.note("wrong footers", f"{shown}: {raw.start} says {raw.rows} rows, has {rows}")
    if raw.gap and not (raw.gap == (raw.start, raw.end) and raw.end in cuts and not rows):
        found.note("wrong gaps", f"{shown}: {raw.gap} with {rows} rows, the log was cut at {sorted(cuts)}")
    found.counted["objects"] += 1


EXPECT_GOOD = (EXPECT, GOOD)


def _wrong(row: Mapping[str, Any], record: Logged | None, aborted: bool) -> str | None:
    """In what a row is not its record; None where it is."""
    if record is None:
        return "aborted but visible" if aborted else "not in the log"
    good = EXPECT_GOOD in record.headers
    sent = json.loads(record.value or b"") if good else {}
    is_so = {
        "headers": tuple((header["name"], header["value"]) for header in row["headers"]) == record.headers,
        "received_at": round(row["received_at"].timestamp() * 1000) == record.millis,
        "reject_reason": bool(row["reject_reason"]) != good,
        "payload": row["payload"] == (None if good else record.value),
        "key": row["key"] == (None if good else record.key),
        **{name: row[name] == sent.get(name) for name in ("event_id", "user_id", "event_type")},
    }
    wrong = [name for name, right in is_so.items() if not right]
    return f"of different {', '.join(wrong)}" if wrong else None


def objects(lake: Lake, topic: str, topic_id: str, number: int) -> Iterable[tuple[footers.RawFile, list[dict[str, Any]]]]:
    """Footer and rows of each raw object of a partition, by name."""
    import pyarrow.parquet as pq

    chain = topic_chain(topic, topic_id, number)
    for found, start in sorted(files.names(lake)):
        if found == chain:
            raw = files.read_footer(lake, chain, start)
            yield raw, pq.ParquetFile(lake.path(chain.key(start))).read().to_pylist()


def judge(settings: Settings, lake: Lake, ids: Mapping[str, str], log: Log, acknowledged: Mapping[tuple[str, int], list[int]]) -> Findings:
    """All partitions."""
    total = Findings()
    for topic in settings.topics:
        for number in range(settings.topic_partitions):
            found = objects(lake, topic, ids[topic], number)
            total.add(compare(f"{topic}/{number}", log.history(topic, number), found, acknowledged.get((topic, number), [])))
    return total
