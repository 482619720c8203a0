"""The peers' jars: fetched once, as the broker's are, each set checked against a lock of its own beside this file.

The first line of a lock names the folder in the cache, so that other versions get another folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from engagement.stack import jars


def folder(peer: str) -> Path:
    """The complete folder of this peer's jars; raises FetchFailed, WrongJar."""
    lock = Path(__file__).with_name(f"{peer}.lock")
    name, cache = lock.read_text().splitlines()[0].removeprefix("# "), jars.cache_folder()
    if not (cache / name).is_dir():
        print(f"bench: fetching {name} into {cache}…", file=sys.stderr)
    return jars.fetch(cache, jars.locked(lock), jars.download, name=name)
