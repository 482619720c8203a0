"""Programs that are not ours find the tables through Glue and read the rows that `query` shows.

Glue and S3 are moto's: what only AWS can prove (Athena, Lake Formation, real throttling) is marked in docs/data-schema.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import lake_helpers
import pytest

from engagement import catalog
from engagement.lake import open_lake
from engagement.model import schemas
from engagement.stack import java
from engagement.tables import engine, views
from engagement.waiting import refresh

ROOT = Path(__file__).parents[2]
READERS = ROOT / "tests" / "readers"
NAMES = sorted(schemas.NAMES[table] for table in engine.FILES)
"""Tables that events are made into; what checks found is none of them."""
JANUARY = datetime(2026, 1, 9, 8, 30, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 10, 23, 55, 0, 123456, tzinfo=UTC)
MODEL = '[dimensions.region]\ncolumn = "region"\nall = "ALL_REGIONS"\ncomment = "where"\n'


@pytest.fixture(scope="module")
def packages():
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "bench"))
    from peers import packages as found

    yield found
    sys.path[:] = before


@pytest.fixture(scope="module")
def service():
    """S3 and Glue on one address, and the environment that leads there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        yield environment
    server.stop()


@pytest.fixture(scope="module")
def lake(service, tmp_path_factory):  # noqa: ARG001 - Glue has to be there
    """A local lake with a declared dimension, in Glue by its own folder; all its objects are of one model."""
    folder = tmp_path_factory.mktemp("readers")
    (folder / "model.toml").write_text(MODEL)
    with lake_helpers.tables_of(folder, catalog="glue", glue_database="local") as context:
        seen = [(JANUARY, "u1", "DE"), (JANUARY + timedelta(minutes=40), "u1", "DE"), (OCTOBER, "u2", "FR"), (OCTOBER, "ü'3", None)]
        made = [
            lake_helpers.screen_view(number, at, user_id=user, country=country, screen=None if number == 1 else "Hôme")
            for number, (at, user, country) in enumerate(seen)
        ]
        lake_helpers.write(context, made)
        refresh.until_nothing_waits(context)
        catalog.refresh(context.settings, context.lake)
        return context.settings


@pytest.fixture(scope="module")
def queried(lake, tmp_path_factory):
    """Each table as `query` shows it, as Parquet."""
    folder = tmp_path_factory.mktemp("queried")
    with views.open_views(lake) as con:
        for name in NAMES:
            import pyarrow.parquet as pq

            columns = "* EXCLUDE (is_open)" if name == "sessions" else "*"
            pq.write_table(con.sql(f"SELECT {columns} FROM {name}").to_arrow_table(), folder / f"{name}.parquet")
    return folder


def assert_same(found, queried):
    """The same columns, types and rows in every table."""
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name in NAMES:
            ours = f"read_parquet('{queried}/{name}.parquet')"
            theirs = f"read_parquet('{found}/{name}.parquet{'/*.parquet' if (found / f'{name}.parquet').is_dir() else ''}')"
            columns = {row[0]: row[1] for row in con.execute(f"DESCRIBE SELECT * FROM {ours}").fetchall()}
            assert {row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {theirs}").fetchall()} == set(columns), name
            shown = ", ".join(f"CAST({column} AS {kind}) AS {column}" for column, kind in columns.items())
            rows = [con.execute(f"SELECT {shown} FROM {source} ORDER BY ALL").fetchall() for source in (ours, theirs)]
            assert rows[0] == rows[1], name
            assert rows[0], name


def run(script, *arguments, packages, **environment):
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [sys.executable, "-S", str(READERS / script), *map(str, arguments)],
        env=clean | {"PYTHONPATH": str(packages)} | environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def glue():
    import boto3

    return boto3.session.Session().client("glue")


def test_awswrangler_reads_from_glue_and_s3_what_query_shows(service, lake, queried, packages, tmp_path):
    import boto3

    s3 = boto3.session.Session().client("s3")
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": service["AWS_REGION"]})
    local, _ = open_lake(lake)
    for entry in local.list(""):
        s3.put_object(Bucket="bucket", Key=f"some/lake/{entry.key}", Body=local.read(entry.key))
    settings = lake_helpers.settings_of(tmp_path, catalog="glue", glue_database="remote", model=lake.model)
    settings = replace(settings, lake_url="s3://bucket/some/lake")
    report = catalog.mend(settings, open_lake(settings)[0])
    assert report.partitions_added == 4 * 3 + 2

    out = tmp_path / "out"
    out.mkdir()
    run("wrangler.py", "remote", out, *NAMES, packages=packages.folder("awswrangler"))
    assert_same(out, queried)


def test_spark_reads_by_glues_columns_and_places_what_query_shows(queried, packages, tmp_path):
    given = {}
    for name in NAMES:
        table = glue().get_table(DatabaseName="local", Name=name)["Table"]
        pages = glue().get_paginator("get_partitions").paginate(DatabaseName="local", TableName=name)
        columns = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
        given[name] = {
            "columns": ", ".join(f"{column['Name']} {column['Type']}" for column in columns),
            "place": table["StorageDescriptor"]["Location"],
            "partitions": [partition["StorageDescriptor"]["Location"] for page in pages for partition in page["Partitions"]],
        }
    (tmp_path / "given.json").write_text(json.dumps(given))
    home = java.executable().resolve().parent.parent
    run(
        "spark.py",
        tmp_path / "given.json",
        tmp_path,
        packages=packages.folder("spark"),
        JAVA_HOME=str(home),
        SPARK_LOCAL_DIRS=str(tmp_path),
    )
    assert_same(tmp_path, queried)


def test_duckdb_reads_glues_partitions_what_query_shows(queried, tmp_path):
    with duckdb.connect() as con:
        for name in NAMES:
            found = glue().get_partitions(DatabaseName="local", TableName=name)["Partitions"]
            places = [f"{partition['StorageDescriptor']['Location'].removeprefix('file://')}*.parquet" for partition in found]
            types = "{'year': INTEGER, 'month': INTEGER, 'day': INTEGER, 'hour': INTEGER}"
            types = types.replace(", 'hour': INTEGER", "") if name.startswith("daily") else types
            con.execute(
                f"COPY (SELECT * FROM read_parquet({places}, hive_types = {types})) TO '{tmp_path}/{name}.parquet' (FORMAT parquet)"
            )
    assert_same(tmp_path, queried)


@pytest.mark.usefixtures("lake")
@pytest.mark.parametrize(("expression", "hours"), [("month = 1", 2), ("month = 10", 1), ("year = 2026 AND month > 1 AND hour = 23", 1)])
def test_partitions_are_found_by_number(expression, hours):
    assert len(glue().get_partitions(DatabaseName="local", TableName="events", Expression=expression)["Partitions"]) == hours
