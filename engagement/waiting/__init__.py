"""What is still to be done, computed from the lake: what waits, how much of it, and refreshing it in the right order.

The rows are made in `engagement.tables`; who asks for a run is `sensors`.
"""
