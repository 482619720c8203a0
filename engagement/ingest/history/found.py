"""Which files are meant: the named ones, and those of named folders that an import can read."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from engagement.ingest.history.streams import BadFile

KINDS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".parquet": "parquet"}
CODECS = (".gz", ".zst")
READABLE = f"{', '.join(KINDS)}, each also with {' or '.join(CODECS)}"


@dataclass(frozen=True, slots=True)
class Found:
    """Files to import, in order, and what lies in the folders beside them."""

    files: tuple[Path, ...]
    skipped: tuple[Path, ...]
    empty: tuple[Path, ...] = ()
    """Named folders that hold nothing to import."""


def kind(path: Path) -> str | None:
    """`jsonl`, `csv` or `parquet` by the file's name, None where it names none; case does not matter."""
    name = Path(path.stem) if path.suffix in CODECS else path
    return KINDS.get(name.suffix.lower())


def require_kind(path: Path) -> str:
    """The kind; raises BadFile where the name tells none."""
    known = kind(path)
    if known is None:
        raise BadFile(f"{path}: its name does not tell what it is; expected {READABLE}")
    return known


def find(paths: Iterable[Path]) -> Found:
    """Named files as they are, folders to their depth in the order of their names; each file once.

    Hidden files and folders, links to folders, and files of other kinds are skipped in folders, and told. Raises
    BadFile where a folder cannot be read.
    """
    files: dict[Path, None] = {}
    skipped: list[Path] = []
    empty: list[Path] = []
    for path in paths:
        if path.is_dir():
            found, others = _inside(path)
            files |= dict.fromkeys(found)
            skipped += others
            empty += [] if found else [path]
        else:
            files[path] = None
    return Found(tuple(files), tuple(skipped), tuple(empty))


def _inside(path: Path) -> tuple[list[Path], list[Path]]:
    """Files of a folder that can be imported, and what is left out."""
    files: list[Path] = []
    skipped: list[Path] = []
    for here, folders, names in os.walk(path, onerror=_refuse):
        folder = Path(here)
        left_out = {name for name in folders if _is_hidden(name) or (folder / name).is_symlink()}
        skipped += [folder / name for name in sorted(left_out)]
        folders[:] = sorted(set(folders) - left_out)
        for name in sorted(names):
            (skipped if _is_hidden(name) or kind(Path(name)) is None else files).append(folder / name)
    return files, skipped


def _refuse(error: OSError) -> None:
    raise BadFile(f"{error.filename}: {error.strerror}") from error


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "_"))
