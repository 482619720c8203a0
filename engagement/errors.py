"""The two kinds of failure. Only transient ones are ever retried, and then with a bound.

What does not belong here: errors of one module's own logic, which live beside it as subclasses.
"""

from __future__ import annotations


class EngagementError(Exception):
    """Base of every error this project raises; its text is one line for a person."""


class PermanentError(EngagementError):
    """Trying again cannot help: wrong settings, wrong input, a broken promise of another part."""


class TransientError(EngagementError):
    """Trying again may help: a broker that is away, a disk that is full."""


class UsageError(PermanentError):
    """A command was called wrongly; the command line exits with 2."""
