"""Raw footers read with suspicion: an object counts only if its name, its footer and its rows agree.

Parquet's own footer knows the number of rows and the least and greatest offset, so no row is opened. What it
cannot show is damage inside the column data; whoever reads the rows finds that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engagement.errors import PermanentError
from engagement.lake import Lake
from engagement.raw.files import FOOTER_KEY, RawFile
from engagement.raw.names import parse_key


class Unreadable(PermanentError):
    """The object is no raw object of this program, or contradicts itself; `why` goes on from its name."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")
        self.why = why


def read(lake: Lake, key: str) -> RawFile:
    """The footer under a raw key; raises Unreadable, FileNotFoundError where the object is gone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = lake.path(key)
    try:
        metadata = pq.read_metadata(path)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:  # a damaged Parquet footer is an OSError too
        raise Unreadable(path, f"is no Parquet file, or the disk lost part of it ({' '.join(str(error).split())})") from error
    text = (metadata.metadata or {}).get(FOOTER_KEY)
    if text is None:
        raise Unreadable(path, f"has no {FOOTER_KEY.decode()} footer: it was not written by this program")
    try:
        raw = RawFile.from_json(text)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(path, f"has an {FOOTER_KEY.decode()} footer of another shape ({type(error).__name__}: {error})") from error
    if why := disagreement(key, raw, metadata):
        raise Unreadable(path, why)
    return raw


def disagreement(key: str, raw: RawFile, metadata: Any) -> str | None:
    """How the footer contradicts the object's name or Parquet's own facts, None where they agree."""
    if (raw.chain, raw.start) != parse_key(key) or raw.key != key:
        return f"says it is {raw.key}: it was copied or renamed"
    if metadata.num_rows != raw.rows:
        return f"says it has {raw.rows} rows, and has {metadata.num_rows}"
    place = metadata.schema.names.index("kafka_offset") if "kafka_offset" in metadata.schema.names else None
    if place is None:
        return "has no column kafka_offset"
    for number in range(metadata.num_row_groups):
        known = metadata.row_group(number).column(place).statistics
        if known is not None and known.has_min_max and not (raw.start <= known.min and known.max < raw.end):
            return f"claims offsets {raw.start} to {raw.end - 1}, and has rows of {known.min} to {known.max}"
    return None
