"""What wakes whom: alerts, routes and dashboards, declared here and written for the settings that run (`engagement monitoring`).

Imports `engagement` for the names of series and the SLAs; nothing imports this but the command line and tests.
"""
