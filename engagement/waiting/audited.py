"""The chain audit over an open lake: raw and archive, compared with what tables were made from (R1-R5, R11)."""

from __future__ import annotations

from engagement.model import units
from engagement.raw.audit import audit
from engagement.raw.findings import Audit
from engagement.tables.context import TableContext
from engagement.tables.objects import provenance


def audited(context: TableContext) -> Audit:
    """Audit every chain. Records that events hold must be claimed by a raw object or an archive part.

    The events come first: whatever is raw when their footers are read is raw, or archived, when raw is listed.
    """
    events = [context.footers.of(entry) for entry in context.lake.list(units.EVENTS)]
    return audit(context.index, provenance(events)["offsets"])
