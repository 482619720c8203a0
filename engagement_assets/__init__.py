"""The asset graph, thin: which assets exist, what they depend on, how they run. The work is done in `engagement.tables`."""
