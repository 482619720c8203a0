"""Settings: the environment first, then `engagement.toml`, then the default.

`load()` reads them when called, never at import. Relative paths count from the folder of
`engagement.toml`, else from the working directory. Meanings, units and defaults are those of the
table that `engagement settings` prints.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any

from engagement.errors import PermanentError

PREFIX = "ENGAGEMENT_"
KAFKA_PREFIX = "ENGAGEMENT_KAFKA__"
TOML_NAME = "engagement.toml"
S3_SCHEME = "s3://"
_S3_URL = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^/\s]+)*/?")

SHORTEST_KEY = 16

TOPIC_FAMILIES = ("install", "session", "view_notification")
"""The three topics of the event contract, without the prefix."""


class SettingsError(PermanentError):
    """An unknown name or an unreadable value; names the setting and what is valid."""


def _setting(default: Any, meaning: str, *, unit: str = "", low: int | None = None, high: int | None = None, secret: bool = False) -> Any:
    metadata = {"meaning": meaning, "unit": unit, "low": low, "high": high, "secret": secret}
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the pipeline, read and checked. Field names are the environment names in lower case."""

    lake_url: str = _setting(".engagement/lake", "folder of the lake, or s3://bucket/prefix")
    state_dir: Path = _setting(Path(".engagement"), "everything that is not the lake: Dagster home, broker data, pid files")
    kafka_bootstrap_servers: str = _setting("127.0.0.1:9092", "broker addresses, comma-separated")
    topic_prefix: str = _setting("", "put before the three topic names")
    topic_partitions: int = _setting(6, "partitions a topic is created with", low=1)
    topic_replication: int = _setting(1, "replicas a topic is created with", low=1)
    topic_retention_hours: int = _setting(168, "how long the broker keeps records", unit="h", low=1)
    dagster_port: int = _setting(3000, "port of the Dagster UI", low=1, high=65535)
    dashboard_port: int = _setting(8501, "port of the page", low=1, high=65535)
    metrics_port: int = _setting(9108, "port of the consumer's metrics; 0 takes a free one", low=0, high=65535)
    exporter_port: int = _setting(9109, "port of the exporter's metrics; 0 takes a free one", low=0, high=65535)
    host: str = _setting("127.0.0.1", "address the servers bind to")
    consumer_group: str = _setting("engagement-raw", "consumer group; for lag monitoring only (R3)")
    consumer_instance: str = _setting("", "name of this consumer process in its group; a restart under it moves no partitions")
    flush_seconds: int = _setting(60, "longest time a record waits in memory", unit="s", low=1)
    flush_bytes: int = _setting(64 << 20, "buffered bytes a partition that flush early", unit="bytes", low=1)
    buffer_bytes: int = _setting(512 << 20, "buffered bytes a process at which fetching pauses", unit="bytes", low=1)
    lateness_days: int = _setting(30, "older events are rejected as too_late (not for imports)", unit="days", low=1)
    clock_skew_seconds: int = _setting(300, "events further after received_at are rejected as in_future", unit="s", low=0)
    archive_after_minutes: int = _setting(
        60, "an ingest hour is closed so long after its end; 0 archives all that is there", unit="min", low=0
    )
    raw_grace_minutes: int = _setting(1440, "an archived raw file stays so long", unit="min", low=1)
    max_dimension_values: int = _setting(1000, "values a dimension keeps by name in a period; the rest is OTHER", low=1)
    late_minutes: int = _setting(15, "late events of old hours are gathered so long before the hours are refreshed", unit="min", low=0)
    late_rows: int = _setting(100_000, "so many waiting rows of old hours are refreshed at once", low=1)
    rebuild_days: int = _setting(3, "so many days are made again from raw every night; 0: none", unit="days", low=0)
    run_days: int = _setting(2, "Dagster's records of runs stay so long, the newest of each partition for ever", unit="days", low=1)
    dagster_storage: str = _setting(
        "", "postgresql://user:password@host/database of the Dagster instance; empty: SQLite in the state folder", secret=True
    )
    model: str = _setting("model.toml", "file of your own metrics, dimensions and promoted columns; empty: none, as without the file")
    retention: str = _setting(
        "retention.toml", "file that says after how many days what expires or moves; empty: none, as without the file"
    )
    sla: str = _setting("sla.toml", "file of your own freshness SLAs; empty: none, as without the file")
    history_start: date = _setting(date(2020, 1, 1), "first UTC day of the partitions; older events are rejected")
    slot_minutes: int = _setting(60, "length of a slot; divides 60; fixed for the life of a lake", unit="min", low=1, high=60)
    session_mode: str = _setting("gap", "gap (per user) or client (per user and client session id); fixed for a lake")
    session_gap_seconds: int = _setting(1800, "a longer gap starts a new session; fixed for a lake", unit="s", low=60, high=14400)
    user_ids: str = _setting("plain", "plain, or hashed: pseudonyms in place of user ids; fixed for a lake")
    keep_place: str = _setting("city", "the finest place that is stored: city, region or country; fixed for a lake")
    keep_locale: str = _setting("full", "full, language or none; fixed for a lake")
    keep_bytes: str = _setting("all", "all, or none: payload and key of rejects and all headers are not stored; fixed for a lake")
    hash_key: str = _setting("", "secret key of pseudonyms and of the list of erased users; after a rotation old,new", secret=True)
    catalog: str = _setting("local", "where others find the tables: local (lake.duckdb in the state folder) or glue")
    glue_database: str = _setting("engagement", "database of the Glue catalog; made where it is missing")
    glue_partitions: str = _setting("listed", "listed in Glue, or projected: computed by Athena, no other reader sees them")
    aws_endpoint_url: str = _setting("", "where S3 and Glue answer, if not AWS itself; AWS_ENDPOINT_URL_S3 and _GLUE win")
    mirror_bytes: int = _setting(
        8 << 30, "objects of a lake on S3 that this machine keeps as files; the least used go first", unit="bytes", low=1
    )
    engine: str = _setting("duckdb", "engine of the tables")
    memory_limit: str = _setting("2 GiB", "memory of the engine")
    threads: int = _setting(0, "threads of the engine; 0 is all cores", low=0)
    background_nice: int = _setting(
        19, "nice value of what gives way to the live path: backfills, upkeep, suites; 0: nothing does", low=0, high=19
    )
    demo_seconds: int = _setting(0, "`engagement demo` stops by itself after so long; 0 is never", unit="s", low=0)
    kafka: Mapping[str, str] = field(
        default_factory=dict, metadata={"meaning": "any librdkafka property, as ENGAGEMENT_KAFKA__security__protocol"}
    )
    sources: Mapping[str, str] = field(default_factory=dict, metadata={"meaning": "where each value came from"})

    @property
    def topics(self) -> dict[str, str]:
        """Topic name on the broker -> its family (`install`, `session`, `view_notification`)."""
        return {f"{self.topic_prefix}{family}": family for family in TOPIC_FAMILIES}

    @property
    def lake_path(self) -> Path:
        """The lake's folder, absolute."""
        return Path(self.lake_url)

    @property
    def hash_keys(self) -> tuple[bytes, ...]:
        """The secret keys of ENGAGEMENT_HASH_KEY, the oldest first; none where it is not set."""
        return tuple(key.encode() for key in self.hash_key.split(",")) if self.hash_key else ()

    @property
    def gap_us(self) -> int:
        """Session gap in microseconds."""
        return self.session_gap_seconds * 1_000_000

    def kafka_config(self, **extra: Any) -> dict[str, Any]:
        """Properties for librdkafka: the bootstrap servers, the user's own, then `extra`."""
        return {"bootstrap.servers": self.kafka_bootstrap_servers, **self.kafka, **extra}

    def environment(self) -> dict[str, str]:
        """What was set, as environment variables with absolute paths, for child processes.

        Defaults are left out: a child that opens a lake must not take them for the user's wish.
        """
        paths = {"lake_url", "state_dir", "model", "retention", "sla"}
        env = {
            PREFIX + item.name.upper(): str(getattr(self, item.name))
            for item in _public_fields()
            if item.name in self.sources or item.name in paths
        }
        env |= {KAFKA_PREFIX + key.replace(".", "__"): value for key, value in self.kafka.items()}
        return env

    def masked(self) -> dict[str, tuple[str, str]]:
        """Environment name -> (value with secrets masked, source), for `engagement settings`."""
        rows = {
            PREFIX + item.name.upper(): (_shown(item, getattr(self, item.name)), self.sources.get(item.name, "default"))
            for item in _public_fields()
        }
        for key, value in self.kafka.items():
            shown = "***" if _is_secret(key) else value
            rows[KAFKA_PREFIX + key.replace(".", "__")] = (shown, self.sources.get(f"kafka.{key}", "environment"))
        return rows


