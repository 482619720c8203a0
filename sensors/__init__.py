"""Sensors: what waits becomes runs. Thin functions over plain ones that are tested without Dagster."""
