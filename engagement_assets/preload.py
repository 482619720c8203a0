"""What every run imports inside its functions, imported once in the process that runs are forked from.

Only imports: nothing may be opened and no thread started before a fork.
"""

import duckdb  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
from dagster._grpc import impl  # noqa: F401
