"""The exporter: one long-lived process that looks at lake, log and Dagster instance and tells Prometheus what it saw.

It judges nothing but freshness: what is too much, for how long, and whom it wakes is declared in `monitoring`. Each source
is one module, looked at by itself; one that cannot be asked says so in a series of its own and leaves out its others, so that
alerts on absence see it.
"""
