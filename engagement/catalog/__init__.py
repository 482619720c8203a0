"""The catalog: how programs that are not ours find the tables, kept in step with the lake.

Two kinds, by ENGAGEMENT_CATALOG: `local` is a DuckDB file of views in the state folder, `glue` the AWS Glue Data Catalog.
Raw and archive are in neither: they are read through our own reader only (R5). What the tables hold is not known here;
columns, types and comments come from `engagement.model.schemas`.

`refresh` is incremental, the last step of each run: it costs nothing where no table or partition is new. `mend` compares
everything with the lake and puts right whatever differs, hand-made changes too.
"""

from engagement.catalog.report import Report
from engagement.catalog.upkeep import mend, refresh

__all__ = ["Report", "mend", "refresh"]
