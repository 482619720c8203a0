"""What one visit to the app looks like: a pure generator of timed interactions along the app's screens.

How many visits there are and who makes them is decided in `traffic`; the bytes are made in `wire`.
"""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from enum import Enum
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from engagement.stack.simulator.chance import uuid
from engagement.stack.simulator.population import MINUTE_US

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

SCREENS: dict[str, tuple[tuple[str, float], ...]] = {
    "Home": (("Search", 4), ("Category", 4), ("Product", 3), ("Profile", 1.5), ("Cart", 1)),
    "Search": (("Product", 6), ("Search", 2), ("Home", 2)),
    "Category": (("Product", 6), ("Category", 2), ("Home", 2)),
    "Product": (("Product", 3), ("Reviews", 2), ("Cart", 2), ("Search", 2), ("Home", 1)),
    "Reviews": (("Product", 8), ("Home", 1)),
    "Cart": (("Checkout", 4), ("Product", 3), ("Home", 2)),
    "Checkout": (("OrderConfirmation", 6), ("Cart", 3)),
    "OrderConfirmation": (("Home", 7), ("Orders", 2)),
    "Profile": (("Orders", 4), ("Settings", 3), ("Home", 4)),
    "Orders": (("Product", 2), ("Profile", 3), ("Home", 2)),
    "Settings": (("Profile", 5), ("Home", 3)),
}
ELEMENTS = {
    "Home": ("banner", "recommendation", "search_field"), "Search": ("filter", "result", "clear"), "Category": ("tile", "sort"),
    "Product": ("add_to_cart", "favourite", "share", "size"), "Reviews": ("helpful", "photo"), "Cart": ("plus", "minus", "remove"),
    "Checkout": ("apple_pay", "address", "place_order"), "OrderConfirmation": ("track",), "Profile": ("avatar", "edit"),
    "Orders": ("order", "return"), "Settings": ("notifications", "dark_mode", "sign_out"),
}  # fmt: skip
CAMPAIGNS = ("price_drop", "back_in_stock", "order_shipped", "weekly_picks", "cart_reminder")
_NEXT = {screen: (tuple(name for name, _ in ways), tuple(accumulate(weight for _, weight in ways))) for screen, ways in SCREENS.items()}


class Kind(Enum):
    """Kinds of visit."""

    GLANCE = "a push message seen on the lock screen and left alone"
    BOUNCE = "opened, one screen, gone"
    WANDER = "left open for hours with a touch now and then"
    NEWCOMER = "the first visit, with the install"
    BROWSE = "the usual one"


SHARES = {Kind.GLANCE: 0.12, Kind.BOUNCE: 0.2, Kind.WANDER: 0.015, Kind.NEWCOMER: 0.02, Kind.BROWSE: 0.645}
_KINDS, _KIND_WEIGHTS = tuple(SHARES), tuple(accumulate(SHARES.values()))
PUSH_OPENED = 0.15
BANNER_CLICKED = 0.25
"""Share of messages shown inside the app that the next touch opens."""

SAYS_GOODBYE = 0.9
"""Share of visits that end with session_end; the others are killed by iOS."""

NATURAL_BODY = 20.0
NATURAL_GAP_US = 6_000_000
WANDER_BODY, WANDER_GAP_US = (25, 60), 4 * MINUTE_US
LONGEST_WANDER_GAP_US = 25 * MINUTE_US
VISITS_A_DAY = 10.0
HOURS_A_DAY = 5.0
AT_ONCE = 100
"""So many visits are under way at least (where the rate allows), else a small population is loud and silent by turns."""


@dataclass(frozen=True, slots=True)
class Rhythm:
    """How long a usual visit is and how fast it goes."""

    body: float
    gap_us: int

    @staticmethod
    def of(rate: float, users: int) -> Rhythm:
        """The rhythm in which so many users make so many events a second.

        A person makes at most some ten visits in at most some five hours a day; a small population under a high
        rate therefore gets longer visits, then faster ones, and only a tiny one visits with several devices at once.
        With more visits instead, every user would be one endless session.
        """
        daily = rate / users * 86_400
        usual = SHARES[Kind.BROWSE] + SHARES[Kind.NEWCOMER]
        unscaled = Rhythm(0.0, NATURAL_GAP_US).mean_events
        body = max(NATURAL_BODY, (daily / VISITS_A_DAY - unscaled) / usual)
        gap_us = max(HOURS_A_DAY * 3_600_000_000 / daily, AT_ONCE * 1_000_000 / rate)
        return Rhythm(body, int(min(NATURAL_GAP_US, max(1, gap_us))))

    @property
    def lasts_us(self) -> float:
        """Mean length of a usual visit."""
        return self.body * self.gap_us

    @property
    def mean_events(self) -> float:
        """Mean number of events of a visit of any kind; traffic divides the rate by it."""
        frame = 1 + SAYS_GOODBYE
        push = PUSH_OPENED * 2
        sizes = {
            Kind.GLANCE: 1.0,
            Kind.BOUNCE: frame + push + 1,
            Kind.WANDER: frame + push + sum(WANDER_BODY) / 2,
            Kind.NEWCOMER: frame + 1 + self.body,
            Kind.BROWSE: frame + push + self.body,
        }
        return sum(SHARES[kind] * size for kind, size in sizes.items())


