"""Archives a test's lake and lets raw expire, as `engagement maintain` does, with no time passing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from engagement.raw import archive as archives
from engagement.raw import expiry
from engagement.raw.choosing import PART_BYTES

LATER = datetime(2100, 1, 1, tzinfo=UTC)
NOW = timedelta(0)


def archive(lake, index=None, *, now=LATER, after=NOW, part_bytes=PART_BYTES, **options):
    """Everything that is closed; by default all that is there."""
    report = archives.archive(lake, now=now, after=after, index=index, part_bytes=part_bytes, **options)
    assert not report.problems
    return report


def expire(lake, index=None):
    """All that may ever go, however young its part is."""
    report = expiry.expire(lake, grace=timedelta(days=1), now=lake.clock() + timedelta(days=2), index=index)
    assert not report.problems
    return report
