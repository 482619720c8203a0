"""Named streams of random numbers: the only source of chance in the simulator.

A name of its own for each user and visit means that changing one draw leaves all the others as they were.
"""

from __future__ import annotations

from random import Random


def stream(*names: object) -> Random:
    """The random numbers that belong to these names; independent of the process and the platform."""
    return Random("/".join(map(str, names)))  # noqa: S311 - reproducible, not secret


def uuid(rng: Random) -> str:
    """A version 4 UUID in lower case."""
    digits = f"{rng.getrandbits(128):032x}"
    variant = "89ab"[int(digits[16], 16) & 3]
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"
