"""What a lake's tables are: how time is cut into units, which columns they have, what is declared, and the SQL text that follows.

Nothing here opens a table or makes a row (`engagement.tables`).
"""
