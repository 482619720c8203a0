"""Thin Dagster resources over engagement's own handles. No logic, no reading of settings at import."""
