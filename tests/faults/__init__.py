"""Faults on purpose, against the real consumer and the real broker, and the proof that nothing was lost or doubled.

`plan` says which faults come in which order, from one seed. `run` carries a plan out over a `crew` of ingest
processes (`child`, with the `faulty_lake` inside) while `traffic` produces; `verdict` compares the lake with the log.
The short form is `tests/integration/test_faults.py`, the long one `bench/faults.py`. Nothing in the product knows of this.
"""
