"""The streaming query: Kafka to typed columns to Parquet, all there is now, then the end. Run by `spark.py`.

python spark_job.py BOOTSTRAP TOPIC,TOPIC… FOLDER JAR,JAR…
"""

from __future__ import annotations

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

EVENT = """
    event_id STRING, user_id STRING, session_id STRING, event_type STRING, timestamp TIMESTAMP, app_version STRING, properties STRING,
    device_info STRUCT<device_type STRING, model STRING, os_version STRING, locale STRING>,
    geo_location STRUCT<country STRING, region STRING, city STRING>
"""
SETTINGS = {
    "spark.ui.enabled": "false",
    "spark.driver.memory": "2g",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.log.level": "WARN",
}


def main(bootstrap: str, topics: str, folder: str, jars: str) -> None:
    """Run the query to its end."""
    builder = SparkSession.builder.master("local[2]").config("spark.jars", jars)
    for name, value in SETTINGS.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    print("begun", flush=True)
    log = (
        session.readStream.format("kafka")
        .option("kafka.bootstrap.servers", bootstrap)
        .option("subscribe", topics)
        .option("startingOffsets", "earliest")
        .load()
    )
    event = f.from_json(f.col("value").cast("string"), EVENT).alias("event")
    rows = log.select("topic", "partition", "offset", f.col("timestamp").alias("received_at"), event).select(
        "topic", "partition", "offset", "received_at", "event.event_id", "event.user_id", "event.session_id", "event.event_type",
        f.col("event.timestamp").alias("event_time"), "event.app_version", "event.properties",
        "event.device_info.*", "event.geo_location.*",
    )  # fmt: skip
    query = (
        rows.writeStream.format("parquet")
        .option("path", f"{folder}/table")
        .option("checkpointLocation", f"{folder}/checkpoint")
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    session.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
