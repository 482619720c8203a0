"""Events to sessions, once by each means a user would think of: one Parquet file in, one out. Run by `bench/sessions.py`.

    python bench/peers/sessionize.py CONTENDER EVENTS.parquet SESSIONS.parquet [FOLDER]

Each drops copies (R6), sessionizes with a gap of 30 minutes and the whole-day rule (R7) and writes all columns of
`sessions`. Input: the columns of `events`, copies still in it. FOLDER is where scratch files may lie.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

GAP_SECONDS = 1800
THREADS = 2
IDENTITY = ["event_id", "event_time"]
LOG = ["received_at", "kafka_topic", "kafka_topic_id", "kafka_partition", "kafka_offset"]
FACTS = ["user_id", "session_id", "event_type", "screen", "device_type", "app_version", "country"]
COUNTED = {
    "screen_views": "screen_view", "notification_views": "view_notification", "notification_clicks": "click_notification",
    "installs": "install",
}  # fmt: skip
DIMENSIONS = ["device_type", "app_version", "country"]
LONGEST = 50


def main(contender: str, source: str, target: str, scratch: str = ".") -> None:
    """Run one contender."""
    CONTENDERS[contender](source, target, scratch)


def begun() -> None:
    """Start-up ends here: what was imported and started is told apart from the work."""
    print("begun", flush=True)


def ours(source: str, target: str, scratch: str) -> None:
    """The pipeline's own SQL texts, one on top of the other, with slots of an hour as in a lake.

    A stored slot is sorted, so there a row's number is its place; here the order is computed.
    """
    from engagement.raw import rows
    from engagement.tables import engine

    con = _duckdb(source, scratch)
    con.register("arrivals", rows.schema().empty_table())
    con.execute("CREATE VIEW standing AS SELECT * FROM known")
    con.execute("CREATE TABLE device_models (model VARCHAR, device_name VARCHAR)")
    texts = {name: bound(engine.sql(name)) for name in ("events", "fragments", "sessions")}
    begun()
    con.execute(f"CREATE VIEW slot_events AS {bound(PLACED).replace('$events', texts['events'])}")
    con.execute(f"CREATE VIEW reach_fragments AS {texts['fragments']}")
    con.execute(f"COPY ({texts['sessions']}) TO '{target}' (COMPRESSION zstd)")


PLACED = "SELECT *, epoch_us(event_time) % $slot_us * 2147483648 + turn AS place FROM ($events)"
"""Each event's place in its slot as one number: the microsecond, then the turn among the events of that time."""


def bound(text: str) -> str:
    """The text with its parameters as literals: a view takes none."""
    rule = {"slot_us": 3600 * 10**6, "gap_us": GAP_SECONDS * 10**6, "by_client": "false"}
    for name, value in rule.items():
        text = text.replace(f"${name}", str(value))
    return text


def usual(source: str, target: str, scratch: str) -> None:
    """QUALIFY, LAG and a running SUM over all events, on the same engine (`usual.sql`)."""
    con = _duckdb(source, scratch)
    begun()
    con.execute(f"COPY ({Path(__file__).with_name('usual.sql').read_text()}) TO '{target}' (COMPRESSION zstd)")


def _duckdb(source: str, scratch: str) -> Any:
    from engagement import settings
    from engagement.tables import engine

    con = engine.connect(settings.load({}, Path(scratch), threads=THREADS, state_dir=Path(scratch), memory_limit="8GiB"))
    con.execute(f"CREATE VIEW known AS SELECT * FROM read_parquet('{source}')")
    return con


def keys(users: Iterable[str], starts_us: Iterable[int]) -> list[str]:
    """`session_key` of each session; frames know no MD5."""
    return [hashlib.md5(f"{user}\x1f{start}".encode()).hexdigest() for user, start in zip(users, starts_us, strict=True)]  # noqa: S324


