"""Whether an archive part holds what its footer tells: every byte of it is read once, before the originals may go (R5)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from engagement.errors import PermanentError
from engagement.lake import Entry, Lake
from engagement.raw.coverage import Part
from engagement.raw.names import Chain

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 65_536


def of_part(lake: Lake, entry: Entry, part: Part) -> str | None:
    """Why the part does not hold what its footer tells; None where it does."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        (path,) = lake.local([entry])
        with pq.ParquetFile(path) as file:
            return _disagreement(part, file.iter_batches(BATCH_ROWS))
    except FileNotFoundError:
        return "it is gone"
    except (pa.ArrowException, OSError, PermanentError) as error:
        return f"it cannot be read: {' '.join(str(error).split())}"


def _disagreement(part: Part, batches: Iterable[pa.RecordBatch]) -> str | None:
    """The first range that has other rows than it says. Ranges without rows have none to check."""
    ranges = [(label, item, place) for label, item, place in part.in_order() if item.rows]
    at, row = 0, 0
    for batch in batches:
        first = row
        while first < row + batch.num_rows:
            if at == len(ranges):
                return "it has more rows than its ranges"
            label, item, place = ranges[at]
            end = min(place + item.rows, row + batch.num_rows)
            if not _within(batch.slice(first - row, end - first), Chain.parse(label), item.start, item.end):
                return f"its rows {first} to {end} are not of {label} [{item.start}, {item.end})"
            first = end
            at += end == place + item.rows
        row += batch.num_rows
    return None if at == len(ranges) else f"its range {ranges[at][0]} [{ranges[at][1].start}, {ranges[at][1].end}) lacks rows"


def _within(rows: pa.RecordBatch, chain: Chain, start: int, end: int) -> bool:
    """Whether these rows are of the chain and the offsets, each offset once and rising."""
    import pyarrow.compute as pc

    offsets = rows["kafka_offset"].to_numpy()
    rising = bool((offsets[1:] > offsets[:-1]).all())
    same = pc.all(pc.equal(rows["kafka_partition"], chain.partition)).as_py() and pc.all(
        pc.starts_with(rows["kafka_topic_id"], chain.topic_id)
    ).as_py()  # fmt: skip
    return rising and same is True and start <= offsets[0] and bool(offsets[-1] < end)
