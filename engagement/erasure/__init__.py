"""Erasing people from a lake (R1): where they stand, taking them out, and the proof that nothing brings them back.

`forget` is the room's public face. Here is what needs the id; the list of hashes that every writer reads is
`engagement.raw.erasures`. Not here: what retention takes (`engagement.maintenance`), and pseudonyms (`engagement.raw.privacy`).
"""
