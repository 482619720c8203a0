"""Every check, said once as data: Deequ, its DuckDB twin, gates, asset checks and docs all read it here.

One module a layer. A suite follows the declared model: dimensions and metrics of your own are checked like the built-in ones.
"""

from __future__ import annotations

from functools import lru_cache

from engagement.model.model import Model, built_in
from quality.constraints import Suite
from quality.suites import big_table, events, raw, sessions


@lru_cache(maxsize=8)
def suites(model: Model | None = None, *, skew_seconds: int = 300, lateness_days: int = 30) -> tuple[Suite, ...]:
    """All suites under a model (the built-in one unless given) and these limits, in the order of the layers."""
    model = model or built_in()
    return (
        *raw.suites(skew_seconds, lateness_days),
        *events.suites(model),
        *sessions.suites(model),
        *big_table.suites(model),
    )
