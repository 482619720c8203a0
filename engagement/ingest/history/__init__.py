"""Files of history as rows of bytes: what `engagement import` reads, before anything is an event.

`found` says which files are meant, `streams` opens them, `lines`, `delimited` and `parquet` know one kind each,
`tabular` makes JSON documents of columns, `mapping` gives names. Each kind turns a file into the bytes of one JSON
document a row; what these mean is the contract's business alone. No lake, no chains: those are in `ingest.importer`.
"""
