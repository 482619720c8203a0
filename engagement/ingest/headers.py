"""Headers of consumed messages, with those apart that the client library cannot hand out.

Where a header's name is no UTF-8 the C method sets an error and returns a list with a null pointer in it, which
it also keeps in the message. Only a call that checks its result turns that into an exception. The interpreter
leaves the check out of calls that it has specialised, so `message.headers()` in a loop lets the list through, and
the process dies when somebody looks at it. `map` always checks, and each message is asked once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Headers = Sequence[tuple[str, bytes | None]]
_LOST = object()


def of(messages: Sequence[Any]) -> list[Headers | None]:
    """Each message's headers; None where its header names are no text."""
    found: list[Any] = []
    answers = map(type(messages[0]).headers, messages) if messages else iter(())
    while len(found) < len(messages):
        try:
            found.extend(answers)  # keeps what came before the error; the next call goes on behind it
        except (SystemError, UnicodeDecodeError):
            found.append(_LOST)
    return [() if held is None else None if held is _LOST else held for held in found]
