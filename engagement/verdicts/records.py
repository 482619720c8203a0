"""`quality_results` and `quality_metrics`: what was ever judged and measured, one object a UTC day of the judged period.

Rows are only ever added: read, add, replace if unchanged (R4). A backfill of the tables does not touch them, so the history
of a number survives its data. They cannot be made again and belong into every backup.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from engagement.errors import TransientError
from engagement.lake import Changed, Lake
from engagement.model import schemas, units
from engagement.tables.objects import encode, read_rows
from engagement.verdicts.result import Period, Result, Severity, Status

if TYPE_CHECKING:
    import pyarrow as pa

ATTEMPTS = 20
Key = tuple[str, str, Period, str]
"""Suite, check, period and engine of a result."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number, or text, that was measured of a period of an asset."""

    suite: str
    asset: str
    period: Period
    engine: str
    entity: str
    """`Dataset`, `Column` or `Multicolumn`, as Deequ says it."""
    instance: str
    name: str
    value: float | None
    text: str = ""
    inputs: str = ""
    measured_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class Standing:
    """The newest result of a check, and since when it has been what it is."""

    result: Result
    since: datetime


def append_results(lake: Lake, results: Iterable[Result]) -> None:
    """Add results; raises TransientError where others write the same day again and again."""
    _append(lake, units.QUALITY_RESULTS, [(result.period, _row_of_result(result)) for result in results])


def append_metrics(lake: Lake, metrics: Iterable[Metric]) -> None:
    """Add metrics; raises as `append_results`."""
    _append(lake, units.QUALITY_METRICS, [(metric.period, _row_of_metric(metric)) for metric in metrics])


def latest(lake: Lake, first: date, last: date) -> dict[Key, Standing]:
    """The newest result of each check of the periods from one day to another, both included, and since when it stands so."""
    found: dict[Key, Standing] = {}
    for result in sorted(results(lake, first, last), key=lambda result: result.measured_at):
        key = (result.suite, result.check, result.period, result.engine)
        before = found.get(key)
        same = before is not None and before.result.status is result.status
        found[key] = Standing(result, before.since if before and same else result.measured_at)
    return found


def results(lake: Lake, first: date, last: date) -> Iterator[Result]:
    """Every result of the periods from one day to another, as they lie."""
    for day in _days(first, last):
        for row in _rows(lake, units.QUALITY_RESULTS, day):
            yield Result(
                row["suite"], row["check_name"], row["asset"], Period(row["period_start"], row["period_kind"]), row["engine"],
                Severity(row["severity"]), Status(row["status"]), row["value"], row["threshold"], row["hint"],
                message=row["message"], rows=row["rows_seen"], violations=row["violations"], sample=tuple(json.loads(row["sample"])),
                query=row["query"], inputs=row["inputs"], measured_at=row["measured_at"],
            )  # fmt: skip


def metrics(lake: Lake, first: date, last: date, suite: str | None = None) -> Iterator[Metric]:
    """Every metric of the periods from one day to another; of one suite, or of all."""
    for day in _days(first, last):
        for row in _rows(lake, units.QUALITY_METRICS, day):
            if suite in (None, row["suite"]):
                period = Period(row["period_start"], row["period_kind"])
                yield Metric(
                    row["suite"], row["asset"], period, row["engine"], row["entity"], row["instance"], row["metric"], row["value"],
                    row["text"], row["inputs"], row["measured_at"],
                )  # fmt: skip


def key_of(table: str, day: date) -> str:
    """Key of the object of a day."""
    return f"{table}/year={day:%Y}/month={day:%m}/day={day:%d}/day.parquet"


def _days(first: date, last: date) -> Iterator[date]:
    day = first
    while day <= last:
        yield day
        day += timedelta(days=1)


def _rows(lake: Lake, table: str, day: date) -> list[dict[str, Any]]:
    """The rows of a day; none where it has no object, or lost it while it was read."""
    entry = lake.stat(key_of(table, day))
    try:
        found: list[dict[str, Any]] = _as_declared(read_rows(lake, entry), table).to_pylist() if entry else []
    except FileNotFoundError:
        return []
    return found


def _append(lake: Lake, table: str, rows: Sequence[tuple[Period, Mapping[str, Any]]]) -> None:
    import pyarrow as pa

    by_day: dict[date, list[Mapping[str, Any]]] = {}
    for period, row in rows:
        by_day.setdefault(period.start.date(), []).append(row)
    for day, fresh in sorted(by_day.items()):
        _add(lake, table, key_of(table, day), pa.Table.from_pylist(fresh, schema=schemas.arrow_schema(table)))


def _add(lake: Lake, table: str, key: str, fresh: pa.Table) -> None:
    import pyarrow as pa

    for _ in range(ATTEMPTS):
        with lake.replacing(key):
            old = lake.stat(key)
            try:
                whole = pa.concat_tables([_as_declared(read_rows(lake, old), table), fresh]) if old else fresh
                lake.replace(key, encode(whole, {"rows": whole.num_rows}), old)
            except (Changed, FileNotFoundError):
                continue
            return
    raise TransientError(f"{lake.name(key)}: replaced by other writers {ATTEMPTS} times in a row")


def _as_declared(rows: pa.Table, table: str) -> pa.Table:
    """Rows of any age with the present columns."""
    import pyarrow as pa

    schema = schemas.arrow_schema(table)
    columns = [
        rows[name].cast(kind) if name in rows.column_names else pa.nulls(rows.num_rows, kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _row_of_result(result: Result) -> dict[str, Any]:
    return {
        **_of(result.suite, result.asset, result.period, result.engine, result.inputs, result.measured_at),
        "check_name": result.check, "severity": result.severity.value, "status": result.status.value, "value": result.value,
        "threshold": result.threshold, "message": result.message, "hint": result.hint, "rows_seen": result.rows,
        "violations": result.violations, "sample": json.dumps([dict(row) for row in result.sample], ensure_ascii=False),
        "query": result.query,
    }  # fmt: skip


def _row_of_metric(metric: Metric) -> dict[str, Any]:
    return {
        **_of(metric.suite, metric.asset, metric.period, metric.engine, metric.inputs, metric.measured_at),
        "entity": metric.entity, "instance": metric.instance, "metric": metric.name, "value": metric.value, "text": metric.text,
    }  # fmt: skip


def _of(suite: str, asset: str, period: Period, engine: str, inputs: str, at: datetime) -> dict[str, Any]:
    return {
        "suite": suite, "asset": asset, "period_kind": period.kind, "period_start": period.start, "engine": engine, "inputs": inputs,
        "measured_at": at,
    }  # fmt: skip
