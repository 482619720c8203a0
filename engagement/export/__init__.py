"""Everything that is held about one person, handed out: `engagement export`. Taking it away is another room's (erasure)."""
