"""`engagement export`: a person asked what is held about them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from engagement import settings as settings_module
from engagement.errors import PermanentError

if TYPE_CHECKING:
    from engagement.export.person import Row

MANIFEST = "manifest.json"
NOT_INCLUDED = (
    "records that are still in Kafka and were not read yet",
    "rejected records that hold the id in bytes that are no JSON: `engagement dead-letters show --payload`",
    "copies outside of the lake: backups, what was exported from it before",
)


def export(user_id: str, *, out: Path | None = None) -> int:
    """Hand out everything the lake holds about one user: records of the log, rejects, events, sessions and the other tables.

    `user_id` is the id that the app sends, also where the lake holds pseudonyms (then ENGAGEMENT_HASH_KEY must be
    set). JSON lines go to stdout, each with the `table` it is from; with `--out` to a file a table, and a manifest.
    Where nothing is held there is no line, stderr says so, and the exit code is 0.

    For example:

        engagement export 8f14e45f-ceea > person.jsonl
        engagement export 8f14e45f-ceea --out person/

    Parameters
    ----------
    user_id
        The id as the app sends it.
    out
        A folder that is new or empty; only its owner may read it.
    """
    from engagement.cli.dead_letter_output import progress_bar
    from engagement.export.person import held
    from engagement.lake import require_lake

    settings = settings_module.load()
    require_lake(settings)
    counts: dict[str, int] = {}
    with progress_bar() as progress, _sink(out, settings.lake_url, user_id) as write:
        for portion in held(settings, user_id, progress):
            counts[portion.where] = counts.get(portion.where, 0) + len(portion.rows)
            for row in portion.rows:
                write(portion.where, row)
    told = ", ".join(f"{count:,} {where}" for where, count in counts.items() if count)
    print(f"export: {told}" if told else "export: nothing is held about this user", file=sys.stderr)
    return 0


@contextlib.contextmanager
def _sink(out: Path | None, lake_url: str, user_id: str) -> Iterator[Any]:
    """What writes one row: to stdout, or to the files of a folder that is complete once its manifest is there."""
    if out is None:
        yield lambda where, row: print(json.dumps({"table": where, **as_json(row)}, ensure_ascii=False))
        return
    files: dict[str, _File] = {}
    try:
        _make_private(out)
        with contextlib.ExitStack() as stack:

            def write(where: str, row: Row) -> None:
                if where not in files:
                    files[where] = _File(stack.enter_context(_private(out / f"{where}.jsonl")))
                files[where].write(row)

            yield write
        manifest = {
            "user_id": user_id, "lake": lake_url, "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {f"{where}.jsonl": file.facts() for where, file in files.items()}, "not_included": NOT_INCLUDED,
        }  # fmt: skip
        with _private(out / MANIFEST) as file:
            file.write((json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    except OSError as error:
        raise PermanentError(f"export --out {out}: {error.strerror or error}") from error


class _File:
    """Lines of one table, counted and hashed as they are written."""

    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle
        self._rows = self._bytes = 0
        self._digest = hashlib.sha256()

    def write(self, row: Row) -> None:
        line = (json.dumps(as_json(row), ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        self._handle.write(line)
        self._digest.update(line)
        self._rows, self._bytes = self._rows + 1, self._bytes + len(line)

    def facts(self) -> dict[str, Any]:
        return {"rows": self._rows, "bytes": self._bytes, "sha256": self._digest.hexdigest()}


def as_json(row: Row) -> dict[str, Any]:
    """A row for people and programs: times in ISO 8601, bytes as text where they are UTF-8, else in base64 as `NAME_base64`."""
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, bytes):
            try:
                found[name] = value.decode()
            except UnicodeDecodeError:
                found[f"{name}_base64"] = base64.b64encode(value).decode()
        elif isinstance(value, list):
            found[name] = [as_json(item) if isinstance(item, dict) else item for item in value]
        else:
            found[name] = value.isoformat() if isinstance(value, datetime) else value
    return found


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise PermanentError(f"export --out {folder}: the folder is not empty; name a new one, so that no two persons' data meet")


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
