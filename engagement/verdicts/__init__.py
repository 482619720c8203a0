"""How far units may be believed: what checks found, which candidates are held, what people released.

`quality` judges and writes here; the command line, the page, erasure and retention read. Nothing here runs a check, and
no table of the live path is made from it.
"""
