"""The lake: immutable or wholly replaced objects under keys, and `lake.json`, which says how it is cut.

A few operations, the same for every store (`interface`): list, read, put if absent (R2), replace whole if unchanged (R4).
This is the room's public face: nobody outside of it asks which store a lake lies in.
"""

from engagement.lake.entry import TEMP_FOLDER, Entry
from engagement.lake.format import FORMAT_VERSION, LAKE_JSON, LakeFormat, key_check
from engagement.lake.interface import LOCK_FOLDER, AlreadyExists, Changed, Lake, LakeUnavailable, OutcomeUnknown
from engagement.lake.local import LocalLake
from engagement.lake.opening import connect, open_lake, require_lake

__all__ = [
    "FORMAT_VERSION",
    "LAKE_JSON",
    "LOCK_FOLDER",
    "TEMP_FOLDER",
    "AlreadyExists",
    "Changed",
    "Entry",
    "Lake",
    "LakeFormat",
    "LakeUnavailable",
    "LocalLake",
    "OutcomeUnknown",
    "connect",
    "key_check",
    "open_lake",
    "require_lake",
]