def _public_fields() -> list[Any]:
    return [item for item in fields(Settings) if item.name not in ("kafka", "sources")]


def _shown(item: Any, value: Any) -> str:
    return "***" if item.metadata["secret"] and value else str(value)


def _is_secret(name: str) -> bool:
    """A misspelt `sasl.pasword` holds the password all the same: of SASL only what is known to be harmless is shown."""
    harmless = ("sasl.mechanism", "sasl.mechanisms", "sasl.username")
    if name.lower().startswith("sasl.") and name.lower() not in harmless:
        return True
    return any(word in name.lower() for word in ("password", "secret", "key", "token", "jaas", "credential"))


def load(environ: Mapping[str, str] | None = None, folder: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings.

    `environ` defaults to the process environment, `folder` (where `engagement.toml` is looked for)
    to the working directory; `overrides` win over both (used by tests and by command-line options).

    Raises SettingsError for an unknown name or an unreadable value.
    """
    environ = os.environ if environ is None else environ
    folder = (folder or Path.cwd()).resolve()
    known = {item.name: item for item in _public_fields()}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    kafka: dict[str, str] = {}

    for name, raw in _read_toml(folder / TOML_NAME).items():
        if name == "kafka" and isinstance(raw, dict):
            kafka |= {key.replace("__", "."): str(value) for key, value in raw.items()}
            sources |= {f"kafka.{key.replace('__', '.')}": TOML_NAME for key in raw}
        elif name in known:
            values[name], sources[name] = _parse(_no_secret(known[name]), raw, name), TOML_NAME
        else:
            raise SettingsError(_unknown(name, list(known), TOML_NAME))
    for variable, text in environ.items():
        if variable.startswith(KAFKA_PREFIX):
            key = variable[len(KAFKA_PREFIX) :].replace("__", ".").lower()
            kafka[key], sources[f"kafka.{key}"] = text, "environment"
        elif variable.startswith(PREFIX):
            name = variable[len(PREFIX) :].lower()
            if name not in known:
                raise SettingsError(_unknown(variable, [PREFIX + item.upper() for item in known], "the environment"))
            values[name], sources[name] = _parse(known[name], text, variable), "environment"
    for name, value in overrides.items():
        if value is not None:
            values[name], sources[name] = value, "option"

    settings = Settings(**values, kafka=kafka, sources=sources)
    return _checked(settings, folder)


def _read_toml(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        msg = f"{path}: not readable as TOML: {error}"
        raise SettingsError(msg) from error


def _no_secret(item: Any) -> Any:
    if item.metadata["secret"]:
        raise SettingsError(f"{item.name} in {TOML_NAME}: a secret comes from the environment alone, set {PREFIX}{item.name.upper()} there")
    return item


def _parse(item: Any, raw: Any, shown: str) -> Any:
    kind = type(item.default)
    try:
        if kind is int:
            return _in_range(item, _whole_number(raw), shown)
        if kind is date:
            return raw if type(raw) is date else date.fromisoformat(raw)
    except (TypeError, ValueError) as error:
        expected = "a whole number" if kind is int else "a day as YYYY-MM-DD"
        msg = f"{shown}={raw!r}: expected {expected}"
        raise SettingsError(msg) from error
    if not isinstance(raw, str):
        raise SettingsError(f"{shown}={raw!r}: expected a text")
    return Path(raw) if issubclass(kind, Path) else raw


def _whole_number(raw: Any) -> int:
    if isinstance(raw, str) or type(raw) is int:
        return int(raw)
    raise TypeError(raw)


def _in_range(item: Any, value: int, shown: str) -> int:
    low, high = item.metadata["low"], item.metadata["high"]
    if (low is not None and value < low) or (high is not None and value > high):
        raise SettingsError(f"{shown}={value}: must be {f'at least {low}' if high is None else f'from {low} to {high}'}")
    return value


def _checked(settings: Settings, folder: Path) -> Settings:
    if 60 % settings.slot_minutes:
        msg = f"{PREFIX}SLOT_MINUTES={settings.slot_minutes}: must divide 60 (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30 or 60)"
        raise SettingsError(msg)
    for name, value, valid in (
        ("SESSION_MODE", settings.session_mode, ("gap", "client")),
        ("ENGINE", settings.engine, ("duckdb",)),
        ("CATALOG", settings.catalog, ("local", "glue")),
        ("GLUE_PARTITIONS", settings.glue_partitions, ("listed", "projected")),
        ("USER_IDS", settings.user_ids, ("plain", "hashed")),
        ("KEEP_PLACE", settings.keep_place, ("city", "region", "country")),
        ("KEEP_LOCALE", settings.keep_locale, ("full", "language", "none")),
        ("KEEP_BYTES", settings.keep_bytes, ("all", "none")),
    ):
        if value not in valid:
            msg = f"{PREFIX}{name}={value!r}: must be one of {', '.join(valid)}"
            raise SettingsError(msg)
    _check_privacy(settings)
    if settings.dagster_storage and not settings.dagster_storage.startswith("postgresql://"):
        raise SettingsError(f"{PREFIX}DAGSTER_STORAGE: must be empty or postgresql://user:password@host:port/database")
    absolute: dict[str, Any] = {
        "lake_url": _lake_url(settings.lake_url, folder),
        "state_dir": (folder / settings.state_dir).resolve(),
        "model": _file_path(settings, folder, "model"),
        "retention": _file_path(settings, folder, "retention"),
        "sla": _file_path(settings, folder, "sla"),
    }
    return replace(settings, **absolute)


def _lake_url(url: str, folder: Path) -> str:
    """A folder absolute; `s3://bucket/prefix` without a slash at its end."""
    if "://" not in url:
        return str((folder / url).resolve())
    if not _S3_URL.fullmatch(url):
        msg = f"{PREFIX}LAKE_URL={url!r}: must be a folder or s3://bucket/prefix"
        raise SettingsError(msg)
    return url.rstrip("/")


def _check_privacy(settings: Settings) -> None:
    if any(len(key) < SHORTEST_KEY or key != key.strip() for key in settings.hash_keys):
        msg = f"{PREFIX}HASH_KEY: at least {SHORTEST_KEY} characters a key and no blanks around it, e.g. from `openssl rand -hex 32`"
        raise SettingsError(msg)
    if settings.user_ids == "hashed" and "keep_bytes" not in settings.sources:
        msg = (
            f"{PREFIX}USER_IDS=hashed needs {PREFIX}KEEP_BYTES: rejected records hold user ids in their bytes; "
            "all keeps them as they came, for replay, none does not store them"
        )
        raise SettingsError(msg)


def _file_path(settings: Settings, folder: Path, name: str) -> str:
    """Absolute; empty where none is wished, or where there is none of the name that nobody asked for."""
    value = getattr(settings, name)
    path = (folder / value).resolve()
    return str(path) if value and (name in settings.sources or path.exists()) else ""


def _unknown(name: str, valid: list[str], where: str) -> str:
    near = difflib.get_close_matches(name, valid, n=3, cutoff=0.4) or sorted(valid)
    return f"unknown setting {name} in {where}; nearest valid names: {', '.join(near)}"
