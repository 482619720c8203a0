"""Who uses the app: devices, places, versions, and when in the day a person is awake.

A user is a pure function of seed and number, so the population needs no storage. Time zones are fixed
offsets without summer time: good enough for who is awake, and every timestamp states its offset.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

from engagement.stack.simulator.chance import stream, uuid

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
DAY_US = 24 * HOUR_US

AWAKE = (
    .10, .06, .04, .04, .05, .12, .30, .52, .62, .58, .55, .60,
    .72, .66, .58, .58, .62, .70, .80, .92, 1.0, .95, .68, .32,
)  # fmt: skip
"""Chance, by local hour, that a person picked at random is up for using the app."""

DEVICES: tuple[tuple[str, float, int], ...] = (
    ("iPhone10,6", 1.0, 16), ("iPhone11,8", 3.0, 18), ("iPhone12,1", 6.0, 26), ("iPhone12,8", 2.5, 26),
    ("iPhone13,2", 6.0, 26), ("iPhone13,4", 3.0, 26), ("iPhone14,5", 9.0, 26), ("iPhone14,2", 4.5, 26),
    ("iPhone14,6", 2.5, 26), ("iPhone14,7", 6.5, 26), ("iPhone15,2", 6.0, 26), ("iPhone15,3", 7.0, 26),
    ("iPhone15,4", 7.5, 26), ("iPhone16,1", 6.0, 26), ("iPhone16,2", 6.5, 26), ("iPhone17,3", 6.0, 26),
    ("iPhone17,1", 4.5, 26), ("iPhone17,2", 4.5, 26), ("iPhone18,3", 2.5, 26), ("iPhone18,2", 2.0, 26),
    ("iPad7,11", 1.0, 18), ("iPad12,1", 2.0, 26), ("iPad13,4", 1.2, 26), ("iPad13,18", 1.5, 26),
    ("iPad14,1", 0.8, 26), ("iPad16,3", 0.8, 26), ("iPod9,1", 0.4, 15),
)  # fmt: skip
"""Model identifier, weight, newest major iOS it runs."""

SYSTEMS = {15: ("15.8.4",), 16: ("16.7.11", "16.7.2"), 17: ("17.7.2", "17.6.1"), 18: ("18.7.1", "18.6.2", "18.5"), 26: ("26.1", "26.0.1")}
MAJORS = tuple(SYSTEMS)

COUNTRIES: tuple[tuple[str, float, int, tuple[str, ...], tuple[tuple[str, str], ...]], ...] = (
    ("US", 24, -300, ("en_US", "en_US", "es_US"), (("NY", "New York"), ("MA", "Boston"), ("FL", "Miami"))),
    ("US", 12, -480, ("en_US", "en_US", "es_US"), (("CA", "San Francisco"), ("CA", "Los Angeles"), ("WA", "Seattle"))),
    ("GB", 9, 0, ("en_GB",), (("ENG", "London"), ("ENG", "Leeds"), ("SCT", "Glasgow"))),
    ("DE", 9, 60, ("de_DE", "de_DE", "tr_DE"), (("BE", "Berlin"), ("BY", "München"), ("HH", "Hamburg"))),
    ("FR", 7, 60, ("fr_FR",), (("IDF", "Paris"), ("ARA", "Lyon"))),
    ("ES", 4, 60, ("es_ES", "ca_ES"), (("MD", "Madrid"), ("CT", "Barcelona"))),
    ("SE", 2, 60, ("sv_SE",), (("AB", "Stockholm"), ("O", "Göteborg"))),
    ("PL", 3, 60, ("pl_PL",), (("14", "Warszawa"), ("12", "Kraków"))),
    ("BR", 5, -180, ("pt_BR",), (("SP", "São Paulo"), ("RJ", "Rio de Janeiro"))),
    ("MX", 3, -360, ("es_MX",), (("CMX", "Ciudad de México"), ("JAL", "Guadalajara"))),
    ("CA", 4, -300, ("en_CA", "fr_CA"), (("ON", "Toronto"), ("QC", "Montréal"))),
    ("IN", 5, 330, ("en_IN", "hi_IN"), (("MH", "Mumbai"), ("KA", "Bengaluru"))),
    ("JP", 9, 540, ("ja_JP",), (("13", "東京"), ("27", "大阪"))),
    ("AU", 4, 600, ("en_AU",), (("NSW", "Sydney"), ("VIC", "Melbourne"))),
)
"""Country, weight, minutes east of UTC, locales, cities with their region."""

_DEVICE_WEIGHTS = tuple(accumulate(weight for _, weight, _ in DEVICES))
_COUNTRY_WEIGHTS = tuple(accumulate(country[1] for country in COUNTRIES))

RELEASE_EVERY_US = 14 * DAY_US
FIRST_RELEASE_US = 1_577_836_800_000_000  # 2020-01-01
RELEASES_A_MAJOR = 26
MEAN_ADOPTION_DAYS = 6.0


@dataclass(frozen=True, slots=True)
class User:
    """One person with one device."""

    user_id: str
    device_info: dict[str, str]
    geo_location: dict[str, str]
    offset_minutes: int
    adoption_us: int

    def app_version(self, at_us: int) -> str:
        """The app's version on this device: a release every two weeks, taken up after the user's own delay."""
        release = max(0, (at_us - FIRST_RELEASE_US - self.adoption_us) // RELEASE_EVERY_US)
        major, minor = divmod(release, RELEASES_A_MAJOR)
        return f"{major + 1}.{minor}.0"

    def awake(self, at_us: int) -> float:
        """Chance that the user is up for a visit at this instant."""
        return AWAKE[(at_us + self.offset_minutes * MINUTE_US) % DAY_US // HOUR_US]


def user(seed: int, number: int) -> User:
    """User `number` of the population of `seed`."""
    rng = stream(seed, "user", number)
    model, _, newest = DEVICES[bisect(_DEVICE_WEIGHTS, rng.random() * _DEVICE_WEIGHTS[-1])]
    country, _, offset_minutes, locales, cities = COUNTRIES[bisect(_COUNTRY_WEIGHTS, rng.random() * _COUNTRY_WEIGHTS[-1])]
    major = newest if rng.random() < 0.8 else MAJORS[max(0, MAJORS.index(newest) - 1)]
    region, city = rng.choice(cities)
    device = {
        "device_type": model.rstrip("0123456789,"),
        "model": model,
        "os_version": rng.choice(SYSTEMS[major]),
        "locale": rng.choice(locales),
    }
    place = {"country": country, "region": region, "city": city}
    if rng.random() < 0.1:
        del device["device_type"]
    if rng.random() < 0.1:
        del place["region"], place["city"]
    return User(f"u-{uuid(rng)}", device, place, offset_minutes, int(rng.expovariate(1 / MEAN_ADOPTION_DAYS) * DAY_US))
