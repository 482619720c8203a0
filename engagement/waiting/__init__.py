"""What is still to be done, computed from the lake: what waits, how much of it, and whether the log beneath it is whole.

Nothing here makes a row (`engagement.tables`), and nothing asks for a run (`sensors`).
"""