@dataclass(frozen=True, slots=True)
class Plan:
    """A visit before it happens. `body` counts the interactions between session_start and session_end."""

    kind: Kind
    body: int
    gap_us: int
    by_push: bool = False
    under_way: bool = False

    @property
    def lasts_us(self) -> int:
        """About how long it takes."""
        return self.body * self.gap_us

    def after(self, elapsed_us: int) -> Plan | None:
        """What is left of it so much later, None where it is over."""
        left = self.body - elapsed_us // self.gap_us
        return replace(self, body=left, under_way=True) if left > 0 else None


def plan(rng: Random, rhythm: Rhythm) -> Plan:
    """Draw a visit."""
    kind = _KINDS[min(bisect(_KIND_WEIGHTS, rng.random()), len(_KINDS) - 1)]
    by_push = kind is not Kind.NEWCOMER and rng.random() < PUSH_OPENED
    match kind:
        case Kind.GLANCE:
            return Plan(kind, 0, rhythm.gap_us)
        case Kind.BOUNCE:
            return Plan(kind, 1, rhythm.gap_us, by_push)
        case Kind.WANDER:
            return Plan(kind, rng.randint(*WANDER_BODY), WANDER_GAP_US, by_push)
        case _:
            return Plan(kind, 1 + int(rng.expovariate(1 / (rhythm.body - 0.5))), rhythm.gap_us, by_push)


class Happening(NamedTuple):
    """One interaction; `properties` belongs to whoever takes it."""

    at_us: int
    event_type: str
    properties: dict[str, Any]


def visit(rng: Random, planned: Plan, at_us: int) -> Iterator[Happening]:
    """The planned visit from `at_us` on, in order of time."""
    if planned.kind is Kind.GLANCE:
        yield Happening(at_us, "view_notification", _notification(rng))
        return
    if not planned.under_way:
        if planned.kind is Kind.NEWCOMER:
            yield Happening(at_us, "install", {"source": rng.choice(("app_store", "search_ads", "referral"))})
            at_us += _pause(rng, planned.gap_us)
        if planned.by_push:
            message = _notification(rng)
            yield Happening(at_us, "view_notification", message)
            at_us += _pause(rng, planned.gap_us)
            yield Happening(at_us, "click_notification", dict(message))
            at_us += rng.randint(100_000, 900_000)
        yield Happening(at_us, "session_start", {"source": "push" if planned.by_push else "icon"})
        at_us += rng.randint(50_000, 800_000)
    longest = LONGEST_WANDER_GAP_US if planned.kind is Kind.WANDER else 10 * planned.gap_us
    for happening in _interactions(rng, planned, at_us, longest):
        at_us = happening.at_us
        yield happening
    if rng.random() < SAYS_GOODBYE:
        yield Happening(at_us + min(longest, _pause(rng, planned.gap_us)), "session_end", {"reason": "background"})


def _interactions(rng: Random, planned: Plan, at_us: int, longest_us: int) -> Iterator[Happening]:
    screen, previous = ("Product" if planned.by_push else "Home"), None
    banner: dict[str, Any] | None = None
    for step in range(planned.body):
        lot = rng.random()
        if step == 0:
            yield Happening(at_us, "screen_view", {"screen": screen, "previous_screen": None})
        elif banner is not None and lot < BANNER_CLICKED:
            yield Happening(at_us, "click_notification", banner)
        elif lot < 0.4:
            names, weights = _NEXT[screen]
            previous, screen = screen, names[bisect(weights, rng.random() * weights[-1])]
            yield Happening(at_us, "screen_view", {"screen": screen, "previous_screen": previous})
        elif lot < 0.78:
            elements = ELEMENTS[screen]
            yield Happening(at_us, "tap", {"screen": screen, "element": elements[int(rng.random() * len(elements))]})
        elif lot < 0.97:
            yield Happening(at_us, "swipe", {"screen": screen, "direction": "up" if lot < 0.92 else "left"})
        else:
            banner = _notification(rng) | {"screen": screen}
            yield Happening(at_us, "view_notification", dict(banner))
        if lot < 0.97:
            banner = None
        at_us += min(longest_us, _pause(rng, planned.gap_us))


def _pause(rng: Random, mean_us: int) -> int:
    return int(rng.expovariate(1 / mean_us)) + 1


def _notification(rng: Random) -> dict[str, Any]:
    return {"notification_id": uuid(rng), "campaign": rng.choice(CAMPAIGNS)}
