"""What every run imports inside its functions, imported once in the process that runs are forked from.

Nothing may be opened and no thread started before a fork. The lineage of the built-in tables is read here once: half a CPU-second
that every run would pay.
"""

import dagster._core.executor.in_process
import dagster._core.instance.factory
import dagster._core.storage.local_compute_log_manager
import dagster._core.storage.root
import dagster._core.storage.sqlite_storage  # noqa: F401
import duckdb  # noqa: F401
import pandas  # noqa: F401, ICN001 - the first array that pyarrow makes from Python values imports it
import pyarrow.compute
import pyarrow.pandas_compat
import pyarrow.parquet  # noqa: F401
import upath.implementations.local  # noqa: F401
from dagster._grpc import impl  # noqa: F401

import engagement.catalog.local  # noqa: F401
from engagement.model.model import built_in
from engagement.tables import lineage

for table in lineage.INPUTS:
    lineage.columns(table, built_in())
