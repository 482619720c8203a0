"""Lake-wide locks on a store that has none: a lease object, held by renewing it, taken over when nobody does (decision 0011).

Every step is a conditional put, so of two that compete one wins. No clock is compared with another machine's: a waiter
takes over only what it saw unchanged for a whole lease by its own monotonic clock, and a holder trusts its lease only
until a whole lease after it *sent* the last renewal that succeeded. Before each write the holder asks whether a request
can still end within the lease (`require_time`). A process that stops between that question and its write is caught by
the write's own condition (R2, R4), not by the lease.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field

from engagement.errors import EngagementError
from engagement.lake.entry import Entry
from engagement.lake.interface import LOCK_FOLDER, Changed, Lake, LakeUnavailable
from engagement.lake.s3_client import BOUND_SECONDS

LEASE_SECONDS = 2.0 * BOUND_SECONDS
RENEW_SECONDS = LEASE_SECONDS / 6
POLL_SECONDS = 0.5
_log = logging.getLogger(__name__)


@dataclass
class _Held:
    """One lease of this process; `until` is of the monotonic clock."""

    key: str
    entry: Entry
    until: float
    done: threading.Event = field(default_factory=threading.Event)


class Leases:
    """The leases that threads of this process hold on one lake."""

    def __init__(self, lake: Lake, seconds: float = LEASE_SECONDS) -> None:
        self._lake, self._seconds = lake, seconds
        self._mine = threading.local()

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """As Lake.lock; raises LakeUnavailable where the store fails while waiting."""
        held = self._take(f"{LOCK_FOLDER}/{name.replace('/', '~')}")
        stack = self._stack()
        stack.append(held)
        renewing = threading.Thread(target=self._renew, args=(held,), name=f"lease {name}", daemon=True)
        renewing.start()
        try:
            yield
        finally:
            held.done.set()
            renewing.join()
            stack.remove(held)
            self._give_back(held)

    def require_time(self) -> None:
        """Raises LakeUnavailable where a lease of this thread could end before a request does that begins now."""
        for held in self._stack():
            if held.until - time.monotonic() < min(BOUND_SECONDS, self._seconds / 2):
                raise LakeUnavailable(
                    f"{self._lake.name(held.key)}: the lease could not be renewed in time; nothing more is written under it"
                )

    def _stack(self) -> list[_Held]:
        if not hasattr(self._mine, "stack"):
            self._mine.stack = []
        found: list[_Held] = self._mine.stack
        return found

    def _take(self, key: str) -> _Held:
        seen: Entry | None = None
        since, free = 0.0, False
        while True:
            sent = time.monotonic()
            found = self._lake.stat(key)
            if found != seen or found is None:
                seen, since, free = found, time.monotonic(), found is None or self._is_free(key, found)
            if free or time.monotonic() - since >= self._seconds:
                if (entry := self._put(key, found)) is not None:
                    return _Held(key, entry, sent + self._seconds)
                continue
            time.sleep(POLL_SECONDS)

    def _is_free(self, key: str, entry: Entry) -> bool:
        """Whether the object says that nobody holds it. What cannot be read is held until nobody renews it."""
        if entry.size > 0 and (text := self._lake.read(key)) is not None:
            with contextlib.suppress(ValueError, AttributeError):
                return json.loads(text).get("holder") is None
        return False

    def _put(self, key: str, expected: Entry | None, *, free: bool = False) -> Entry | None:
        """Write our claim over what was seen; None where somebody else was faster."""
        holder = None if free else f"{socket.gethostname()}, process {os.getpid()}"
        data = json.dumps({"holder": holder, "nonce": uuid.uuid4().hex}).encode()
        try:
            return self._lake.replace(key, data, expected)
        except Changed:  # perhaps by us, if the answer was lost: no other claim has our nonce
            found = self._lake.stat(key)
            return found if found is not None and self._lake.read(key) == data else None

    def _renew(self, held: _Held) -> None:
        while not held.done.wait(self._seconds * RENEW_SECONDS / LEASE_SECONDS):
            sent = time.monotonic()
            try:
                renewed = self._put(held.key, held.entry)
            except EngagementError as error:
                _log.warning("lease not renewed, trying again: %s", error)
                continue
            if renewed is None:
                held.until = 0.0
                _log.warning("lease %s was taken over: nothing more is written under it", held.key)
                return
            held.entry, held.until = renewed, sent + self._seconds

    def _give_back(self, held: _Held) -> None:
        if held.until:
            try:
                self._put(held.key, held.entry, free=True)
            except EngagementError as error:  # it ends by itself
                _log.warning("lease not given back, it ends in %.0f s: %s", self._seconds, error)