def pandas(source: str, target: str, _scratch: str) -> None:
    """Sort, drop_duplicates, shift, cumsum, groupby."""
    import pandas as pd
    import pyarrow.parquet  # noqa: F401 - read_parquet would import it only then

    begun()
    gap, day = pd.Timedelta(seconds=GAP_SECONDS), pd.Timedelta(days=1)
    events = pd.read_parquet(source, columns=[*FACTS, *IDENTITY, *LOG])
    events = events.sort_values(LOG).drop_duplicates(IDENTITY).drop(columns=LOG)
    events = events.sort_values(["user_id", "event_time", "event_id"], ignore_index=True).drop(columns="event_id")
    same_user = events["user_id"].eq(events["user_id"].shift())
    before = events["event_time"].shift().where(same_user)
    events["day"] = events["event_time"].dt.floor("D")
    new_day = same_user & before.dt.floor("D").ne(events["day"])
    pause = events["event_time"] - before
    days = events.assign(pause=pause.mask(new_day)).groupby(["user_id", "day"], sort=False).agg(
        first=("event_time", "min"), last=("event_time", "max"), pause=("pause", "max"), events=("event_time", "size")
    ).reset_index()  # fmt: skip
    days["is_automated"] = (
        (days["first"] - days["day"] <= gap) & (days["day"] + day - days["last"] <= gap) & (days["pause"].fillna(pd.Timedelta(0)) <= gap)
    )
    events["is_automated"] = days["is_automated"].repeat(days["events"]).to_numpy()
    was_automated = events["is_automated"].shift(fill_value=False)
    events["session"] = (~same_user | (pause > gap) | (new_day & (events["is_automated"] | was_automated))).cumsum()
    for name, kind in COUNTED.items():
        events[name] = events["event_type"].eq(kind)
    grouped = events.groupby("session", sort=False)
    sessions = grouped.agg(
        user_id=("user_id", "first"), started_at=("event_time", "min"), ended_at=("event_time", "max"), event_count=("day", "size"),
        **{name: (name, "sum") for name in COUNTED}, is_automated=("is_automated", "first"),
    )  # fmt: skip
    # The first *event* decides, also where its value is missing; `first` would skip it.
    sessions[DIMENSIONS] = events.loc[~events["session"].duplicated(), DIMENSIONS].to_numpy()
    seen = events.loc[events["screen_views"] & events["screen"].notna(), ["session", "screen"]]
    by_session = seen.groupby("session", sort=False)
    sessions["screen_path"] = seen[by_session.cumcount() < LONGEST].groupby("session", sort=False)["screen"].agg(list)
    sessions["entry_screen"], sessions["exit_screen"] = by_session["screen"].first(), by_session["screen"].last()
    clients = events.loc[events["session_id"].notna(), ["session", "session_id"]].drop_duplicates()
    clients = clients[clients.groupby("session", sort=False).cumcount() < LONGEST]
    sessions["client_session_ids"] = clients.groupby("session", sort=False)["session_id"].agg(list)
    for name in ("screen_path", "client_session_ids"):
        sessions[name] = [found if isinstance(found, list) else [] for found in sessions[name]]
    length = sessions["ended_at"] - sessions["started_at"]
    sessions["duration_seconds"] = length / pd.Timedelta(seconds=1)
    sessions["is_engaged"] = (length > pd.Timedelta(seconds=10)) | (sessions["screen_views"] >= 2)
    sessions["is_bounce"] = ~sessions["is_engaged"]
    sessions["open_until"] = sessions["ended_at"] + gap
    sessions["session_key"] = keys(sessions["user_id"], sessions["started_at"].dt.as_unit("us").astype("int64"))
    sessions.to_parquet(target, compression="zstd", index=False)


def polars(source: str, target: str, _scratch: str) -> None:
    """One lazy query: sort, unique, over, group_by."""
    import polars as pl

    begun()
    gap = pl.duration(seconds=GAP_SECONDS)
    events = (
        pl.scan_parquet(source).select(*FACTS, *IDENTITY, *LOG)
        .sort(LOG).unique(IDENTITY, keep="first", maintain_order=True).drop(LOG)
        .sort("user_id", "event_time", "event_id")
        .with_columns(day=pl.col("event_time").dt.truncate("1d"), before=pl.col("event_time").shift().over("user_id"))
        .with_columns(pause=pl.col("event_time") - pl.col("before"), new_day=pl.col("before") < pl.col("day"))
    )  # fmt: skip
    inside = pl.col("pause").filter(~pl.col("new_day")).max().fill_null(pl.duration(seconds=0))
    events = events.with_columns(
        is_automated=(
            (pl.col("event_time").min() - pl.col("day").first() <= gap)
            & (pl.col("day").first() + pl.duration(days=1) - pl.col("event_time").max() <= gap)
            & (inside <= gap)
        ).over("user_id", "day")
    )
    cut = pl.col("new_day") & (pl.col("is_automated") | pl.col("is_automated").shift())
    events = events.with_columns(
        session=(pl.col("before").is_null() | (pl.col("pause") > gap) | cut).cast(pl.Int64).cum_sum(),
    )
    screens = pl.col("screen").filter((pl.col("event_type") == "screen_view") & pl.col("screen").is_not_null())
    sessions = events.group_by("session").agg(
        pl.col("user_id").first(), started_at=pl.col("event_time").min(), ended_at=pl.col("event_time").max(), event_count=pl.len(),
        **{name: (pl.col("event_type") == kind).sum() for name, kind in COUNTED.items()},
        screen_path=screens.head(LONGEST), entry_screen=screens.first(), exit_screen=screens.last(),
        client_session_ids=pl.col("session_id").drop_nulls().unique(maintain_order=True).head(LONGEST),
        **{name: pl.col(name).first() for name in DIMENSIONS}, is_automated=pl.col("is_automated").first(),
    )  # fmt: skip
    length = pl.col("ended_at") - pl.col("started_at")
    engaged = (length > pl.duration(seconds=10)) | (pl.col("screen_views") >= 2)
    done = sessions.drop("session").with_columns(
        length_us=length.dt.total_microseconds(), is_engaged=engaged, is_bounce=~engaged,
        open_until=pl.col("ended_at") + gap,
    ).collect()  # fmt: skip
    named = pl.Series("session_key", keys(done["user_id"], done["started_at"].dt.epoch("us")))
    # Its own division by a constant multiplies by the inverse, which rounds otherwise.
    seconds = pl.Series("duration_seconds", done["length_us"].to_numpy() / 1_000_000)
    done.drop("length_us").with_columns(named, seconds).write_parquet(target, compression="zstd")


