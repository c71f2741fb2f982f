"""Who may refer, in which format, and what that format can say: by hand, from docs/partners."""

from dataclasses import dataclass
from typing import Literal

Format = Literal["bars", "form", "hl7", "csv"]


@dataclass(frozen=True)
class Way:
    """A partner's way in. `practice`: the organisation that asks. `asker`: who asks, as the form calls them."""

    source: str
    partner: str
    format: Format
    practice: str = ""
    form: str = ""
    asker: str = ""
    over_http: bool = False


COUNCILS = (
    "blaby",
    "charnwood",
    "harborough",
    "hinckley-bosworth",
    "melton",
    "nw-leicestershire",
    "oadby-wigston",
)

WAYS = (
    Way("gp", "gp-alder-lane", "bars", "C82991"),
    Way("gp", "gp-alder-lane", "bars", "C82991"),
    Way("gp", "gp-brook-street", "bars", "C82992"),
    Way("gp", "gp-castle-view", "bars", "C82993"),
    Way("first-contact", "first-contact", "bars", "C82992"),
    Way("first-contact", "first-contact", "form", "C82991", "first-contact-plus", "gp"),
    Way("first-contact", "first-contact", "form", "C82993", "first-contact-plus", "gp"),
    Way("first-contact", "first-contact", "form", "", "first-contact-plus", "self"),
    Way("customer-service", "customer-service", "form", "", "customer-service", "family"),
    Way("customer-service", "customer-service", "form", "", "customer-service", "customer-service"),
    Way("customer-service", "customer-service", "form", "C82991", "customer-service", "clinician"),
    Way("neighbourhood", "neighbourhood-teams", "form", "", "neighbourhood", "coordinator"),
    Way("neighbourhood", "neighbourhood-teams", "form", "C82992", "neighbourhood", "clinician"),
    Way("neighbourhood", "neighbourhood-teams", "form", "", "neighbourhood", "other"),
    Way("website", "lightbulb-website", "form", "", "self", "self"),
    Way("website", "lightbulb-website", "form", "", "self", "carer"),
    Way("discharge-form", "uhl", "form", "", "hospital-discharge", "hospital-team"),
    Way("discharge-form", "lpt", "form", "", "hospital-discharge", "hospital-team"),
    Way("ward-uhl", "uhl", "hl7", "RWE"),
    Way("ward-uhl", "uhl", "hl7", "RWE"),
    Way("ward-uhl", "uhl", "hl7", "RWE", over_http=True),
    Way("ward-lpt", "lpt", "hl7", "RT5"),
    Way("ward-lpt", "lpt", "hl7", "RT5"),
    Way("ward-lpt", "lpt", "hl7", "RT5", over_http=True),
    *(Way("council", f"council-{council}", "csv") for council in COUNCILS),
)
"""What is there twice is drawn twice as often."""

SOURCES = tuple(dict.fromkeys(way.source for way in WAYS))
PAIRS = (
    *((one, other) for one in SOURCES for other in SOURCES if one != other),
    ("gp", "gp"),
    ("council", "council"),
)
"""Two sources for one person, in both orders."""

UNTIMED = frozenset({"charnwood", "hinckley-bosworth", "melton", "oadby-wigston"})
"""Councils whose rows do not say when they were changed: whatever comes last holds, be it older."""

DATED = frozenset({"charnwood", "nw-leicestershire", "oadby-wigston"})
"""Councils that say on which day they referred. Where two sources give two districts, the earliest day decides between them."""

NEVER_CANCEL = frozenset({"harborough", "melton"})
"""Councils whose rows have neither a status nor a person's own yes or no."""


def council(partner: str) -> str:
    return partner.removeprefix("council-")


def has_time(partner: str) -> bool:
    """Whether an older message is told from a newer one by its sender's own time."""
    return council(partner) not in UNTIMED


def can_cancel(partner: str) -> bool:
    return council(partner) not in NEVER_CANCEL


def can_conflict(way_format: str) -> bool:
    """A form with the same reference and other content is a newer form; the others name a message or refuse a second beginning."""
    return way_format != "form"
