"""`catalog`: the last step of each refresh job, so that others find what the run made (design §7).

It costs no call and no listing where no table or partition is new. A catalog that cannot be written fails its own step and no
unit: what the run made is in the lake, and the next run must not wait for a retry delay.
"""

from dagster import AssetDep, AssetExecutionContext, AssetsDefinition, LastPartitionMapping, MetadataValue, asset

from engagement import catalog
from engagement_assets import steps
from resources.tables import Tables

NAME = "catalog"
TABLES = ("events", "session_fragments", "user_activity", "sessions", "hourly_engagement", "daily_engagement")


def assets() -> list[AssetsDefinition]:
    """The one asset."""

    @asset(
        name=NAME,
        # Without a mapping Dagster lists every hour since the history's start in each run: over 3 s for six years.
        deps=[AssetDep(name, partition_mapping=LastPartitionMapping()) for name in TABLES],
        group_name="catalog",
        description="Tables and partitions as other programs find them: views in lake.duckdb, or the Glue Data Catalog.",
        kinds={"catalog"},
    )
    def catalog_asset(context: AssetExecutionContext, tables: Tables) -> None:
        opened = tables.context
        try:
            report = catalog.refresh(opened.settings, opened.lake, keys=tables.made, opened=opened)
        except Exception:
            steps.say_that_no_unit_failed(context)
            raise
        else:
            context.log.info("%s", report)
            context.add_asset_metadata(_metadata(report))
        finally:
            steps.fail_at_the_end(context, tables)

    return [catalog_asset]


def _metadata(report: catalog.Report) -> dict[str, MetadataValue]:
    """What was done, and the calls that it took (R11)."""
    return {
        "catalog": MetadataValue.text(f"{report.catalog} {report.where}"),
        "tables_written": MetadataValue.text(", ".join(report.tables_written)),
        "partitions_added": MetadataValue.int(report.partitions_added),
        "calls": MetadataValue.int(sum(report.calls.values())),
        "differences": MetadataValue.text("; ".join(report.drift)),
        "note": MetadataValue.text(report.note),
    }
