"""A lake in a bucket of S3, or of a store that speaks its language.

The store itself compares and puts in one step: `If-None-Match: *` gives a name one winner (R2), `If-Match` replaces only
what was noted (R4). So replacing needs no lock here, and a version is the object's e-tag: same bytes, same version.
What is read by DuckDB or pyarrow comes through a mirror on this machine (`mirror`), locks are leases (`lease`); why so
is in decision 0011.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from engagement.errors import EngagementError
from engagement.lake import s3_client
from engagement.lake.entry import TEMP_FOLDER, Entry
from engagement.lake.history import History
from engagement.lake.interface import AlreadyExists, Changed, Lake, LakeUnavailable, LeftOver, OutcomeUnknown
from engagement.lake.lease import Leases
from engagement.lake.mirror import Mirror
from engagement.lake.ranged import TAIL_BYTES, RangedFile
from engagement.lake.s3_errors import code_of, explained, is_for_good, is_refusal
from engagement.lake.uploads import LARGE_BYTES, Uploads

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta
    from obstore.store import S3Store

T = TypeVar("T")
_NOWHERE = ".bucket"
"""A folder that nobody writes, listed to learn whether the bucket is there."""
PAGE = 1000
"""Objects a listing request answers at most."""


class S3Lake(Lake):
    """A lake under `s3://bucket/prefix`.

    Methods raise PermanentError where the store refuses for good (no bucket, no permission, wrong region, expired
    credentials), LakeUnavailable where it throttles or does not answer within bounded retries.
    """

    parallel = 16

    def __init__(self, bucket: str, prefix: str, mirror: Mirror, endpoint: str | None = None) -> None:
        self._bucket, self._prefix, self._endpoint = bucket, prefix.strip("/"), endpoint
        self.url = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._mirror = mirror
        self.folder = mirror.folder
        self._leases = Leases(self)
        self._bucket_seen = False
        """Whether the bucket has answered: only then does "not found" mean that the object is not there."""

    @cached_property
    def _store(self) -> S3Store:
        return s3_client.object_store(self._bucket, self._prefix, self._endpoint)

    @cached_property
    def _uploads(self) -> Uploads:
        return Uploads(s3_client.boto_client(self._endpoint), self._bucket, f"{self._prefix}/" if self._prefix else "")

    @property
    def history(self) -> History:
        """As Lake.history."""
        client = s3_client.boto_client(self._endpoint)
        return History(client, self._bucket, f"{self._prefix}/" if self._prefix else "", self._mirror.folder, self._mirror.path)

    def list(self, prefix: str, after: str | None = None) -> Iterator[Entry]:
        """As Lake.list, a request for each thousand objects."""
        import obstore

        self._require_usable()
        prefix = prefix.rstrip("/")
        start = f"{prefix}/" if prefix else ""
        pages = iter(obstore.list(self._store, prefix or None, offset=after or None, chunk_size=PAGE))
        while True:
            try:
                page = next(pages, None)
            except Exception as error:
                raise self._explained(error, prefix) from error
            self._bucket_seen = True
            if page is None:
                return
            for found in page:
                key = found["path"]
                # A folder made by a console is an object too, of its own name without the slash.
                if key.startswith(start) and (start or not key.startswith(".")):
                    yield _entry(found)

    def folders(self, prefix: str) -> Sequence[str]:
        """As Lake.folders."""
        import obstore

        self._require_usable()
        prefix = prefix.rstrip("/")
        try:
            found = obstore.list_with_delimiter(self._store, prefix or None)["common_prefixes"]
        except Exception as error:
            raise self._explained(error, prefix) from error
        self._bucket_seen = True
        names = sorted(path.rsplit("/", 1)[-1] for path in found)
        return [name for name in names if prefix or not name.startswith(".")]

    def stat(self, key: str) -> Entry | None:
        """As Lake.stat."""
        import obstore

        found = self._of_object(key, lambda: obstore.head(self._store, key))
        return None if found is None else _entry(found, key)

    def read(self, key: str) -> bytes | None:
        """As Lake.read, of one version also where the object is large."""
        found = self._get(key)
        if found is None:
            return None
        entry, first = found
        return first if len(first) == entry.size else b"".join([first, *self._rest(entry, len(first))])

    def open(self, key: str) -> BinaryIO:
        """As Lake.open."""
        return self._opened(key, {"range": {"suffix": TAIL_BYTES}})

    def open_version(self, entry: Entry) -> BinaryIO:
        """As Lake.open_version."""
        return self._opened(entry.key, {"range": {"suffix": TAIL_BYTES}, "if_match": f'"{entry.version}"'})

    def _opened(self, key: str, options: GetOptions) -> BinaryIO:
        found = self._get(key, options)
        if found is None:
            raise FileNotFoundError(self.name(key))
        entry, tail = found
        return cast("BinaryIO", RangedFile(entry.size, tail, lambda start, end: self._range(entry, start, end)))

    def local(self, entries: Iterable[Entry]) -> Sequence[Path]:
        """As Lake.local: downloaded whole where this machine has not got them in this version."""
        return self._mirror.files(list(entries), self._download, self.parallel)

    def put_new(self, key: str, data: bytes | memoryview) -> Entry:
        """As Lake.put_new. An error after which the object may be there is OutcomeUnknown."""
        try:
            return self._put(key, data, None)
        except _Refused as error:
            msg = f"{key} exists already"
            raise AlreadyExists(msg) from error

    @contextlib.contextmanager
    def creating(self, key: str) -> Iterator[IO[bytes]]:
        """As Lake.creating; the bytes lie in a file of this machine until then."""
        with self._mirror.temporary() as file:
            yield file
            file.flush()
            if not file.tell():
                self.put_new(key, b"")
                return
            # Not closed here: the traceback of an error holds views of it.
            self.put_new(key, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))

    def written_at(self, key: str) -> datetime | None:
        """As Lake.written_at, to the second."""
        import obstore

        found = self._of_object(key, lambda: obstore.head(self._store, key))
        return None if found is None else found["last_modified"]

    def clock(self) -> datetime:
        """As Lake.clock: an object is written to see what time it gets."""
        import obstore

        key = f"{TEMP_FOLDER}/clock"
        self._of_object(key, lambda: obstore.put(self._store, key, b"", mode="overwrite", use_multipart=False))
        told = self.written_at(key)
        if told is None:
            raise LakeUnavailable(f"{self.name(key)}: was written, and is not there")
        return told

    def left_overs(self, now: datetime, older_than: timedelta, *, remove: bool) -> Iterator[LeftOver]:
        """As Lake.left_overs: uploads begun so long ago. Whoever still worked on one that goes starts over."""
        try:
            for left in self._uploads.left():
                if now - left.begun > older_than:
                    if remove:
                        self._uploads.abort(left)
                    yield LeftOver(f"incomplete upload of {left.key}", 0)
        except Exception as error:
            raise self._explained(error, "") from error

    def replace(self, key: str, data: bytes | memoryview, expected: Entry | None) -> Entry:
        """As Lake.replace, in one step of the store. Changed too where the answer was lost and something else lies there now.

        That may be our own: the same bytes do not prove it, for another writer may have had the same.
        """
        msg = f"{key} was replaced by another writer"
        try:
            return self._put(key, data, expected, new=expected is None)
        except _Refused as error:
            raise Changed(msg) from error
        except OutcomeUnknown as error:
            if self.stat(key) == expected:
                raise LakeUnavailable(f"{self.name(key)}: nobody knows whether it will be replaced yet: {error}") from error
            raise Changed(msg) from error

    def delete(self, key: str) -> None:
        """As Lake.delete."""
        import obstore

        self._require_usable()
        self._leases.require_time()
        try:
            obstore.delete(self._store, key)
        except Exception as error:
            if not isinstance(error, FileNotFoundError) or is_for_good(error):
                raise self._explained(error, key) from error

    def replacing(self, key: str) -> contextlib.AbstractContextManager[None]:  # noqa: ARG002 - as Lake.replacing
        """As Lake.replacing: nothing to wait for, the store compares."""
        return contextlib.nullcontext()

    def lock(self, name: str) -> contextlib.AbstractContextManager[None]:
        """As Lake.lock, by a lease: of a holder that died it is free after `lease.LEASE_SECONDS`."""
        return self._leases.hold(name)

    def _put(self, key: str, data: bytes | memoryview, expected: Entry | None, *, new: bool = True) -> Entry:
        """Raises _Refused where the condition does not hold, OutcomeUnknown where no answer tells."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        self._require_usable()
        self._leases.require_time()
        data = memoryview(data).cast("B")  # pyarrow's buffers are of signed bytes, which obstore takes for a list of numbers
        tag = None if new or expected is None else f'"{expected.version}"'
        try:
            if len(data) > LARGE_BYTES:
                e_tag = self._uploads.put(key, data, tag, self._leases.require_time)
            else:
                made = obstore.put(self._store, key, data, mode={"e_tag": tag} if tag else "create", use_multipart=False)
                e_tag = made["e_tag"] or ""
        except (AlreadyExistsError, PreconditionError) as error:
            if is_for_good(error):
                raise self._explained(error, key) from error
            raise _Refused from error
        except EngagementError:
            raise
        except Exception as error:
            if code_of(error) in ("PreconditionFailed", "ConditionalRequestConflict") or (tag and code_of(error) == "NoSuchKey"):
                raise _Refused from error
            told = self._explained(error, key)
            if is_refusal(error):
                raise told from error
            raise OutcomeUnknown(str(told)) from error
        self._bucket_seen = True
        return Entry(key, len(data), e_tag.strip('"'))

    def _get(self, key: str, options: GetOptions | None = None) -> tuple[Entry, bytes] | None:
        """The object and its bytes, or those of a range; of a large object at most the first piece."""
        import obstore

        def get() -> tuple[Entry, bytes]:
            answer = obstore.get(self._store, key, options=options or {"range": (0, LARGE_BYTES)})
            return _entry(answer.meta, key), bytes(answer.bytes())

        found = self._of_object(key, get, empty=lambda: obstore.head(self._store, key))
        return found if found is None or isinstance(found, tuple) else (_entry(found, key), b"")

    def _of_object(self, key: str, ask: Callable[[], T], empty: Callable[[], Any] | None = None) -> T | None:
        """The answer about one object, None where there is none. A range of an empty object is refused: `empty` is asked then."""
        from obstore.exceptions import PreconditionError

        self._require_usable()
        try:
            answer = ask()
        except FileNotFoundError as error:
            if code_of(error) not in (None, "NoSuchKey"):
                raise self._explained(error, key) from error
            self._require_bucket()
            return None
        except PreconditionError:  # asked for a version that is no more
            return None
        except Exception as error:
            if empty is not None and (code_of(error) == "InvalidRange" or "non-partial response" in str(error)):
                return self._of_object(key, empty)
            raise self._explained(error, key) from error
        self._bucket_seen = True
        return answer

    def _range(self, entry: Entry, start: int, end: int) -> bytes:
        """Bytes [start, end) of exactly this version."""
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            answer = obstore.get(self._store, entry.key, options={"range": (start, end), "if_match": f'"{entry.version}"'})
            return bytes(answer.bytes())
        except (PreconditionError, FileNotFoundError) as error:
            raise LakeUnavailable(f"{self.name(entry.key)}: it was replaced or deleted while it was read") from error
        except Exception as error:
            raise self._explained(error, entry.key) from error

    def _rest(self, entry: Entry, start: int) -> Iterator[bytes]:
        for begin in range(start, entry.size, LARGE_BYTES):
            yield self._range(entry, begin, min(entry.size, begin + LARGE_BYTES))

    def _download(self, entry: Entry) -> tuple[Entry, Iterator[bytes]] | None:
        """The object as it is now, in pieces of one version; None where it is gone."""
        found = self._get(entry.key)
        if found is None:
            return None
        now, first = found

        def pieces() -> Iterator[bytes]:
            yield first
            yield from self._rest(now, len(first))

        return now, pieces()

    def _require_usable(self) -> None:
        s3_client.require_same_process()

    def _require_bucket(self) -> None:
        """Nothing found in a bucket that is not there is no empty lake."""
        if not self._bucket_seen:
            next(self.list(_NOWHERE), None)

    def _explained(self, error: Exception, key: str) -> EngagementError:
        if code_of(error) is None and "HEAD" in str(error):  # its answer has no body that tells why
            try:
                next(self.list(key), None)
            except EngagementError as told:
                return told
        return explained(error, self.url if key in ("", _NOWHERE) else self.name(key), self._bucket, self._endpoint)


class _Refused(Exception):
    """The condition of a put did not hold."""


def _entry(found: ObjectMeta, key: str | None = None) -> Entry:
    return Entry(key or found["path"], found["size"], (found["e_tag"] or "").strip('"'))
