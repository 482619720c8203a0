"""Many requests at once where the store is far: its answers take milliseconds, and most of them are waiting."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from engagement.lake.interface import Lake

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def together(lake: Lake, ask: Callable[[Asked], Answer], wanted: Iterable[Asked]) -> list[Answer]:
    """The answers in the order of what is wanted; raises what the first that fails raises. One by one on this machine's disk."""
    items = list(wanted)
    if min(lake.parallel, len(items)) <= 1:
        return [ask(item) for item in items]
    with ThreadPoolExecutor(min(lake.parallel, len(items))) as pool:
        return list(pool.map(ask, items))
