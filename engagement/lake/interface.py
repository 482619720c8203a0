"""What every store of a lake can do, and what it may answer. The rest of the project knows stores by these names alone.

A key is a slash-separated path relative to the lake. What is *in* the objects is not known here. An object is created
whole if its name is free (R2), or replaced whole if it still is the version that was noted (R4); nothing else writes.
The stores are `local` and `s3`; one test suite holds for both. Not here: which store a lake lies in (`opening`), and
what `lake.json` says (`format`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from engagement.errors import EngagementError, TransientError
from engagement.lake.entry import Entry

if TYPE_CHECKING:
    from engagement.lake.history import History

LOCK_FOLDER = ".locks"


class AlreadyExists(EngagementError):
    """Put-if-absent found the name taken: another writer made the same claim first (R2)."""


class Changed(EngagementError):
    """The object was replaced by somebody else since its version was noted (R4): start over."""


class LakeUnavailable(TransientError):
    """The store cannot be read or written now; the text says which object and why."""


class OutcomeUnknown(LakeUnavailable):
    """The object may or may not have been published: look at the lake before going on (R3)."""


@dataclass(frozen=True, slots=True)
class LeftOver:
    """Something that a dead writer left in the store and no reader sees; `size` in bytes, 0 where the store does not tell."""

    name: str
    size: int


class Lake(ABC):
    """A place that holds objects under keys.

    Methods raise LakeUnavailable when the store cannot answer now, and PermanentError where trying again cannot help.
    Keys that begin with a dot (`.tmp`, `.locks`) are the store's own and no objects of the lake.
    """

    url: str
    """Where the lake is, as a person writes it."""
    folder: Path
    """Folder of this machine below which all files lie that `local` hands out."""

    parallel = 1
    """Requests that are worth having under way at once."""

    @property
    def history(self) -> History | None:
        """What the store keeps beside the objects that a listing shows; None where it keeps nothing."""
        return None

    def name(self, key: str) -> str:
        """An object as a message for people names it."""
        return f"{self.url}/{key}"

    @abstractmethod
    def list(self, prefix: str, after: str | None = None) -> Iterator[Entry]:
        """Every object under a folder (`""`: the lake), in the byte order of their keys, or those behind the key `after` alone.

        Nothing where the folder does not exist. An object that comes or goes meanwhile may or may not be shown.
        """

    @abstractmethod
    def folders(self, prefix: str) -> Sequence[str]:
        """Names of the folders that lie directly in a folder, in order; without listing what is in them."""

    @abstractmethod
    def stat(self, key: str) -> Entry | None:
        """The object's size and version, or None where there is none."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """The object's bytes, or None where there is none."""

    @abstractmethod
    def open(self, key: str) -> BinaryIO:
        """The object, for a reader that seeks and needs little of it (a Parquet footer); always of one version.

        Raises FileNotFoundError where there is none.
        """

    @abstractmethod
    def open_version(self, entry: Entry) -> BinaryIO:
        """As `open`, of exactly this version; raises FileNotFoundError where the object is another by now."""

    @abstractmethod
    def local(self, entries: Iterable[Entry]) -> Sequence[Path]:
        """Files of this machine that hold these objects, in this order, for readers that need a file (DuckDB, pyarrow).

        The file's path ends with the object's path keys (`year=…/month=…`). Of an object that was deleted since it was listed
        there is no file; for one that was replaced the file holds the old or the new bytes.
        """

    @abstractmethod
    def put_new(self, key: str, data: bytes | memoryview) -> Entry:
        """Create the object, whole and durable, only if the name is free; raises AlreadyExists, OutcomeUnknown."""

    @abstractmethod
    def creating(self, key: str) -> AbstractContextManager[IO[bytes]]:
        """A sink for an object too large to hold: what was written to it is created when the block ends, as by `put_new`.

        Nothing is created where the block raises. Raises AlreadyExists, OutcomeUnknown when it ends.
        """

    @abstractmethod
    def written_at(self, key: str) -> datetime | None:
        """When the object got its present bytes, by the store's own clock, UTC; None where there is none."""

    @abstractmethod
    def clock(self) -> datetime:
        """What the clock reads now that `written_at` is told by, UTC: of two machines' clocks one may be wrong."""

    @abstractmethod
    def replace(self, key: str, data: bytes | memoryview, expected: Entry | None) -> Entry:
        """Replace the object whole, only if it still is the one noted in `expected` (None: still absent).

        Call it inside `replacing` of the same key; raises Changed.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object; removing what is not there is no error."""

    @abstractmethod
    def replacing(self, key: str) -> AbstractContextManager[None]:
        """Where `expected` is noted and `replace` called. Waits for other writers of the key if that is what makes `replace` safe."""

    @abstractmethod
    def lock(self, name: str) -> AbstractContextManager[None]:
        """Hold the lake-wide lock of this name; blocks until it is free. It falls with the process."""

    def left_overs(self, now: datetime, older_than: timedelta, *, remove: bool) -> Iterator[LeftOver]:  # noqa: ARG002
        """What writers left that died so long ago; `remove` takes it away. Never what a living one holds, however long it stands still."""
        return iter(())

    def prune(self, folder: str) -> None:  # noqa: B027 - most stores have no folders
        """Take away what a store keeps of a folder that has no object left. Nobody may be writing there."""
