"""Raw objects: how they are written and found. What their footers say is in `footers`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from engagement.lake import Lake, LakeUnavailable
from engagement.raw import footers
from engagement.raw.chain import Link
from engagement.raw.erasures import NOBODY, Erasures
from engagement.raw.footers import FOOTER_KEY, RawFile
from engagement.raw.names import RAW, Chain, parse_key
from engagement.raw.rows import Batch

if TYPE_CHECKING:
    import pyarrow as pa

LISTINGS = 3


def write(lake: Lake, chain: Chain, start: int, end: int, batch: Batch, source: str | None = None, erasures: Erasures = NOBODY) -> RawFile:
    """Publish the rows of [start, end) under the claim's name, those of erased users as `erased` rows.

    `erasures` was read no earlier than the look that gave `start`. Raises AlreadyExists where another writer made the
    claim first (the fence), LakeUnavailable.
    """
    batch = erasures.applied(batch)
    raw = RawFile(
        chain, start, end, batch.table.num_rows, batch.rejects, batch.event_slots, None, batch.first_received_at, batch.last_received_at,
        source, batch.noticed, erasures=erasures.length,
    )  # fmt: skip
    entry = lake.put_new(raw.key, encode(batch.table, raw))
    return replace(raw, size=entry.size, version=entry.version)


def write_gap(lake: Lake, chain: Chain, start: int, end: int, erasures: Erasures = NOBODY) -> RawFile:
    """Claim offsets that the log no longer has, as a zero-row object (R3); raises as `write`."""
    from engagement.raw import rows

    raw = RawFile(chain, start, end, 0, gap=(start, end), erasures=erasures.length)
    lake.put_new(raw.key, encode(rows.schema().empty_table(), raw))
    return raw


def seal(lake: Lake, chain: Chain, end: int, erasures: Erasures) -> RawFile:
    """Take the name behind a chain's end, so that nobody who still holds its records can write them; raises as `write`."""
    from engagement.raw import rows

    raw = RawFile(chain, end, end, 0, erasures=erasures.length, sealed=True)
    lake.put_new(raw.key, encode(rows.schema().empty_table(), raw))
    return raw


def names(lake: Lake) -> Iterator[tuple[Chain, int]]:
    """Chain and start of every raw object."""
    for entry in lake.list(RAW):
        parsed = parse_key(entry.key)
        if parsed is not None:
            yield parsed


def read_footer(lake: Lake, chain: Chain, start: int) -> RawFile:
    """The footer of one object; raises footers.Unreadable where the object is not ours, FileNotFoundError where it is gone."""
    return footers.read(lake, chain.key(start))


def last_link(lake: Lake, chain: Chain) -> Link | None:
    """The claim with the greatest start of a chain, or None where it is empty (R3).

    Raises LakeUnavailable, PermanentError where that object cannot be read: where to go on is then unknown.
    """
    for _ in range(LISTINGS):
        starts = [parsed[1] for entry in lake.list(chain.folder) if (parsed := parse_key(entry.key))]
        if not starts:
            return None
        try:
            return read_footer(lake, chain, max(starts)).link
        except FileNotFoundError:  # a newer one came and this one was archived and deleted: list again
            continue
    raise LakeUnavailable(f"{lake.name(chain.folder)}: its last object vanished at each of {LISTINGS} listings")


def encode(table: pa.Table, raw: RawFile) -> memoryview:
    """The bytes of a raw object."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    low_cardinality = ["kafka_topic", "kafka_topic_id", "event_type", "device_type", "device_model", "os_version", "locale",
                       "app_version", "country", "region", "city", "reject_reason"]  # fmt: skip
    rising = dict.fromkeys(("kafka_offset", "received_at", "event_time"), "DELTA_BINARY_PACKED")
    with pq.ParquetWriter(sink, table.schema, compression="zstd", use_dictionary=low_cardinality, column_encoding=rising) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({FOOTER_KEY: raw.to_json().encode()})
    return memoryview(sink.getvalue())
