"""What holds for all unit tests: no example of a property fails because the machine is busy."""

from hypothesis import settings

settings.register_profile("whenever", deadline=None)
settings.load_profile("whenever")
