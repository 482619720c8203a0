"""From the log, or from files of history, into raw objects. Loads without dagster (tested)."""
