"""A log that keeps less of a person than it did: rows of a backup rewritten on their way into a new lake (decision 0016).

Plain ids become pseudonyms, pseudonyms of an old key those of old and new key together, places and locales coarser,
bytes of rejects nothing. Never the other way: what is not there cannot come back. Coordinates, claims and counts stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

from engagement.errors import PermanentError
from engagement.lake import LakeFormat, key_check
from engagement.raw import compaction, erasures, files, rows
from engagement.raw.coverage import Part
from engagement.raw.footers import FOOTER_KEY, RawFile
from engagement.raw.names import parse_key
from engagement.raw.privacy import DIGITS, HASHED, PLAIN, KeyMissing, Policy, pseudonym
from engagement.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

COARSER: Mapping[str, tuple[str, ...]] = {
    "user_ids": (PLAIN, HASHED), "keep_place": ("city", "region", "country"), "keep_locale": ("full", "language", "none"),
    "keep_bytes": ("all", "none"),
}  # fmt: skip
"""Setting -> its values, each keeping less than the one before."""
FREE = ("session_mode", "session_gap_seconds", "history_start")
"""What the log does not depend on: a lake made from a backup may be cut otherwise in it."""


@dataclass(frozen=True, slots=True)
class Recast:
    """What becomes of a backup's log: the new lake's format, and the policy that its rows go through; None leaves them alone."""

    format: LakeFormat
    policy: Policy | None = None

    def rewritten(self, key: str, data: memoryview) -> memoryview:
        """A raw object or archive part under the policy, with its footer; a part row group by row group."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        file = pq.ParquetFile(pa.BufferReader(data))
        footer, schema = file.metadata.metadata[FOOTER_KEY], rows.schema()
        if parse_key(key):
            return files.encode(self._under(file.read()), RawFile.from_json(footer))
        sink = BytesIO()
        with compaction.writer_of(sink, schema) as writer:
            for number in range(file.num_row_groups):
                held = self._under(file.read_row_group(number))
                writer.write_table(compaction.fitted(held, schema), row_group_size=max(1, held.num_rows))
            writer.add_key_value_metadata(compaction.footer(Part.from_json(footer), schema))
        return sink.getbuffer()

    def _under(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        policy = self.policy or Policy()
        table = table.replace_schema_metadata(None)
        plain = table.cast(pa.schema([_plain(field) for field in table.schema]))
        return pa.Table.from_batches([_rows(batch, policy) for batch in plain.to_batches()], plain.schema)


def wished(settings: Settings, held: LakeFormat) -> Recast:
    """What the settings want of a lake made from a backup of such a one.

    Raises PermanentError for what a log cannot become, KeyMissing where the old key is not the first of ENGAGEMENT_HASH_KEY.
    """
    wishes = {name: getattr(settings, name) for name in (*FREE, *COARSER) if name in settings.sources}
    if "slot_minutes" in settings.sources and settings.slot_minutes != held.slot_minutes:
        raise PermanentError(
            f"ENGAGEMENT_SLOT_MINUTES={settings.slot_minutes}, but the backup's log is cut by {held.slot_minutes}: unset it"
        )
    for name, values in COARSER.items():
        if name in wishes and values.index(wishes[name]) < values.index(getattr(held, name)):
            raise PermanentError(
                f"ENGAGEMENT_{name.upper()}={wishes[name]}, but the backup keeps {getattr(held, name)}: the rest is not there any more"
            )
    made = replace(held, **wishes)
    keys = _more_keys(settings, held, made)
    if made.user_ids == HASHED and keys:
        made = replace(made, hash_key_check=key_check(settings.hash_keys))
    made = replace(made, format_version=2 if made.privacy else 1)
    same = not keys and all(getattr(made, name) == getattr(held, name) for name in COARSER)
    return Recast(made, None if same else Policy(HASHED if keys else PLAIN, made.keep_place, made.keep_locale, made.keep_bytes, keys))


def erased_also(settings: Settings, held: LakeFormat, documents: Mapping[str, bytes]) -> list[str]:
    """Pseudonyms of erased users that the list of a lake whose ids change has to have too, so that what arrives of them stays erased.

    `documents` are the list's objects by key. A pseudonym is the beginning of the hash that the list has of the id, if
    that was made with the first key. Raises PermanentError where it was not.
    """
    keys = settings.hash_keys
    names: set[str] = set()
    for key, text in documents.items():
        document = json.loads(text)
        if document["check"] != erasures.check_of(keys[0]) or (held.user_ids == HASHED and key_check(keys[:1]) != held.hash_key_check):
            raise PermanentError(
                f"{key} tells erased users by hashes of another key than the first of ENGAGEMENT_HASH_KEY: nobody could know them again"
            )
        names |= {str(name)[:DIGITS] for name in document["users"]}
    return sorted(pseudonym(keys[1:], name) for name in names)


def _more_keys(settings: Settings, held: LakeFormat, made: LakeFormat) -> tuple[bytes, ...]:
    """The keys that stored ids are to be hashed under."""
    keys = settings.hash_keys
    if made.user_ids == PLAIN or (held.user_ids == HASHED and not keys):
        return ()
    if held.user_ids == PLAIN:
        key_check(keys)  # raises where there is none
        return keys
    for count in range(len(keys), 0, -1):
        if key_check(keys[:count]) == held.hash_key_check:
            return keys[count:]
    raise KeyMissing("ENGAGEMENT_HASH_KEY does not begin with the key of the backup's pseudonyms: after a rotation it is old,new")


def _plain(field: pa.Field) -> pa.Field:
    import pyarrow as pa

    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _rows(batch: pa.RecordBatch, policy: Policy) -> pa.RecordBatch:
    import pyarrow as pa

    columns = {name: batch.column(place) for place, name in enumerate(batch.schema.names)}
    columns |= policy.columns(columns)
    if policy.keep_bytes == "none":
        held = [found and [(item["name"], item["value"]) for item in found] for found in columns["headers"].to_pylist()]
        columns["headers"] = rows.header_array(policy.headers(held))
        columns |= {name: pa.nulls(batch.num_rows, pa.binary()) for name in ("payload", "key")}
    return pa.RecordBatch.from_pydict(columns, batch.schema)