def spark(source: str, target: str, scratch: str) -> None:
    """`session_window`, with the automated days found first: a window cannot be cut at a midnight."""
    from pyspark.sql import SparkSession, Window
    from pyspark.sql import functions as f

    builder = SparkSession.builder.master(f"local[{THREADS}]").config("spark.local.dir", scratch)
    for name, value in SPARK.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    begun()
    first_copy = Window.partitionBy(*IDENTITY).orderBy(*LOG)
    events = session.read.parquet(source).select(*FACTS, *IDENTITY, *LOG)
    events = events.withColumn("copy", f.row_number().over(first_copy)).where("copy = 1").drop("copy", *LOG)
    events = events.withColumn("day", f.date_trunc("day", "event_time"))
    automated = _automated_days(events)
    # Between two events around an automated day lie 24 hours, so one key for all other days joins nothing.
    events = events.join(f.broadcast(automated), ["user_id", "day"], "left")
    # A gap of exactly 30 minutes continues: the window's end is exclusive.
    window = f.session_window("event_time", f"{GAP_SECONDS} seconds 1 microsecond")
    place = f.struct("event_time", "event_id")
    screen = f.when((f.col("event_type") == "screen_view") & f.col("screen").isNotNull(), f.struct("event_time", "event_id", "screen"))
    client = f.when(f.col("session_id").isNotNull(), f.struct("event_time", "event_id", "session_id"))
    screens = f.transform(f.array_sort(f.collect_list(screen)), lambda found: found["screen"])
    clients = f.array_distinct(f.transform(f.array_sort(f.collect_list(client)), lambda found: found["session_id"]))
    sessions = events.groupBy("user_id", "automated_day", window).agg(
        f.min("event_time").alias("started_at"), f.max("event_time").alias("ended_at"), f.count("*").alias("event_count"),
        *(f.count(f.when(f.col("event_type") == kind, 1)).alias(name) for name, kind in COUNTED.items()),
        screens.alias("screens"), clients.alias("clients"),
        *(f.min_by(name, place).alias(name) for name in DIMENSIONS),
    )  # fmt: skip
    length = f.expr("unix_micros(ended_at) - unix_micros(started_at)")
    engaged = (length > 10_000_000) | (f.col("screen_views") >= 2)
    sessions.select(
        f.md5(f.concat_ws("\x1f", "user_id", f.expr("CAST(unix_micros(started_at) AS STRING)"))).alias("session_key"),
        "user_id", "started_at", "ended_at", (length / 1_000_000).alias("duration_seconds"), "event_count", *COUNTED,
        f.slice("screens", 1, LONGEST).alias("screen_path"), f.expr("get(screens, 0)").alias("entry_screen"),
        f.expr("get(screens, size(screens) - 1)").alias("exit_screen"), f.slice("clients", 1, LONGEST).alias("client_session_ids"),
        *DIMENSIONS, engaged.alias("is_engaged"), (~engaged).alias("is_bounce"), f.col("automated_day").isNotNull().alias("is_automated"),
        (f.col("ended_at") + f.expr(f"INTERVAL {GAP_SECONDS} SECONDS")).alias("open_until"),
    ).coalesce(1).write.parquet(target)  # fmt: skip
    session.stop()


def _automated_days(events: Any) -> Any:
    """One row per automated user and day; the order of events is looked at only where a day's borders allow it."""
    from pyspark.sql import Window
    from pyspark.sql import functions as f

    gap = f.expr(f"INTERVAL {GAP_SECONDS} SECONDS")
    full = events.groupBy("user_id", "day").agg(f.min("event_time").alias("first"), f.max("event_time").alias("last"))
    full = full.where((f.col("first") <= f.col("day") + gap) & (f.col("last") >= f.col("day") + f.expr("INTERVAL 1 DAY") - gap))
    of_day = Window.partitionBy("user_id", "day").orderBy("event_time")
    steps = events.join(f.broadcast(full), ["user_id", "day"], "left_semi").select(
        "user_id",
        "day",
        f.expr("unix_micros(event_time)").alias("at"),
        f.lag(f.expr("unix_micros(event_time)")).over(of_day).alias("before"),
    )
    longest = f.coalesce(f.max(f.col("at") - f.col("before")), f.lit(0))
    found = steps.groupBy("user_id", "day").agg(longest.alias("pause")).where(f.col("pause") <= GAP_SECONDS * 10**6)
    return found.select("user_id", "day", f.col("day").alias("automated_day"))


SPARK = {
    "spark.ui.enabled": "false",
    "spark.driver.memory": "6g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.shuffle.partitions": "8",
    "spark.log.level": "ERROR",
}
CONTENDERS = {"ours": ours, "usual": usual, "pandas": pandas, "polars": polars, "spark": spark}


if __name__ == "__main__":
    main(*sys.argv[1:])
