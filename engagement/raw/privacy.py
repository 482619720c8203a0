"""What of a person is stored: pseudonyms in place of user ids, coarser places and locales, no bytes of rejects (decision 0016).

Applied where records become rows, before anything is written, so nothing behind raw ever sees what was left out.
A policy is a lake's for its life and stands in its `lake.json`: under two policies one person would be two users.
Pure but for `stored_user_id`, which looks the policy up. What is inside `properties` is the app's own and is kept as it came;
only unknown fields of geo_location, which may be coordinates, go with the city. Erasure is another matter (`raw.erasures`).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from engagement.errors import PermanentError
from engagement.lake import LakeFormat, key_check, open_lake
from engagement.raw.names import REPLAY_HEADER
from engagement.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

Headers = Sequence[tuple[str, bytes | None]]
PLAIN, HASHED = "plain", "hashed"
DIGITS = 32
"""Hex digits of a pseudonym: 128 bits, so that among a billion users two share one with a chance of about 10^-21."""
REMEMBERED = 200_000
"""Pseudonyms a process keeps: users come back within minutes, and a hash costs more than a look-up."""
_REPLAY_OF = re.compile(rb"[0-9a-f]{32}(?:[0-9a-f]{32})?/[0-9]{1,10}/[0-9]{1,19}")
_LANGUAGE = r"\A(?P<language>[A-Za-z]{2,8})(?:[-_.@]|\z)"
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


class KeyMissing(PermanentError):
    """The lake holds pseudonyms, and the key that makes them is not set or is another one."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What raw rows keep of a person; the default keeps everything as it came."""

    user_ids: str = PLAIN
    keep_place: str = "city"
    keep_locale: str = "full"
    keep_bytes: str = "all"
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    _known: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @staticmethod
    def of(settings: Settings, lake: LakeFormat) -> Policy:
        """The policy of a lake; raises KeyMissing where its user ids are hashed and the key is not at hand."""
        keys = settings.hash_keys
        if lake.user_ids == HASHED:
            _require(keys, lake)
        return Policy(lake.user_ids, lake.keep_place, lake.keep_locale, lake.keep_bytes, keys if lake.user_ids == HASHED else ())

    def stored(self, user_id: str) -> str:
        """The user id as it stands in every table: the pseudonym, or the id itself."""
        if self.user_ids == PLAIN:
            return user_id
        found = self._known.get(user_id)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[user_id] = pseudonym(self.keys, user_id)
        return found

    def columns(self, typed: dict[str, pa.Array]) -> dict[str, pa.Array]:
        """The typed columns of some rows, with no more in them than the policy keeps."""
        import pyarrow as pa

        found = dict(typed)
        if self.user_ids == HASHED:
            ids = found["user_id"].dictionary_encode()
            stored = [self.stored(text) for text in ids.dictionary.to_pylist()]
            found["user_id"] = pa.DictionaryArray.from_arrays(ids.indices, pa.array(stored, pa.string())).cast(pa.string())
        for name in {"city": (), "region": ("city",), "country": ("city", "region")}[self.keep_place]:
            found[name] = pa.nulls(len(found[name]), pa.string())
        if self.keep_place != "city":
            found["properties"] = _without_coordinates(found["properties"])
        if self.keep_locale != "full":
            found["locale"] = _language(found["locale"]) if self.keep_locale == "language" else pa.nulls(len(found["locale"]), pa.string())
        return found

    def headers(self, held: list[Headers | None]) -> list[Headers | None]:
        """The headers of some records; where no bytes are kept the address that a replay carries, and nothing else."""
        if self.keep_bytes == "all" or not any(held):
            return held
        return [
            found and [(name, value) for name, value in found if name == REPLAY_HEADER and _REPLAY_OF.fullmatch(value or b"")]
            for found in held
        ]

    def bytes(self, value: bytes | None) -> bytes | None:
        """Payload or key of a reject."""
        return value if self.keep_bytes == "all" else None


KEEP_ALL = Policy()


def pseudonym(keys: Sequence[bytes], user_id: str) -> str:
    """HMAC-SHA256 of the id under the first key, of that under the second, and so on; hex digits."""
    for key in keys:
        user_id = hmac.digest(key, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()[:DIGITS]
    return user_id


def stored_user_id(settings: Settings, user_id: str) -> str:
    """How the lake of these settings writes this person's id; raises KeyMissing."""
    return Policy.of(settings, open_lake(settings)[1]).stored(user_id)


def _require(keys: Sequence[bytes], lake: LakeFormat) -> None:
    if not keys:
        raise KeyMissing("the lake holds pseudonyms in place of user ids: set ENGAGEMENT_HASH_KEY to the key it was made with")
    if key_check(keys) != lake.hash_key_check:
        raise KeyMissing("ENGAGEMENT_HASH_KEY is not the key the lake's pseudonyms were made with: every user would become another one")


def _language(locales: pa.Array) -> pa.Array:
    import pyarrow.compute as pc

    return pc.utf8_lower(pc.struct_field(pc.extract_regex(locales, _LANGUAGE), "language"))


def _without_coordinates(properties: pa.Array) -> pa.Array:
    """Properties without the fields of geo_location that the contract does not know."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    suspects = np.flatnonzero(pc.match_substring(properties, "geo_location").fill_null(fill_value=False).to_numpy(zero_copy_only=False))
    if not len(suspects):
        return properties
    texts = properties.to_pylist()
    for place in suspects.tolist():
        texts[place] = _stripped(texts[place])
    return pa.array(texts, pa.string())


def _stripped(text: str) -> str:
    document = _fields.decode(text)
    try:
        extra = _fields.decode(document.get("_extra", b"null"))
    except msgspec.ValidationError:
        return text
    if extra.pop("geo_location", None) is None:
        return text
    document["_extra"] = msgspec.Raw(msgspec.json.encode(extra))
    return msgspec.json.encode(document).decode()
